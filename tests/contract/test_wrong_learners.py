"""Every check can fail: each wrong learner fails the checks that its fault is the business of."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.contract import wrong_learners as wrong
from tests.contract.wrong_learners import Right
from vsml_bench.contract.suite import CHECKS, FIRST, check_learner
from vsml_bench.learner import NoConfig
from vsml_bench.learner_entry import LearnerEntry, Place

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Fault:
    """A wrong learner and the checks that have to fail on it, and no other."""

    cls: type[Right]
    failing: tuple[str, ...]


# A loop is given no label early, so that an unroll which leaks cannot be equal to it either; and
# what the global generator gives a lifetime depends on how many draw beside it.
FAULTS = (
    Fault(wrong.LeavesDtype, ("shapes and dtypes",)),
    Fault(wrong.KnowsItsLabel, ("label leak", "unroll and loop")),
    Fault(wrong.KnowsTheNextInput, ("future leak", "unroll and loop")),
    Fault(wrong.KnowsTheMean, ("future leak", "independence", "not a number", "unroll and loop")),
    Fault(wrong.UnrollsAnotherAlgorithm, ("unroll and loop",)),
    Fault(wrong.FastCodeDoesAnotherThing, ("unroll and loop",)),
    Fault(wrong.FastCodeKnowsItsLabel, ("label leak",)),
    Fault(wrong.ForgetsAtBlocks, ("unroll and loop",)),
    Fault(wrong.MixesLifetimes, ("independence",)),
    Fault(wrong.CountsNeighbours, ("independence",)),
    Fault(wrong.RemembersInAnAttribute, ("hidden state", "answers")),
    Fault(wrong.WritesIntoItsState, ("hidden state",)),
    Fault(wrong.DrawsFromElsewhere, ("determinism", "independence")),
    Fault(wrong.DrawsMetaParametersFromElsewhere, ("determinism",)),
    Fault(wrong.DropsOut, ("determinism", "independence", "answers")),
    Fault(wrong.SharesNoise, ("determinism",)),
    Fault(wrong.SwallowsNaN, ("not a number",)),
    Fault(wrong.SpreadsNaN, ("not a number",)),
    Fault(wrong.LearnsFromQueries, ("answers",)),
    Fault(wrong.KeepsAPlainTensor, ("save and load",)),
    Fault(wrong.KeepsWhatItComputed, ("population",)),
    Fault(wrong.CutsTheGradient, ("meta-gradient",)),
    Fault(wrong.LosesTheGradient, ("meta-gradient",)),
    Fault(wrong.HasNoRecipe, ("meta-gradient",)),
    Fault(wrong.GrowsTooFast, ("state size",)),
    Fault(wrong.TakesOneSizeOnly, ("any size",)),
    Fault(wrong.PrefersEarlyInputs, ("input invariance",)),
    Fault(wrong.PrefersEarlyInputsInNoise, ("input invariance",)),
    Fault(wrong.PrefersTheFirstLabel, ("label invariance",)),
    Fault(wrong.PrefersTheFirstLabelInNoise, ("label invariance",)),
)
RIGHT = (Right, wrong.RightRate, wrong.RightNoise, wrong.TrulyInvariantInNoise)


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
