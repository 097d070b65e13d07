"""Sides, splits and suites of a user's own, and what is said of wrong ones."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from tests.harness import LEARNER, call
from vsml_bench import paths
from vsml_bench.config import as_plain, compact
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.storage import canonical_json
from vsml_bench.suites import Suite, find_split, find_suite, splits_of

SPLIT = """
description = "x"
relation = "unseen_tasks"
meta_train = "train/digits"
meta_test = "test/digits"
"""
SIDES = """
[plain]
description = "as they are"
like = "test/digits"

[noisy]
like = "mine.toml:plain"
label_noise = 0.5

[both]
datasets = ["digits", "random"]
partition = "train"
size = 8
"""
SUITE = """
description = "a user's own"
learners = ["mine.py", "chance"]
lifetimes = 2
steps = 20

[[grid]]
name = "own/{meta_train}-to-{meta_test}"
description = "From {meta_train} to {meta_test}."
relation = "unseen_dataset"
relation_if_seen = "unseen_tasks"
meta_train = ["train/digits", "mine.toml:both"]
meta_test = ["mine.toml:plain", "test/random-8"]

[[grid]]
name = "own/{meta_test}"
relation = "unseen_tasks"
unchanged = "own/digits-to-plain"
meta_train = ["train/digits"]
meta_test = ["mine.toml:noisy"]
"""
MINE = LEARNER + '\n\nclass Mine(Base):\n    variants = {"mine": Config("")}\n'


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a user's suite and the files that it names; it is not the working folder."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name, text in (("suite.toml", SUITE), ("mine.toml", SIDES), ("mine.py", MINE)):
        (folder / name).write_text(text)
    return folder


def test_a_users_suite_is_found_from_anywhere(own: Path) -> None:
    suite = find_suite(str(own / "suite.toml"))
    assert suite.name == "suite" and suite.learners == (str(own / "mine.py"), "chance")
    splits = {split.name: split for split in splits_of(suite)}
    assert list(splits) == [
        *("own/digits-to-plain", "own/digits-to-random-8"),
        *("own/both-to-plain", "own/both-to-random-8", "own/noisy"),
    ]
    relations = [split.relation for split in splits.values()]
    assert relations == ["unseen_tasks", "unseen_dataset", *["unseen_tasks"] * 3]
    assert splits["own/both-to-plain"].description == "From digits, random to as they are."
    assert splits["own/noisy"].description == "digits"
    noisy = splits["own/noisy"]
    assert noisy.meta_test.label_noise == 0.5 and noisy.meta_test.datasets == ("digits",)
    assert find_split(noisy.unchanged) == splits["own/digits-to-plain"]
    only = [str(own / "suite.toml:own/noisy"), "own/digits-to-plain", "own/noisy"]
    assert [split.name for split in splits_of(suite, only)] == ["own/noisy", "own/digits-to-plain"]


def test_a_users_suite_can_be_planned_and_explained(own: Path) -> None:
    planned = call("plan", "--suite", own / "suite.toml", "--split", "own/noisy", "--json")
    assert planned.code == 0, planned.err
    assert [row["learner"] for row in planned.json["learners"]] == ["mine", "chance"]
    for name in ("paper/mnist-to-kmnist", f"{own / 'suite.toml'}:own/both-to-plain"):
        shown = call("explain", name)
        assert shown.code == 0 and "relation" in shown.out, shown.err
    assert "paper/mnist-to-kmnist" in call("list", "splits").out


def test_what_a_file_names_is_looked_for_beside_it_first(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (own / "s.toml").write_text(
        'description = ""\nsplits = ["a.toml", "b.toml"]\nlearners = ["a.py:A", "b.py"]\n'
    )
    for folder, names in ((own, "a"), (here, "ab")):
        for name in names:
            (folder / f"{name}.toml").write_text(SPLIT.replace('"x"', f'"{folder.name}"'))
            (folder / f"{name}.py").write_text("")
    suite = find_suite("../own/s.toml")
    assert suite.learners == (f"{own / 'a.py'}:A", str(here / "b.py"))
    assert [find_split(split).description for split in suite.splits] == ["own", "here"]
    (here / "b.toml").unlink()
    with pytest.raises(VsmlBenchError, match=r"s\.toml: splits: b\.toml does not exist") as refusal:
        find_suite("../own/s.toml")
    assert f"neither in {own} nor in the working folder" in str(refusal.value)


@pytest.mark.parametrize("given", ["points.csv", "./points/", "data.py:Points", "{own}/points.csv"])
def test_datasets_by_path_leave_no_path_in_what_is_stored(own: Path, given: str) -> None:
    given = given.format(own=own)
    table = f'datasets = ["digits", "{given}"]\npartition = "test"\n'
    (own / "mine.toml").write_text(f"[here]\n{table}\n[like]\nlike = 'mine.toml:here'\nsize = 9\n")
    text = SPLIT.replace('"test/digits"', '"mine.toml:like"')
    (own / "split.toml").write_text(text)
    side = pickle.loads(pickle.dumps(find_split(str(own / "split.toml")).meta_test))
    name = side.datasets[1]
    assert name == (given if not given.startswith("/") else "points.csv") and side.size == 9
    for stored in (compact(side), as_plain(side)):
        assert str(own) not in canonical_json(stored) and "locations" not in stored
    assert side.location("digits") == "digits"
    with pytest.raises(UnavailableError, match=f"does not exist: it is neither in {own} nor"):
        side.location(name)
    (own / "points").mkdir()
    for file in ("points.csv", "data.py"):
        (own / file).write_text("")
    file, inside = paths.parts(side.location(name))
    assert Path(file).parent == own and inside == ("Points" if ":" in given else "")


def test_two_datasets_of_one_name(own: Path) -> None:
    table = f'datasets = ["{own}/a/x.csv", "{own}/b/x.csv"]\npartition = "test"\n'
    (own / "mine.toml").write_text(f"[here]\n{table}")
    (own / "split.toml").write_text(SPLIT.replace('"test/digits"', '"mine.toml:here"'))
    with pytest.raises(VsmlBenchError, match=r"mine\.toml: datasets: two are called 'x\.csv'"):
        find_split(str(own / "split.toml"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"x"', "3", "description: expected str, found 3"),
        ("relation = ", "relaton = ", "unknown key 'relaton'; did you mean 'relation'"),
        ('"unseen_tasks"', '"similar"', "'similar' is not a choice"),
        ("relation = ", "relation ", "not valid TOML"),
        ('"test/digits"', '"test/digit"', "meta_test: unknown side 'test/digit'; did you mean"),
        ('"test/digits"', '"digits"', "meta_test: unknown side 'digits'; did you mean"),
        ('"test/digits"', '"mine.toml"', "unknown side 'mine.toml'; did you mean 'mine.toml:"),
        ('"test/digits"', '"no.toml:x"', "cannot read no.toml: it is neither in .*/own nor in"),
        ('"test/digits"', "3", "meta_test: expected .*, found 3"),
        ('"test/digits"', '{like = "test/digits", sise = 3}', "meta_test: unknown key 'sise'"),
        ('"test/digits"', '{like = "test/digits", locations = []}', "unknown key 'locations'"),
        ('"test/digits"', '{like = 3, size = 3}', "meta_test: like: expected str, found 3"),
        ('"test/digits"', '{datasets = ["digits"]}', "'partition' is missing"),
        ('"test/digits"', '"mine.toml:mad"', "mine.toml: mad: like: 'mine.toml:mad' would be like"),
    ],
)  # fmt: skip
def test_wrong_splits_are_named(own: Path, old: str, new: str, words: str) -> None:
    (own / "mine.toml").write_text(SIDES + '\n[mad]\nlike = "mine.toml:mad"\n')
    (own / "split.toml").write_text(SPLIT)
    assert find_split(str(own / "split.toml")).relation == "unseen_tasks"
    assert SPLIT.count(old) == 1
    (own / "split.toml").write_text(SPLIT.replace(old, new))
    with pytest.raises(VsmlBenchError, match=words) as refusal:
        find_split(str(own / "split.toml"))
    assert str(refusal.value).count(".toml") and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("own/{meta_train}-to", "own/to", "grid: name: two splits are called 'own/to-plain'"),
        ('"test/random-8"', '"test/random-9"', "meta_test: unknown side 'test/random-9'; did you"),
        ('"unseen_dataset"', '"unseen"', r"grid\[0\]: relation: 'unseen' is not a choice"),
        ("relation_if_seen", "relation_seen", "did you mean 'relation_if_seen'"),
        ("[[grid]]", "[grid]", "not valid TOML"),
    ],
)
def test_wrong_grids_are_named(own: Path, old: str, new: str, words: str) -> None:
    (own / "suite.toml").write_text(SUITE.replace(old, new, 1))
    with pytest.raises(VsmlBenchError, match=rf"suite\.toml.*{words}"):
        splits_of(find_suite(str(own / "suite.toml")))


@pytest.mark.parametrize("taken", ["paper/mnist-to-mnist", "digits-held-out"])
def test_no_split_is_stated_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    tasks = tmp_path / "tasks"
    for file in paths.tasks().rglob("*.toml"):
        copy = tasks / file.relative_to(paths.tasks())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(paths, "tasks", lambda: tasks)
    assert find_split("robustness/size-14").meta_test.size == 14
    text = SUITE.replace("own/{meta_train}-to-{meta_test}", taken).replace(
        '["train/digits", "mine.toml:both"]', '["train/digits"]'
    )
    text = text.replace('["mine.toml:plain", "test/random-8"]', '["test/digits"]')
    (tasks / "suites/zz.toml").write_text(text)
    with pytest.raises(VsmlBenchError, match=rf"zz\.toml: grid: there is a split '{taken}' alr"):
        find_split("robustness/size-14")


def test_two_splits_of_one_name_in_a_suite(own: Path) -> None:
    (own / "digits-held-out.toml").write_text(SPLIT)
    suite = Suite("s", "", ("chance",), ("digits-held-out", f"{own}/digits-held-out.toml"))
    with pytest.raises(VsmlBenchError, match="splits: two are called 'digits-held-out'"):
        splits_of(suite)


def test_the_guides_examples_are_read(tmp_path: Path) -> None:
    guide = Path(__file__).parent.parent.joinpath("CONTRIBUTING.md").read_text("utf-8")
    for name, text in re.findall(r"```toml\n# my/(\w+\.toml)\n(.*?)```", guide, re.DOTALL):
        (tmp_path / name).write_text(text)
    first, *others = splits_of(find_suite(f"{tmp_path}/suite.toml"))
    assert (first.name, first.meta_test.size) == ("split", 56)
    names = [f"mine/{a}-to-{b}" for a in ("mnist5k", "kmnist") for b in ("inverted", "noisy")]
    assert [split.name for split in others] == names
    assert others[0].description == (
        "Meta-trained on mnist5k; meta-tested on dark digits on bright ground."
    )
    assert [s.relation for s in others] == ["unseen_tasks"] * 2 + ["unseen_dataset"] * 2


@pytest.mark.parametrize(
    ("find", "name", "hint"),
    [
        (find_split, "mnist5k-heldout", "did you mean 'mnist5k-held-out'?"),
        (find_split, "paper/mnist-to-kmnit", "did you mean 'paper/mnist-to-kmnist'?"),
        (find_suite, "dsek", "unknown suite 'dsek'; did you mean 'desk'?"),
    ],
)
def test_unknown_names_are_answered_with_the_closest(find, name, hint) -> None:
    with pytest.raises(VsmlBenchError, match=hint.replace("?", r"\?")):
        find(name)


def test_unknown_splits_of_a_users_suite(own: Path) -> None:
    suite = own / "suite.toml"
    with pytest.raises(VsmlBenchError, match=r"no grid has the split 'own/nois'; did you mean"):
        find_split(f"{suite}:own/nois")
    with pytest.raises(VsmlBenchError, match="has no split 'own/nois'; did you mean 'own/noisy'"):
        splits_of(find_suite(str(suite)), ["own/nois"])


def test_words_and_numbers_of_a_protocols_own(own: Path) -> None:
    text = 'protocol = "mine"\noptions = {window = 3, rate = 0.5, how = "fast", on = true}\n'
    (own / "suite.toml").write_text(text + SUITE)
    suite = find_suite(str(own / "suite.toml"))
    assert suite.protocol == "mine"
    assert suite.options == {"window": 3, "rate": 0.5, "how": "fast", "on": True}
    assert [type(option) for option in suite.options.values()] == [int, float, str, bool]
    (own / "suite.toml").write_text("options = {window = [3]}\n" + SUITE)
    with pytest.raises(VsmlBenchError, match=r"options.window: expected int \| float \| str"):
        find_suite(str(own / "suite.toml"))
