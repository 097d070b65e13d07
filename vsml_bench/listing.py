"""What `list` and `explain` say of learners, splits and suites, as rows of JSON-ready values."""

from __future__ import annotations

from typing import Any, TypeAlias

from vsml_bench import api, registry, suites
from vsml_bench.contract.claims import measure_state
from vsml_bench.errors import UnavailableError

Row: TypeAlias = dict[str, Any]


def learner_rows() -> list[Row]:
    """One row per learner that is found without being pointed at."""
    return [learner_row(entry) for entry in api.list_learners()]


def learner_row(entry: registry.LearnerEntry) -> Row:
    """What there is to say of a learner without running it."""
    return {
        "name": entry.name,
        "family": entry.cls.family,
        "protocols": sorted(entry.cls.protocols),
        **_learner_size(entry),
        "tuned": entry.cls.tuning is not None,
        "source": entry.cls.source,
        "origin": entry.origin,
    }


def _learner_size(entry: registry.LearnerEntry) -> dict[str, int | None]:
    """Numbers in its meta-parameters and in the state of one lifetime, at 28x28 pixels and 10
    classes or its fixed shape; None where this machine lacks what the learner needs."""
    try:
        learner = entry.create()
        state = measure_state(entry)
    except UnavailableError:
        return dict.fromkeys(("meta_parameters", "state_floats", "state_growth"))
    return {
        "meta_parameters": sum(p.numel() for p in learner.parameters()),
        "state_floats": state.floats,
        "state_growth": state.growth,
    }


def split_rows() -> list[Row]:
    """One row per split in `tasks/splits`."""
    return [
        {"name": s.name, "relation": s.relation, "description": s.description}
        for s in map(suites.find_split, suites.split_names())
    ]


def suite_rows() -> list[Row]:
    """One row per suite in `tasks/suites`."""
    return [
        {
            "name": s.name,
            "splits": len(s.splits),
            "learners": len(s.learners),
            "description": s.description,
        }
        for s in map(suites.find_suite, suites.suite_names())
    ]
