"""`make fuzz` and `make torture` in small: what they count, and that they find what is planted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tools import fuzz, fuzz_inputs, torture, torture_commands
from tools.fuzz_inputs import Case, Good

SEALED = b'{"a": 1, "b": {"c": [2]}, "sha256": "0"}'


@pytest.fixture
def good() -> Good:
    import numpy as np
    from safetensors.numpy import save

    checkpoint = save({"a": np.zeros(4, np.float32)}, {"vsml_bench": "{}"})
    return Good(SEALED, "a.json", checkpoint, "a.safetensors")


def test_the_same_seed_gives_the_same_cases_of_all_kinds(good: Good) -> None:
    one, same, other = (fuzz_inputs.cases(good, 200, seed) for seed in (1, 1, 2))
    names = [[(case.kind, case.name, case.streams) for case in of] for of in (one, same, other)]
    assert names[0] == names[1] != names[2]
    kinds = {"TOML", "cell", "checkpoint", "dataset", "option", "environment"}
    assert set(Counter(case.kind for case in one)) == kinds and len(one) == 200


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["list", "suites"], "accepted wrongly"),
        (["explain", "no-such-thing.json"], ""),
        (["read"], "traceback"),
    ],
    ids=" ".join,
)
def test_faults_are_told_apart(arguments: list[str], fault: str) -> None:
    answer = fuzz.ask(Case("planted", "", lambda folder: arguments))
    assert answer.fault == fault, answer
    assert answer.seconds > 0 and "planted" in fuzz.table([answer])


def test_malformed_inputs_are_refused_in_a_sentence(good: Good) -> None:
    answers = [fuzz.ask(case) for case in fuzz_inputs.cases(good, 60, 3)]
    assert not [(a.case.kind, a.case.name, a.fault) for a in answers if a.fault]


def test_a_whole_run_is_no_fault_and_a_torn_file_is(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/a.json").write_bytes(SEALED)
    (tmp_path / "board.md").write_bytes(b"12")
    (tmp_path / ".x.tmp").write_bytes(b"")
    assert torture_commands.torn(tmp_path, {"board.md": 2}) == 1
    assert torture_commands.torn(tmp_path, {"board.md": 3}) == 2
    assert len(torture_commands.records(tmp_path)) == 2
    assert not torture.Round("run", "parent", True).fault
    assert torture.Round("run", "parent", True, litter=1).fault
