"""Plans and cells made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vsml_bench.boards.board import Board, Row
from vsml_bench.boards.groups import Group, groups_of
from vsml_bench.cards import Card
from vsml_bench.evaluation.cell import Cell, Provenance, Status
from vsml_bench.evaluation.outcomes import Outcomes
from vsml_bench.evaluation.plan import Plan
from vsml_bench.meta_training.job import Job, ProtocolCard
from vsml_bench.recipes import Phase, Recipe
from vsml_bench.seeds import lifetime_seeds
from vsml_bench.sides import TaskDistribution
from vsml_bench.suites import Split

RECIPE = Recipe((Phase(steps=10, lifetime=20, learning_rate=1e-3),))
# Without datasets, so that nothing here depends on what is known of one.
TRAIN = TaskDistribution((), "train")
TEST = TaskDistribution((), "test")


def make_card(name: str = "vsml", recipe: Recipe | None = RECIPE, version: int = 1) -> Card:
    return Card(
        name=name,
        version=version,
        config={"ticks": 2},
        family="made by hand",
        source="",
        protocols=("online", "few_shot"),
        input_kinds=("image", "vector"),
        invariances=(),
        fixed_shape=None,
        recipe=recipe,
        tuning=None,
        requires={},
        origin="a test",
        reference=name,
    )


def make_plan(
    split: str = "held-out",
    learner: str = "vsml",
    seed: int = 0,
    *,
    suite: str = "desk",
    relation: Any = "unseen_tasks",
    recipe: Recipe | None = RECIPE,
    version: int = 1,
    train: TaskDistribution = TRAIN,
    test: TaskDistribution = TEST,
    unchanged: str = "",
    stream: bool = True,
    lifetimes: int = 3,
    steps: int = 20,
) -> Plan:
    protocol = (
        ProtocolCard(
            *("online", "online", 1, "cumulative_accuracy", True, {"steps": steps}, steps, steps)
        )
        if stream
        else ProtocolCard("few_shot", "few_shot", 1, "accuracy", False, {}, steps)
    )
    return Plan(
        suite=suite,
        split=Split(split, "made by hand", relation, train, test, unchanged),
        job=Job(make_card(learner, recipe, version), train, seed, recipe),
        protocol=protocol,
        lifetimes=lifetimes,
        time_limit=60.0,
    )


def correctness(accuracies: list[float], steps: int = 20) -> npt.NDArray[np.bool_]:
    """[lifetimes, steps] with the given accuracy in each lifetime, right answers last."""
    hits = np.round(np.asarray(accuracies) * steps).astype(int)
    return np.arange(steps) >= steps - hits[:, None]


def run(
    plan: Plan,
    accuracies: list[float] | npt.NDArray[np.bool_] | None = None,
    *,
    status: Status = "ok",
    reason: str = "",
    traces: dict[str, Any] | None = None,
    **provenance: Any,
) -> Cell:
    """The record of a planned cell. accuracies: of each lifetime, or of each step."""
    if isinstance(accuracies, np.ndarray):
        correct = accuracies
    else:
        correct = correctness(accuracies or [0.5, 0.6, 0.7], plan.protocol.predictions)
    loss = np.random.default_rng(plan.job.seed).exponential(size=correct.shape)
    record: dict[str, Any] = {
        "data_hashes": {"meta_train/digits": "d1", "meta_test/digits": "d2"},
        "checkpoint": None,
        "tuned": {},
        "tuning_effort": {},
        "seeds": {"meta_train": plan.job.seed, "meta_test": lifetime_seeds(3, plan.split.name)},
        "git_commit": "abc",
        "git_dirty": True,
        "versions": {"python": "3.11"},
        "device": "some CPU",
        "threads": 1,
        "seconds": {"meta_test": 1.5},
        "peak_memory_bytes": 1,
        "meta_parameters": 2384,
        "state_floats": 10,
        "note": "",
        "created": "2025-01-01",
    }
    return Cell(
        plan=plan,
        status=status,
        reason=reason or ("" if status == "ok" else "it went wrong"),
        outcomes=Outcomes(correct, loss, traces or {}) if status == "ok" else None,
        provenance=Provenance(**{**record, **provenance}),
    )


PLANNED = (
    *("suite", "relation", "recipe", "version", "train", "test", "unchanged", "stream", "steps"),
    "lifetimes",
)


def make_cell(
    split: str = "held-out",
    learner: str = "vsml",
    seed: int = 0,
    accuracies: list[float] | npt.NDArray[np.bool_] | None = None,
    **given: Any,
) -> Cell:
    """`run` of `make_plan`; keywords of both."""
    planned = {name: given.pop(name) for name in PLANNED if name in given}
    return run(make_plan(split, learner, seed, **planned), accuracies, **given)


def make_group(
    split: str = "held-out",
    learner: str = "vsml",
    accuracies: tuple[list[float], ...] = ([0.5, 0.6, 0.7],),
    *,
    first_seed: int = 0,
    **given: Any,
) -> Group:
    """A finished group with a seed for each list of accuracies; keywords as for `make_cell`."""
    (group,) = groups_of(
        make_cell(split, learner, first_seed + n, of, **given) for n, of in enumerate(accuracies)
    )
    return group


def only_row(board: Board, **fields: Any) -> Row:
    """The one row with these values."""
    rows = [r for r in board.rows if all(r[k] == v for k, v in fields.items())]
    assert len(rows) == 1, rows
    return rows[0]
