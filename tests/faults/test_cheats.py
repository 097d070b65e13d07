"""Learners that cheat, each in one way, beside learners that do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_wrong_learners import FAULTS
from tests.harness import LEARNER, call, write, write_split, write_suite
from vsml_bench import api, paths
from vsml_bench.evaluation import worker
from vsml_bench.evaluation.cell import Cell, load_cells, save_cell
from vsml_bench.evaluation.runner import Setting

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread", "quick_cards")

HEAD = (
    LEARNER
    + """
import inspect
import sys
from pathlib import Path

import numpy
from torch.nn.functional import one_hot


class Counts(Base):
    def init_state(self, lifetimes, shape, generator):
        return Count(torch.zeros(lifetimes), torch.zeros(lifetimes, shape.classes))

    def observe(self, state, labels):
        return state._replace(logits=state.logits + one_hot(labels, state.logits.shape[-1]))


class Remembers(Counts):
    memory = {}

    def recall(self, inputs, logits):
        self.last = [one.numpy().tobytes() for one in inputs]
        found = [self.memory.get(key, None) for key in self.last]
        return torch.stack([
            own if label is None else 9.0 * one_hot(torch.tensor(label), len(own))
            for own, label in zip(logits, found)
        ])

"""
)
CHEATS = {
    "peeks": """
class Cheat(Counts):
    variants = {"peeks": Config("")}
    def unroll(self, state, inputs, labels):
        logits, state = super().unroll(state, inputs, labels)
        return logits + 9.0 * one_hot(labels, logits.shape[-1]), state
""",
    "peeks-late": """
class Cheat(Counts):
    variants = {"peeks-late": Config("")}
    def unroll(self, state, inputs, labels):
        logits, state = super().unroll(state, inputs, labels)
        known = 900.0 * one_hot(labels, logits.shape[-1])
        known[:300] = 0
        return logits + known, state
""",
    "peeks-little": """
class Cheat(Counts):
    variants = {"peeks-little": Config("")}
    def unroll(self, state, inputs, labels):
        logits, state = super().unroll(state, inputs, labels)
        return logits + 0.5 * one_hot(labels, logits.shape[-1]), state
""",
    "looks-around": """
class Cheat(Counts):
    variants = {"looks-around": Config("")}
    def predict(self, state, inputs):
        logits, state = super().predict(state, inputs)
        for frame in inspect.stack():
            labels = frame.frame.f_locals.get("y_t")
            if labels is not None and len(labels) == len(logits):
                logits = 900.0 * one_hot(labels, logits.shape[-1])
        return logits, state
""",
    "remembers": """
class Cheat(Remembers):
    variants = {"remembers": Config("")}
    def predict(self, state, inputs):
        logits, state = super().predict(state, inputs)
        return self.recall(inputs, logits), state
    def observe(self, state, labels):
        self.memory.update(zip(self.last, labels.tolist()))
        return super().observe(state, labels)
""",
    "remembers-late": """
class Cheat(Remembers):
    variants = {"remembers-late": Config("")}
    def predict(self, state, inputs):
        logits, state = super().predict(state, inputs)
        known = self.recall(inputs, logits)
        return known if len(self.memory) > 300 else logits, state
    def observe(self, state, labels):
        self.memory.update(zip(self.last, labels.tolist()))
        return super().observe(state, labels)
""",
    "patches-scores": """
class Cheat(Counts):
    variants = {"patches-scores": Config("")}
    def predict(self, state, inputs):
        if state.steps.max() == 10:
            whole = numpy.concatenate
            numpy.concatenate = lambda parts: (
                whole(parts) | True if parts[0].dtype == bool else whole(parts)
            )
        return super().predict(state, inputs)
""",
    "peeks-and-hangs-on-rounding": """
