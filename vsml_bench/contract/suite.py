"""All checks of the contract, in one table, and how they are run on a learner."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from vsml_bench.contract import (
    ContractReport,
    Finding,
    audits,
    claims,
    equivalences,
    failed,
    passed,
    skipped,
)
from vsml_bench.contract.subject import Subject, double_precision, exercise, usual_shapes
from vsml_bench.errors import UnavailableError, VsmlBenchError
from vsml_bench.learner_entry import LearnerEntry

Check: TypeAlias = Callable[[Subject], Finding]

SECONDS = 120.0
"""After which a check is ended; none of the shipped learners needs a hundredth of it."""


def shapes_and_dtypes(subject: Subject) -> Finding:
    """Every method once, on each kind of input, in float32 and in float64."""
    for precision in (contextlib.nullcontext(), double_precision()):
        with precision:
            learner = subject.learner()
            shapes = usual_shapes(learner)
            for shape in shapes:
                exercise(learner, shape, subject.entry.name)
    return passed(f"all methods keep to it on {len(shapes)} shapes, in float32 and float64.")


FIRST = "shapes and dtypes"
CHECKS: Mapping[str, Check] = {
    FIRST: shapes_and_dtypes,
    "label leak": audits.label_leak,
    "future leak": audits.future_leak,
    "independence": audits.independence,
    "hidden state": audits.hidden_state,
    "determinism": audits.determinism,
    "not a number": audits.not_a_number,
    "unroll and loop": equivalences.unroll_and_loop,
    "answers": equivalences.answers,
    "save and load": equivalences.save_and_load,
    "population": equivalences.population,
    "meta-gradient": equivalences.meta_gradient,
    "state size": claims.state_size,
    "any size": claims.any_size,
    "input invariance": claims.input_invariance,
    "label invariance": claims.label_invariance,
}
"""Name -> check. The others make sense only for a learner that passes the first."""
QUICK = (
    *(FIRST, "label leak", "future leak", "independence"),
    *("hidden state", "determinism", "not a number", "unroll and loop", "answers"),
)
"""What is checked before anybody asks."""


def check_learner(
    entry: LearnerEntry,
    report: Callable[[float], None] = lambda share: None,
    checks: Sequence[str] = tuple(CHECKS),
) -> ContractReport:
    """Checks of one learner, by default all. Whatever it does becomes a result; VsmlBenchError only
    where no instance of it can be made (UnavailableError where this machine lacks what it needs).

    report: called with the share of the checks that is done.
    """
    subject = Subject(entry)
    results: list[Finding] = []
    for name in checks:
        report(len(results) / len(checks))
        if results and results[0].outcome == "failed":
            results.append(replace(skipped(f"not run; see '{FIRST}' first."), check=name))
        else:
            results.append(run_check(name, subject))
    return ContractReport(entry.name, entry.origin, tuple(results))


def run_check(name: str, subject: Subject) -> Finding:
    """One check; an exception of the learner's fails it."""
    try:
        with time_limit(SECONDS, f"the check '{name}'"):
            finding = CHECKS[name](subject)
    except UnavailableError:
        raise
    except VsmlBenchError as error:
        finding = failed(str(error))
    except Exception as error:
        reason = " ".join(str(error).split())
        finding = failed(f"it raises {type(error).__name__}: {reason}")
    return replace(finding, check=name)


@contextlib.contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """VsmlBenchError where the Python code inside runs longer, where the system can tell (in the
    main thread, on POSIX).

    what: the subject of the error's sentence.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*details: object) -> None:
        raise VsmlBenchError(f"{what} took more than {seconds:g} s; does a loop never end?")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
