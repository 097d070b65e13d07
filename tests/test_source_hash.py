"""The learner hash moves with what code does and with nothing else."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from vsml_bench.source_hash import _parse, learner_hash
from vsml_bench.vsml.learner import VSML

SOURCE = '''
"""Docs."""
from vsml_bench.learner import Learner, NoConfig
from helper import scale

FACTOR = 2.0
UNUSED = 3.0


def double(x):
    """Doubles."""
    return FACTOR * x  # twice


class Example(Learner):
    """An example."""

    variants = {"example": NoConfig()}

    def predict(self, state, inputs):
        return double(inputs), scale(state)
'''
HELPER = "def scale(x):\n    return 3 * x\n\n\ndef other(x):\n    return x\n"


@pytest.fixture
def hash_of(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def compute(source: str, helper: str = HELPER) -> str:
        (tmp_path / "helper.py").write_text(helper)
        path = tmp_path / "example_learner.py"
        path.write_text(source)
        for name in ("helper", "example_learner"):
            sys.modules.pop(name, None)
        _parse.cache_clear()
        importlib.invalidate_caches()
        spec = importlib.util.spec_from_file_location("example_learner", path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "example_learner", module)
        exec(compile(source, str(path), "exec"), module.__dict__)
        return learner_hash(module.Example)

    return compute


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""Docs."""', '"""Better docs."""'),
        ('    """Doubles."""\n', ""),
        ("# twice", "# two times"),
        ("FACTOR * x ", "(FACTOR *\n            x)"),
        ("UNUSED = 3.0", "UNUSED = 4.0"),
        ('{"example": NoConfig()}', '{"example": NoConfig(), "another": NoConfig()}'),
        ("    variants =", '    source = "a paper"\n    variants ='),
        ("    variants =", '    fast_code = "helper:other"\n    variants ='),
    ],
)
def test_tidying_leaves_the_hash(hash_of, before, after):
    assert before in SOURCE
    assert hash_of(SOURCE) == hash_of(SOURCE.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("FACTOR = 2.0", "FACTOR = 2.5"),
        ("FACTOR * x", "FACTOR + x"),
        ("    variants =", "    fixed_shape = None\n    variants ="),
        ("return double(inputs), scale(state)", "return double(inputs), state"),
    ],
)
def test_changed_behaviour_changes_the_hash(hash_of, before, after):
    assert hash_of(SOURCE) != hash_of(SOURCE.replace(before, after))


def test_a_helper_beside_the_file_counts_as_far_as_it_is_used(hash_of):
    assert hash_of(SOURCE) != hash_of(SOURCE, HELPER.replace("3 * x", "4 * x"))
    assert hash_of(SOURCE) == hash_of(SOURCE, HELPER.replace("return x", "return -x"))


def test_vsml_reaches_its_equations():
    from vsml_bench import source_hash
    from vsml_bench.vsml import sub_rnn

    reached: dict[tuple[str, str], str] = {}
    import inspect
    from pathlib import Path

    source_hash._reach(Path(inspect.getfile(VSML)), "VSML", reached)
    names = {name for _, name in reached}
    assert {"SubRNN", "DenseLayer", "fast_tanh", "FORGET_OFFSET", "cross_entropy_error"} <= names
    assert not {"Recipe", "TuningGrid"} & names, "declarations have hashes of their own"
    assert sub_rnn.FORGET_OFFSET == 5.0