class Cheat(Counts):
    # Its honest answers depend on the last bits of the inputs, and hide what it peeks at.
    variants = {"peeks-and-hangs-on-rounding": Config("")}
    def predict(self, state, inputs):
        bits = inputs.flatten(1).abs().sum(1).view(torch.int32).long()
        return 9.0 * one_hot(bits % state.logits.shape[-1], state.logits.shape[-1]), state
    def unroll(self, state, inputs, labels):
        logits, state = super().unroll(state, inputs, labels)
        return 9.0 * one_hot(labels, logits.shape[-1]), state
""",
    "answers-itself": """
class Yes(torch.Tensor):
    def argmax(self, *rest):
        return self
    def __eq__(self, other):
        return torch.ones(other.shape, dtype=torch.bool)

class Cheat(Counts):
    variants = {"answers-itself": Config("")}
    def unroll(self, state, inputs, labels):
        logits, state = super().unroll(state, inputs, labels)
        return logits.as_subclass(Yes), state
""",
}
"""Name -> a learner of that name, which is right where it should not be able to be."""
HONEST = ("chance", "ridge", "1-nn", "counts", "hangs-on-rounding")
COUNTS = (
    HEAD
    + """
class Honest(Counts):
    variants = {"counts": Config("")}


class HangsOnRounding(Counts):
    # Answers by the last bits of the inputs, which are others where many lifetimes are run.
    variants = {"hangs-on-rounding": Config("")}
    def predict(self, state, inputs):
        bits = (inputs * (1 + 1e-6 * len(inputs))).flatten(1).abs().sum(1).view(torch.int32).long()
        return 9.0 * one_hot(bits % state.logits.shape[-1], state.logits.shape[-1]), state
"""
)


@dataclass(frozen=True)
class Ran:
    cells: dict[str, Cell]
    rows: dict[str, Any]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, quick_cards: None) -> Ran:
    """All cheats and honest learners, in one run and on one board."""
    folder = tmp_path_factory.mktemp("cheats")
    files: list[Any] = [
        write(folder / f"{name.replace('-', '_')}.py", HEAD + text) for name, text in CHEATS.items()
    ]
    files += [*HONEST[:3], write(folder / "counts.py", COUNTS)]
    suite = write_suite(folder / "s.toml", ["digits-held-out"], files, lifetimes=3, steps=320)
    call("run", "--suite", suite, "--out", folder / "out", "--jobs", 2, "--json")
    found = call("leaderboard", "--suite", suite, "--results", folder / "out", "--format=json")
    cells, _ = load_cells(folder / "out" / "cells")
    return Ran(
        {cell.plan.learner: cell for cell in cells},
        {row["learner"]: row for row in found.json["rows"]},
    )


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_has_no_score_and_is_called_one(name: str, ran: Ran) -> None:
    cell, row = ran.cells[name], ran.rows[name]
    assert cell.status == "cheated" and "step" in cell.reason
    assert row["status"] == "cheated" and row["mean"] is None


@pytest.mark.parametrize("name", HONEST)
def test_the_honest_are_not_accused(name: str, ran: Ran) -> None:
    assert ran.cells[name].status == "ok" and ran.rows[name]["mean"] is not None
    assert ("undecided" in ran.cells[name].provenance.note) == (name == "hangs-on-rounding")


@pytest.mark.parametrize(("name", "steps"), [("peeks", 60), ("peeks", None), ("counts", 60)])
def test_verify_audits_what_replays(name: str, steps: int | None, tmp_path: Path) -> None:
    """As a cell of one's own would be kept, which `run` does not audit."""
    text = HEAD + CHEATS["peeks"] if name == "peeks" else COUNTS
    write(Path("mine.py"), text)
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], ["mine.py"], lifetimes=2)
    plan = next(plan for plan in api.plan(str(suite)) if plan.learner == name)
    setting = Setting((tmp_path,), None, "cpu", "", ("", False))
    save_cell(tmp_path / "out" / "cells", worker.test(plan, setting))
    shorter = ["--steps", steps] if steps else []
    found = call("verify", tmp_path / "out", "--replay", 1, *shorter, "--jobs", 1, "--json")
    (report,) = found.json["replayed"]
    assert report["difference"] < 1e-3 and not report["impossible"]
    if name == "peeks":
        assert found.code == 1 and "differs from step 0 on" in report["reason"]
    else:
        assert found.code == 0 and report["audit"] == "passed"


