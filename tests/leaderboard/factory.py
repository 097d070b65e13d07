"""Hand-built cells and plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vsml_bench.evaluation.cell import Cell, CellId, Outcomes, Provenance, Status
from vsml_bench.leaderboard.board import PlannedCell
from vsml_bench.storage import canonical_json, sha256_hex

HASHES = {"split": "s1", "data": "d1", "learner": "l1", "config": "c1"}


def key_of(hashes: Mapping[str, str], split: str, learner: str, seed: int) -> str:
    return sha256_hex(canonical_json([dict(hashes), split, learner, seed]))


def correctness(accuracies: list[float], steps: int = 20) -> npt.NDArray[np.bool_]:
    """[lifetimes, steps] with the given accuracy in each lifetime, right answers last."""
    hits = np.round(np.asarray(accuracies) * steps).astype(int)
    return np.arange(steps) >= steps - hits[:, None]


def make_cell(
    split: str = "held-out",
    learner: str = "vsml",
    seed: int = 0,
    accuracies: list[float] | npt.NDArray[np.bool_] | None = None,
    *,
    suite: str = "desk",
    status: Status = "ok",
    reason: str = "",
    relation: str = "unseen_tasks",
    hashes: Mapping[str, str] = HASHES,
    steps: int = 20,
    **provenance: Any,
) -> Cell:
    if isinstance(accuracies, np.ndarray):
        correct = accuracies
    else:
        correct = correctness(accuracies or [0.5, 0.6, 0.7], steps)
    random = np.random.default_rng(seed)
    loss = random.exponential(size=correct.shape).astype(np.float32)
    record: dict[str, Any] = {
        "hashes": dict(hashes),
        "meta_train_hash": "m1",
        "data_hashes": {"meta_test/digits": "d"},
        "learner_config": {"ticks": 2},
        "recipe": None,
        "checkpoint": None,
        "tuned": {},
        "tuning_effort": {},
        "seeds": {"meta_train": seed, "meta_test": [1, 2, 3]},
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
        id=CellId(suite, split, learner, seed),
        status=status,
        reason=reason or ("" if status == "ok" else "it went wrong"),
        key=key_of(hashes, split, learner, seed),
        relation=relation,
        protocol="online",
        lifetimes=correct.shape[0],
        steps=correct.shape[1],
        outcomes=Outcomes(correct, loss) if status == "ok" else None,
        provenance=Provenance(**{**record, **provenance}),
    )


def plan(
    split: str = "held-out",
    learner: str = "vsml",
    seed: int = 0,
    *,
    suite: str = "desk",
    relation: str = "unseen_tasks",
    has_meta_parameters: bool = True,
    hashes: Mapping[str, str] = HASHES,
    metric: str = "cumulative_accuracy",
    stream: bool = True,
) -> PlannedCell:
    return PlannedCell(
        CellId(suite, split, learner, seed),
        key_of(hashes, split, learner, seed),
        relation,
        has_meta_parameters,
        dict(hashes),
        metric=metric,
        stream=stream,
    )
