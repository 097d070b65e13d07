"""`list`: the learners, splits, suites or datasets there are."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from vsml_bench.errors import costs_itself
from vsml_bench.verbs.options import add_shared

T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_shared(parser, "--json")
    parser.add_argument("what", choices=("learners", "splits", "suites", "datasets"))


def run(options: argparse.Namespace) -> int:
    """`list`: learners, splits, suites or datasets."""
    from vsml_bench import api, printing, suites

    rows: dict[str, Any] = {
        "learners": lambda: [printing.learner_row(card) for card in api.list_learners()],
        "splits": lambda: [
            {"name": s.name, "relation": s.relation, "description": s.description}
            for s in _readable(suites.find_split, suites.split_names())
        ],
        "suites": lambda: [
            {"name": s.name, "splits": len(s.splits), "learners": len(s.learners)}
            | {"description": s.description}
            for s in _readable(suites.find_suite, suites.suite_names())
        ],
        "datasets": lambda: printing.dataset_rows(None),
    }
    printing.rows(rows[options.what](), options.what, options.json)
    return 0


def _readable(find: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
    """What is found by the names; a broken file costs itself, with a warning."""
    for name in names:
        with costs_itself(f"'{name}'"):
            yield find(name)
