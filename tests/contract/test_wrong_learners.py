"""Every check can fail: each wrong learner fails the checks that its fault is the business of."""

from __future__ import annotations

import pytest

from tests.contract.wrong_learners import FAULTS, RIGHT, Fault, Right
from vsml_bench.contract.suite import CHECKS, FIRST, check_learner
from vsml_bench.learner import NoConfig
from vsml_bench.registry import LearnerEntry, Place

pytestmark = pytest.mark.usefixtures("one_thread")


def entry_of(cls: type[Right]) -> LearnerEntry:
    return LearnerEntry(cls.__name__, cls, NoConfig(), Place("wrong_learners.py", __name__))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.cls.__name__)
def test_a_wrong_learner_fails_its_check_and_no_other(fault: Fault) -> None:
    report = check_learner(entry_of(fault.cls))
    assert {result.check for result in report.failed} == set(fault.failing), report.failed
    for result in report.failed:
        assert result.reason.endswith((".", "?")) and "\n" not in result.reason


@pytest.mark.parametrize("cls", RIGHT)
def test_what_they_are_made_from_is_right(cls: type[Right]) -> None:
    report = check_learner(entry_of(cls))
    assert report.failed == ()
    assert [result.check for result in report.results] == list(CHECKS)


def test_every_check_has_a_learner_that_fails_it() -> None:
    assert {name for fault in FAULTS for name in fault.failing} == set(CHECKS)


def test_the_rest_is_not_run_where_the_form_is_wrong() -> None:
    (fault,) = (fault for fault in FAULTS if fault.failing == (FIRST,))
    first, *rest = check_learner(entry_of(fault.cls)).results
    assert "torch.float64" in first.reason and "torch.float32" in first.reason
    assert {result.outcome for result in rest} == {"skipped"}
    assert all(FIRST in result.reason for result in rest)
