"""What learners take, in each respect that the page can put on an axis."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vsml_bench.boards.groups import Group
from vsml_bench.evaluation.cell import Cell


@dataclass(frozen=True)
class Cost:
    """What a learner takes, as a mean of the cells that have a score. Times compare on one device
    only."""

    device: str
    meta_train_seconds: float
    meta_train_examples: int
    """In all lifetimes of all meta-updates; 0 for a learner that is not meta-trained."""
    seconds_per_1000: float
    """Meta-test seconds for 1,000 examples."""
    state_floats: int
    meta_parameters: int


@dataclass(frozen=True)
class Axis:
    """A field of `Cost` in a table or a picture."""

    title: str
    time: bool = False
    """Whether it compares only within a device."""


AXES: Mapping[str, Axis] = {
    "meta_train_seconds": Axis("meta-training or tuning (s)", time=True),
    "meta_train_examples": Axis("meta-training examples"),
    "seconds_per_1000": Axis("meta-test (s for 1,000 examples)", time=True),
    "state_floats": Axis("state (floats)"),
    "meta_parameters": Axis("meta-parameters"),
}
FIRST = "seconds_per_1000"
"""What the page shows before anything is chosen."""


def cost_of(groups: Sequence[Group]) -> Cost | None:
    """None where no cell has a score."""
    cells = [cell for group in groups for cell in group.ok]
    if not cells:
        return None
    seconds = [cell.provenance.seconds for cell in cells]
    examples = sum(
        cell.correct.shape[0] * (cell.plan.protocol.examples or cell.correct.shape[1])
        for cell in cells
    )
    recipes = {_training(cell): cell.plan.job for cell in cells}
    jobs = [job.recipe.examples for job in recipes.values() if job.recipe is not None]
    return Cost(
        " / ".join(sorted({cell.provenance.hardware for cell in cells})),
        float(np.mean([each.get("meta_train", 0.0) for each in seconds])),
        round(sum(jobs) / len(jobs)) if jobs else 0,
        1000 * sum(each.get("meta_test", 0.0) for each in seconds) / examples,
        max(cell.provenance.state_floats for cell in cells),
        max(cell.provenance.meta_parameters for cell in cells),
    )


def spent(groups: Sequence[Group]) -> tuple[float, float]:
    """Seconds of meta-training and tuning, each counted once, and of meta-testing, in all cells
    that have a score."""
    cells = [cell for group in groups for cell in group.ok]
    made = {_training(cell): cell.provenance.seconds.get("meta_train", 0.0) for cell in cells}
    return sum(made.values()), sum(c.provenance.seconds.get("meta_test", 0.0) for c in cells)


def _training(cell: Cell) -> Hashable:
    """What cells of one meta-training have in common; it needs no data."""
    job = cell.plan.job
    return cell.provenance.checkpoint or (job.learner.name, job.side, job.seed)
