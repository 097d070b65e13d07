"""Where each number is from: the cells behind a row, and the one command that makes each again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsml_bench.boards.badges import badge
from vsml_bench.boards.groups import Group
from vsml_bench.boards.page.speed import Link, Speed
from vsml_bench.config import as_plain
from vsml_bench.evaluation.cell import Cell, path_of
from vsml_bench.evaluation.outcomes import outcomes_hash


@dataclass(frozen=True)
class Origin:
    """One cell, as a reader sees it."""

    badge: str
    seed: int
    status: str
    reason: str
    command: str
    key: str
    """SHA-256 of all that is declared."""
    outcomes: str
    """SHA-256 of every outcome; "" where there is none."""
    checkpoint: str
    """SHA-256 of meta-parameters or tuning record; "" where there is neither."""
    training: str
    """The command that makes the checkpoint or tuning record again; "" where there is none."""
    data: dict[str, str]
    """Side and dataset -> content hash."""
    learner: str
    """Name and version."""
    config: dict[str, Any]
    recipe: dict[str, Any] | None
    tuned: dict[str, Any]
    commit: str
    speed: Link | None
    """To how fast the code of that commit is."""
    versions: dict[str, str]
    device: str
    threads: int
    seconds: dict[str, float]
    peak_memory_bytes: int
    created: str


def origins(group: Group, badges: Mapping[str, str], speed: Speed | None = None) -> list[Origin]:
    """Of the cells that a group has, seed by seed. badges: `Board.badges`. speed: what asv has
    measured, where its pages are beside."""
    said = badges_of(group, badges)
    return [_origin(cell, of, speed) for cell, of in zip(group.cells, said, strict=True)]


def badges_of(group: Group, badges: Mapping[str, str]) -> list[str]:
    """Of its cells; badges: `Board.badges`."""
    return [badges.get(path_of(Path(), cell).name) or badge(cell) for cell in group.cells]


def _origin(cell: Cell, said: str, speed: Speed | None) -> Origin:
    where, job = cell.provenance, cell.plan.job
    return Origin(
        badge=said,
        seed=job.seed,
        status=cell.status,
        reason=cell.reason,
        command=command(cell),
        key=cell.key,
        outcomes="" if cell.outcomes is None else outcomes_hash(cell.outcomes),
        checkpoint=where.checkpoint or "",
        training=training(cell) if where.checkpoint else "",
        data=where.data_hashes,
        learner=f"{job.learner.name}, version {job.learner.version}",
        config=job.learner.config,
        recipe=None if job.recipe is None else as_plain(job.recipe),
        tuned=where.tuned,
        commit=where.git_commit + (" with local changes" if where.git_dirty else ""),
        speed=speed.link(where.git_commit, where.created) if speed else None,
        versions=where.versions,
        device=where.hardware,
        threads=where.threads,
        seconds={name: round(value, 3) for name, value in where.seconds.items()},
        peak_memory_bytes=where.peak_memory_bytes,
        created=where.created,
    )


def command(cell: Cell) -> str:
    """What runs the cell again, in a checkout of its commit."""
    return shlex.join(["vsml-bench", "run", *_place(cell), "--policy", "always"])


def training(cell: Cell) -> str:
    """What meta-trains or tunes the cell's learner again, in a checkout of its commit."""
    return shlex.join(["vsml-bench", "meta-train", *_place(cell), "--out", "again"])


def _place(cell: Cell) -> list[str]:
    plan = cell.plan.published()
    where = ["--suite", plan.suite, "--split", plan.split.name]
    return [*where, "--learner", plan.job.learner.reference, "--seed", str(plan.job.seed)]
