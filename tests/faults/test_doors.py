"""Odd input and odd surroundings: each is answered with a sentence, or simply works."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

import vsml_bench
from tests.asking import ask
from tests.harness import LEARNER, Outcome, call, install, refusal, write
from vsml_bench import cards, cli, paths, provenance, registry
from vsml_bench.errors import VsmlBenchError

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

LONGEST = 500
SUITE = (
    'description = "t"\nsplits = ["digits-to-random"]\nlearners = ["chance"]\n'
    "lifetimes = 2\nsteps = 30\n"
)


def short_refusal(outcome: Outcome) -> str:
    said = refusal(outcome)
    assert len(said) < LONGEST and outcome.out == ""
    return said


@pytest.mark.parametrize(
    "text",
    [
        SUITE + "options = " + "[" * 9_000 + "]" * 9_000,
        SUITE + "[" + ".".join("a" * 9_000) + "]\nx = 1",
        SUITE.replace("steps = 30", "steps = " + "9" * 5_000),
        SUITE.replace("digits-to-random", r"a\u0000b.toml"),
        SUITE.replace("digits-to-random", "s" * 300 + ".toml"),
        SUITE + "x = '" + "y" * 1_000_000,
        SUITE.replace("chance", r"a\u0000b"),
        SUITE + "x" * 1_000_000 + " = 1",
        SUITE.replace("digits-to-random", "s" * 100_000),
        SUITE.replace("lifetimes = 2", "lifetimes = 1000000000"),
        'name = "../../X"\n' + SUITE,
    ],
    ids=lambda text: f"{text[:12]}-{len(text)}",
)
def test_files_that_nobody_means(tmp_path: Path, text: str) -> None:
    short_refusal(call("plan", "--suite", write(tmp_path / "my.toml", text)))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_bytes(b"\xef\xbb\xbf" + SUITE.encode())
    assert call("plan", "--suite", tmp_path / "my.toml").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--suite", "x" * 300 + ".toml"],
        ["plan", "--suite", "\udcff.toml"],
        ["explain", "x" * 100_000],
        ["plan", "--suite", "x" * 100_000],
        ["plan", "--suite", "smoke", "--learner", "\udcff"],
        ["plan", "--suite", "smoke", "--data-root", "~nobody-of-this-name/x"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_arguments_that_nobody_means(arguments: list[str]) -> None:
    short_refusal(call(*arguments))


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or f"{Path.home()}/.cache"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "s.toml", SUITE)
    call("leaderboard", "--suite", tmp_path / "s.toml", "--results=~/x", "--write")
    assert not Path("~").exists() and (tmp_path / "home/x/board.md").is_file()


VERBS = (["list", "suites"], ["leaderboard", "--suite", "smoke"])


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize(
    "stream",
    [">&-", ">/dev/full", "2>&-"],
)
def test_streams_that_cannot_be_written(verb: list[str], stream: str) -> None:
    command = " ".join([sys.executable, "-m", "vsml_bench", *verb, stream])
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=_environment())
    assert "Traceback" not in done.stderr and len(done.stderr) < LONGEST
    assert done.returncode == (0 if stream == "2>&-" else 2)


def test_a_terminal_that_knows_ascii_only() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vsml_bench", *VERBS[1]],
        capture_output=True,
        text=True,
        env={**_environment(), "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)}


@pytest.mark.parametrize("module", ["random", "tabulate"])
def test_modules_of_the_working_folder_are_left_alone(tmp_path: Path, module: str) -> None:
    write(tmp_path / f"{module}.py", "raise SystemExit('not meant to be imported')\n")
    done = subprocess.run(
        [sys.executable, "-m", "vsml_bench", "list", "suites"],
        capture_output=True,
        text=True,
        env=_environment(),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for command in (["list", "suites"], ["plan", "--suite", "smoke", "--learner", "chance"]):
        assert call(*command).code == 0


LITTER = {
    "dangling link": lambda place: place.symlink_to("/nowhere/at/all"),
    "._ file": lambda place: place.with_name(f"._{place.name}").write_bytes(b"\0\5\x16\7\0"),
    "editor's lock": lambda place: place.with_name(f".#{place.name}").symlink_to("me@host.17"),
    "broken": lambda place: place.write_text("this is (neither TOML = nor Python"),
}


@pytest.mark.parametrize("litter", LITTER)
@pytest.mark.parametrize("folder", ["tasks/suites", "baselines"])
def test_one_odd_file_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, litter: str
) -> None:
    for name in ("tasks", "baselines"):
        shutil.copytree(paths.home() / name, tmp_path / name)
        monkeypatch.setattr(paths, name, lambda name=name: tmp_path / name)
    ending = "py" if folder == "baselines" else "toml"
    LITTER[litter](tmp_path / folder / f"zz.{ending}")
    if folder == "baselines":
        cards.own_code.__wrapped__()  # what every verb that names learners begins with
        assert "ridge" in registry.learners()
    else:
        listed = call("list", "suites")
        assert listed.code == 0 and "desk" in listed.out


@pytest.mark.parametrize(
    ("group", "command"),
    [
        ("protocols", ["list", "learners"]),
        ("datasets", ["data"]),
        ("columns", ["leaderboard", "--suite", "smoke"]),
        ("formats", ["leaderboard", "--suite", "smoke"]),
        ("studies", ["leaderboard", "--suite", "smoke"]),
        ("learners", ["plan", "--suite", "smoke"]),
    ],
)
def test_one_bad_plug_in_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, command: list[str]
) -> None:
    monkeypatch.syspath_prepend(
        str(
            install(
                tmp_path,
                "bad_plug_in",
                "import not_there_at_all\n",
                **{group: "bad = bad_plug_in:X"},
            )
        )
    )
    monkeypatch.setattr(cards, "_ask", ask)
    outcome = call(*command)
    assert outcome.code == 0 and outcome.out, outcome.err


NAMES = (
    *(
        "../../X",
        "a/b",
        "",
        ".",
        "..",
        "x" * 300,
        "x" * 246,
        "a\0b",
        "\x1b[31mred",
        "a\nb",
        "\ud800",
    ),
    *("![x](javascript:x)", "=cmd()", "+1", "a|b", "<script>", "`x`", " x"),
)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20] + str(len(name)))
def test_names_that_boards_and_folders_must_not_show(tmp_path: Path, name: str) -> None:
    text = f"{LEARNER}\nclass Mine(Base):\n    variants = {{{name!r}: Config('')}}\n"
    with pytest.raises(VsmlBenchError, match="name") as refused:
        registry.find_learners(str(write(tmp_path / "mine.py", text)))
    assert str(refused.value).isascii() and len(str(refused.value)) < LONGEST


@pytest.mark.parametrize("text", ["", "x = 1\n", f"{LEARNER}\n"], ids=["empty", "x", "a base"])
@pytest.mark.parametrize("verb", ["check", "plan"])
def test_a_file_without_a_learner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, text: str
) -> None:
    monkeypatch.setattr(cards, "_ask", ask)
    file = write(tmp_path / "mine.py", text)
    command = (
        ["check", file] if verb == "check" else ["plan", "--suite", "smoke", "--learner", file]
    )
    assert "mine.py defines no learner" in short_refusal(call(*command))


def test_a_helper_beside_a_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the working folder is."""
    write(tmp_path / "beside.py", "def f():\n    return ''\n")
    mine = "class Mine(Base):\n    variants = {'a': Config(f())}\n"
    text = f"{LEARNER}\nfrom beside import f\n\n{mine}"
    monkeypatch.setattr(cards, "_ask", ask)
    learner = write(tmp_path / "mine.py", text)
    assert call("plan", "--suite", "smoke", "--learner", learner).code == 0


