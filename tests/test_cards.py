"""How cards are read, kept, and refused: whatever a learner's file does, the answer is one
sentence, and what is kept is never what is no longer so."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.asking import ask
from tests.harness import LEARNER, call, refusal, write
from vsml_bench import cards
from vsml_bench.errors import VsmlBenchError
from vsml_bench.storage import seal

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

MINE = LEARNER.replace("how: str", "how: str\n    scale: float = 1.0") + (
    'class Mine(Base):\n    variants = {"mine": Config("x"), "other": Config("y")}\n'
)


class Asked:
    """Counts how often a process was asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, reference: str, overrides: object) -> dict[str, object]:
        self.times += 1
        return ask(reference, overrides)  # type: ignore[arg-type]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vsml-bench" / "cards"


@pytest.fixture
def asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    counter = Asked()
    monkeypatch.setattr(cards, "_ask", counter)
    return counter


def test_a_card_is_read_once_and_again_when_something_changed(asked: Asked, tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.py", MINE)
    first = cards.find(str(mine))
    assert [card.name for card in first] == ["mine", "other"]
    assert cards.find(str(mine)) == first and asked.times == 1
    write(tmp_path / "notes.txt", "nothing to import")
    assert cards.find(str(mine)) == first and asked.times == 1
    mine.write_text(MINE.replace("scale: float = 1.0", "scale: float = 2.0"))
    again = cards.find(str(mine))
    assert asked.times == 2 and [card.config["scale"] for card in again] == [2.0, 2.0]


def test_overrides_are_cards_of_their_own(asked: Asked, tmp_path: Path) -> None:
    mine = str(write(tmp_path / "mine.py", MINE))
    found = [
        cards.find(f"{mine}:Mine:mine", overrides)[0].config["scale"]
        for overrides in (None, {"scale": 3.0}, {"scale": 4.0}, {"scale": 3.0})
    ]
    assert found == [1.0, 3.0, 4.0, 3.0] and asked.times == 3
    with pytest.raises(VsmlBenchError, match="unknown key 'scald'; did you mean 'scale'"):
        cards.find(mine, {"scald": 1.0})


def test_a_deleted_file_has_no_card(asked: Asked, tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.py", MINE)
    assert len(cards.find(str(mine))) == 2
    mine.unlink()
    with pytest.raises(VsmlBenchError, match=r"learner file mine\.py does not exist"):
        cards.find(str(mine))


@pytest.mark.parametrize(
    "damaged", [b"", b"{", b"\xff\xfe", b"[]", b'{"cards": []}', seal({"cards": []}), seal({})]
)
def test_a_damaged_cache_is_as_good_as_none(
    asked: Asked, cache: Path, tmp_path: Path, damaged: bytes
) -> None:
    mine = write(tmp_path / "mine.py", MINE)
    first = cards.find(str(mine))
    (kept,) = cache.iterdir()
    kept.write_bytes(damaged)
    assert cards.find(str(mine)) == first
    assert cards.find(str(mine)) == first and asked.times == 2


def test_a_cache_that_cannot_be_written_is_none(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = write(tmp_path / "mine.py", MINE)
    write(tmp_path / "file", "a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cards.find(str(mine)) == cards.find(str(mine)) and asked.times == 2


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("/home/somebody/my.pyrite/mine.py:Mine:mine", "mine.py:Mine:mine"),
        ("mine.py", "mine.py"),
        ("../up/mine.py:Mine", "mine.py:Mine"),
        (r"C:\Users\somebody\mine.py:Mine:mine", "mine.py:Mine:mine"),
        ("package.module:Mine:mine", "package.module:Mine:mine"),
        ("sgd-linear", "sgd-linear"),
    ],
)
def test_what_is_published_names_no_folder(reference: str, name: str) -> None:
    card = cards.unknown(reference, "online")
    assert card.published().reference == name


HOSTILE = {
    "exits": ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
    "exits at once": ("import os\nos._exit(7)\n", "ended with exit code 7"),
    "kills itself": ("import os\nos.kill(os.getpid(), 9)\n", "ended with exit code -9"),
    "interrupts": ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    "raises what is no Exception": (
        "class Odd(BaseException): ...\nraise Odd('so it is')\n",
        "so it is",
    ),
    "loops": ("while True: pass\n", "does a loop never end?"),
    "says much": ("import sys\nsys.stderr.write('x' * 10**6)\nsys.exit(3)\n", "SystemExit: 3"),
}
"""What a learner's file does at import, and what is said of it."""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_ends_its_process_costs_itself_alone(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, words = HOSTILE[name]
    monkeypatch.setattr(cards, "SECONDS", 12.0 if name == "loops" else 300.0)
    mine = write(tmp_path / "mine.py", text + MINE)
    said = refusal(call("explain", str(mine)))
    assert words in said and "mine.py" in said and len(said) < 500
    assert not cache.exists(), "nothing is kept of it"


def test_what_a_file_prints_or_leaves_running_is_no_matter(cache: Path, tmp_path: Path) -> None:
    """The sleeper holds its parent's output open for longer than the test may take."""
    pid = tmp_path / "pid"
    text = (
        "import subprocess\nprint('{\"cards\": []}')\n"
        f"open({str(pid)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\n"
    )
    mine = write(tmp_path / "mine.py", text + MINE)
    try:
        assert [card.name for card in cards.find(str(mine))] == ["mine", "other"]
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_what_external_data_an_author_owns_up_to(asked: Asked, tmp_path: Path) -> None:
    said = '    external_data = "words\\nof <b>"\n'
    mine = write(tmp_path / "mine.py", MINE + said)
    assert [card.external_data for card in cards.find(str(mine))] == ["words of <b>"] * 2
    assert call("explain", f"{mine}:Mine:mine", "--json").json["external_data"] == "words of <b>"
    mine.write_text(MINE)
    assert call("explain", f"{mine}:Mine:mine", "--json").json["external_data"] is None
    mine.write_text(MINE + '    external_data = ["words"]\n')
    assert "external_data: expected a text" in refusal(call("explain", mine))
