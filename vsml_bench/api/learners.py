"""Which learners there are, and whether one keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vsml_bench import cards
from vsml_bench.cards import Card
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.executors import run_apart

if TYPE_CHECKING:
    from vsml_bench.contract import ContractReport


CHECK_SECONDS = 300.0
"""In which a check has to end; each one ends itself in 120 s where Python can."""


def list_learners() -> list[Card]:
    """All learners that are found without being pointed at."""
    return list(cards.shipped().values())


def check(learner: str) -> ContractReport:
    """Whether a learner keeps every promise of the contract.

    learner: a name, or `path/to/file.py:ClassName`.
    Raises VsmlBenchError where it cannot be found or made.
    """
    check_reference("learner", learner)
    reports = check_all(learner)
    if len(reports) != 1:
        names = ", ".join(report.learner for report in reports) or "none"
        raise VsmlBenchError(f"'{learner}' stands for several learners; name one of: {names}.")
    return reports[0]


def check_reference(what: str, given: Any) -> None:
    """VsmlBenchError for something else than a name or a place. what: the argument."""
    if not isinstance(given, str):
        found = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
        raise VsmlBenchError(
            f"{what}: expected a name or path/to/file.py:ClassName, found {found}; "
            "write it into a file, since it runs in processes of its own."
        )


def check_all(reference: str) -> tuple[ContractReport, ...]:
    """`check` of all learners that the reference stands for, in a process of their own."""
    found: tuple[ContractReport, ...]
    found = run_apart("check", reference, stall_limit=CHECK_SECONDS)
    return found
