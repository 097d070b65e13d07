"""Plug-ins as an installed package would bring them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

PlugIn: TypeAlias = Callable[[str, str, str], None]


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlugIn:
    """Installs a distribution with one entry point: group, name, reference. Modules in `tmp_path`
    can be imported."""

    def install(group: str, name: str, reference: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {reference}\n")

    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return install