SCRIPT = """
import sys
import vsml_bench

print(vsml_bench.run(sys.argv[1], jobs=1, progress=False).failed)
"""


def test_a_script_without_a_guard_beside_a_file_called_like_a_module(tmp_path: Path) -> None:
    """Neither do processes that are started run it again, nor is enum.py imported."""
    suite = write(tmp_path / "here/t.toml", SUITE)
    write(tmp_path / "here/enum.py", "raise SystemExit('not meant to be imported')\n")
    script = write(tmp_path / "elsewhere/script.py", SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(suite)],
        capture_output=True,
        text=True,
        env=_environment(),
        cwd=tmp_path / "here",
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_functions_are_listed() -> None:
    assert set(vsml_bench.__all__) <= set(dir(vsml_bench))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("check", {"learner": dict}),
        ("run", {"suite": {"splits": []}}),
        ("leaderboard", {"suite": "smoke", "learners": "chance"}),
        ("leaderboard", {"suite": "smoke", "seeds": 0}),
    ],
    ids=str,
)
def test_arguments_of_another_type_in_python(function: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(VsmlBenchError, match=r"expected|list"):
        getattr(vsml_bench, function)(**arguments)


def _verbs() -> list[str]:
    parser = cli.build_parser()
    (choices,) = [action.choices for action in parser._actions if action.dest == "verb"]
    assert choices is not None
    return list(choices)


@pytest.mark.parametrize("verb", _verbs())
def test_every_verb_prints_json(verb: str) -> None:
    assert "--json" in call(verb, "--help").out


@pytest.mark.parametrize(("verb", "meant"), [("lists", "list"), ("leaderbord", "leaderboard")])
def test_a_verb_that_is_nearly_one(verb: str, meant: str) -> None:
    assert f"did you mean '{meant}'?" in call(verb).err


@pytest.mark.parametrize("option", ["--results", "--suite", "--format"])
def test_an_option_given_twice_is_refused(option: str) -> None:
    one = {"--suite": "smoke", "--format": "csv"}.get(option, "a")
    command = ["leaderboard", "--suite", "smoke"] if option != "--suite" else ["leaderboard"]
    assert option in call(*command, option, one, option, one).err


def test_verify_outside_the_repository() -> None:
    outcome = call("verify", "--help")
    assert outcome.code == 0
    assert "published" in outcome.out


def test_neither_a_home_nor_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> NoReturn:
        raise KeyError(uid)

    for name in ("HOME", "USER", "LOGNAME", "USERNAME", "LNAME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert provenance.scrub("/a/b") == "b"
    assert call("data").code == 0
