"""Where the project's own files are: a checkout's top level, or inside an installed wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def home() -> Path:
    """The folder that holds `baselines/`, `tasks/` and `results/`."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "tasks" / "suites").is_dir() else PACKAGE / "shipped"


def baselines() -> Path:
    """One file per baseline learner."""
    return home() / "baselines"


def tasks() -> Path:
    """`splits/` and `suites/`, one TOML file each."""
    return home() / "tasks"


def results() -> Path:
    """What is published: checkpoints, cells and boards."""
    return home() / "results"
