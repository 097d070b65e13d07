"""The contract, checked on every learner that the registry finds. A new one, wherever it comes
from, is tested here without a change."""

from __future__ import annotations

from functools import lru_cache

import pytest

from vsml_bench import registry
from vsml_bench.contract.subject import Subject
from vsml_bench.contract.suite import CHECKS, run_check
from vsml_bench.errors import UnavailableError

pytestmark = pytest.mark.usefixtures("one_thread")


@lru_cache
def subject_of(name: str) -> Subject:
    return Subject(registry.find_learner(name))


@pytest.fixture(params=list(registry.learners()))
def subject(request: pytest.FixtureRequest) -> Subject:
    try:
        return subject_of(request.param)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("check", CHECKS)
def test_it_keeps_the_contract(subject: Subject, check: str) -> None:
    result = run_check(check, subject)
    assert result.outcome != "failed", result.reason
