"""Seeds: distinct per stream, stable, and 0 is a seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vsml_bench.seeds import derive_seed, generator

AXES = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 10**6)), max_size=4)


def test_known_value():
    # int.from_bytes(sha256(b'[0,"meta-train",1]')[:8]) >> 1, computed with Python's hashlib
    import hashlib

    expected = int.from_bytes(hashlib.sha256(b'[0,"meta-train",1]').digest()[:8], "big") >> 1
    assert derive_seed(0, "meta-train", 1) == expected


@given(st.integers(0, 2**63 - 1), AXES, AXES)
def test_different_axes_give_different_seeds(root, first, second):
    if first != second:
        assert derive_seed(root, *first) != derive_seed(root, *second)
    assert 0 <= derive_seed(root, *first) < 2**63


def test_repetitions_have_distinct_seeds():
    seeds = {derive_seed(0, "meta-test", index) for index in range(1000)}
    assert len(seeds) == 1000
    assert derive_seed(0, "x") != derive_seed(1, "x")


def test_axes_are_not_merely_joined():
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab") != derive_seed(0, "a,b")
    assert derive_seed(0, 1) != derive_seed(0, "1")


def test_generator_zero_is_seeded():
    import torch

    assert torch.equal(torch.rand(3, generator=generator(0)), torch.rand(3, generator=generator(0)))