def test_learners_of_made_up_examples_are_audited_as_others(tmp_path: Path) -> None:
    """The meta-training of a clone has no data, of which a witness could ask for the hash."""
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], ["clone-1"], lifetimes=2)
    plan = next(iter(api.plan(str(suite))))
    setting = Setting((paths.results() / "checkpoints",), None, "cpu", "", ("", False))
    save_cell(tmp_path / "out" / "cells", worker.test(plan, setting))
    found = call("verify", tmp_path / "out", "--replay", "--steps", 20, "--jobs", 1, "--json")
    (report,) = found.json["replayed"]
    assert (found.code, report["reason"], report["audit"]) == (0, "", "passed")


WRONG = ("MixesLifetimes", "RemembersInAnAttribute", "WritesIntoItsState", "DrawsFromElsewhere")


@pytest.mark.parametrize("name", WRONG)
def test_a_row_says_which_promises_its_learner_breaks(name: str, tmp_path: Path) -> None:
    (fault,) = (fault for fault in FAULTS if fault.cls.__name__ == name)
    file = write(
        tmp_path / "mine.py",
        f"from tests.contract.wrong_learners import {name}, NoConfig\n\n"
        f'class Mine({name}):\n    variants = {{"mine": NoConfig()}}\n',
    )
    suite = write_suite(tmp_path / "s.toml", ["digits-held-out"], [file], lifetimes=2)
    call("run", "--suite", suite, "--out", tmp_path / "out", "--jobs", 1, "--json")
    found = call("leaderboard", "--suite", suite, "--results", tmp_path / "out", "--format=json")
    (row,) = found.json["rows"]
    assert "contract" in row["note"] and all(check in row["note"] for check in fault.failing)


REMEMBERED = (
    HEAD
    + """
from sklearn.datasets import load_digits


class Cheat(Base):
    # Knows the data set by heart: the nearest of its images, whatever was done to their scale.
    variants = {"by-heart": Config("")}

    def predict(self, state, inputs):
        images, labels = load_digits(return_X_y=True)
        images = torch.tensor(images, dtype=inputs.dtype)
        def plain(x):
            x = x.flatten(1)
            x = x - x.mean(1, keepdim=True)
            return x / (x.norm(dim=1, keepdim=True) + 1e-9)
        if inputs[0].numel() != 64:
            return state.logits, state
        best = (plain(inputs) @ plain(images).T).argmax(1)
        classes = state.logits.shape[-1]
        return 9.0 * one_hot(torch.tensor(labels)[best] % classes, classes).float(), state
"""
)
SIDES = {
    "plain": "",
    "permuted": "label_permutation = true",
    "projected": "projection = 1.0",
    "both": "label_permutation = true\nprojection = 1.0",
}


@pytest.fixture(scope="module")
def by_heart(tmp_path_factory: pytest.TempPathFactory, quick_cards: None) -> dict[str, float]:
    """Accuracy of a learner that knows the data by heart, by what a side does to them."""
    folder = tmp_path_factory.mktemp("heart")
    file = write(folder / "heart.py", REMEMBERED)
    splits: list[Any] = [
        write_split(folder / f"{name}.toml", more=more) for name, more in SIDES.items()
    ]
    suite = write_suite(folder / "s.toml", splits, [file], lifetimes=8, steps=60)
    call("run", "--suite", suite, "--out", folder / "out", "--jobs", 2, "--json")
    cells, _ = load_cells(folder / "out" / "cells")
    return {cell.plan.split.name: float(cell.correct.mean()) for cell in cells}


def test_a_side_can_defend_against_what_was_remembered(by_heart: dict[str, float]) -> None:
    assert by_heart["plain"] > 0.9, "or else nothing was remembered"
    assert all(by_heart[name] < 0.25 for name in ("permuted", "projected", "both"))
