"""Declared values make shipped learners' results stale, and nothing else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.copies import copy_of_package, replace
from vsml_bench import cards

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")

IDENTITIES = """
import json
from vsml_bench import cards, paths
print(json.dumps({name: card.identity() for name, card in cards.shipped().items()}))
"""


def identities(copy: Path) -> dict[str, dict[str, Any]]:
    """Of all shipped learners, as the copy of the package says."""
    done = subprocess.run(
        [sys.executable, "-c", IDENTITIES],
        env={**os.environ, "PYTHONPATH": str(copy), "XDG_CACHE_HOME": str(copy / "cache")},
        cwd=copy,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_harmless_edits_of_shipped_learners_make_nothing_stale(tmp_path: Path) -> None:
    """Their versions and every resolved value of their configurations count, and no bytes."""
    copy = copy_of_package(tmp_path / "copy")
    for file, old, new in (
        ("vsml_bench/vsml/network.py", "Size and options of a VSML network", "Options"),
        ("vsml_bench/vsml/fast/lifetimes.cpp", "SPANS = 16", "SPANS = 24"),
        ("vsml_bench/registry.py", "_discovered", "_found_everywhere"),
        ("vsml_bench/plugins.py", "does not exist where it was looked for", "is not there"),
    ):
        replace(copy / file, old, new)
    with (copy / "baselines/ridge.py").open("a") as ridge:
        ridge.write("\n# A remark.\n")
    before = {name: card.identity() for name, card in cards.shipped().items()}
    assert identities(copy) == json.loads(json.dumps(before))
    assert {identity["code"] for identity in before.values()} == {""}


def test_a_default_that_is_changed_makes_stale_whoever_has_it(tmp_path: Path) -> None:
    copy = copy_of_package(tmp_path / "copy")
    replace(copy / "vsml_bench/vsml/network.py", "    ticks: int = 2", "    ticks: int = 4")
    replace(copy / "baselines/gradient_descent.py", "beta1: float = 0.9", "beta1: float = 0.5")
    before = {name: card.identity() for name, card in cards.shipped().items()}
    after = identities(copy)
    stale = {name for name in before if after[name] != json.loads(json.dumps(before[name]))}
    assert {"vsml", "vsml-conv", "adam-linear", "adam-mlp"} <= stale
    assert not stale & {"sgd-linear", "ridge", "chance", "gpicl", "ablation-ticks-1"}
