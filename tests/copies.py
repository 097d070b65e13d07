"""Copies of the project, to be edited and run."""

from __future__ import annotations

import shutil
from pathlib import Path

from vsml_bench import paths


def copy_of_package(folder: Path) -> Path:
    """The package and the baselines, copied into `folder`, with the tasks of this checkout beside
    them. Whoever has `folder` on PYTHONPATH runs this copy."""
    leave_out = shutil.ignore_patterns("__pycache__")
    for source in (paths.PACKAGE, paths.baselines()):
        shutil.copytree(source, folder / source.name, ignore=leave_out)
    (folder / "tasks").symlink_to(paths.tasks())
    return folder


def replace(file: Path, old: str, new: str) -> None:
    """Puts `new` in the place of `old`, which must be there."""
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{file.name} has no '{old}' any more"
    file.write_text(text.replace(old, new), encoding="utf-8")
