"""How the meta-parameters, or the tuned values, behind a board came about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vsml_bench.boards.board import Board
from vsml_bench.meta_training.records import Record


@dataclass(frozen=True)
class Training:
    """A meta-training or a tuning, as a reader sees it."""

    command: str
    """By which it was made, once."""
    commit: str
    device: str
    seconds: float
    begun_by: str
    """SHA-256 of the checkpoint that it went on from; "" for none."""
    history: tuple[dict[str, float], ...]
    """One entry per validation: "step", "loss", "accuracy", "validation_loss",
    "validation_accuracy"; () for a tuning."""
    trials: tuple[dict[str, Any], ...]
    """One entry per point of a tuning grid: its "values" and their "accuracy"; () for a
    meta-training."""


def trainings(board: Board) -> dict[str, Training]:
    """SHA-256 of checkpoint or tuning record -> what it says, of those that cells on the board
    name."""
    named = (cell.provenance.checkpoint for row in board.rows for cell in row.group.cells)
    shown = dict.fromkeys(name for name in named if name is not None and name in board.records)
    return {name: _training(board.records[name]) for name in shown}


def _training(record: Record) -> Training:
    document = record.document
    begun = document.get("begun_by") or {}
    return Training(
        command=str(document.get("command", "")),
        commit=str(document.get("git_commit", "")),
        device=str(document.get("device", "")),
        seconds=round(float(document.get("seconds", 0.0)), 1),
        begun_by=str(begun.get("checkpoint", "")),
        history=tuple(_finite(entry) for entry in document.get("history", ())),
        trials=tuple(
            {"values": trial["values"], "accuracy": round(trial["accuracy"], 4)}
            for trial in document.get("trials", ())
        ),
    )


def _finite(entry: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in entry.items() if math.isfinite(value)}
