"""What every learner of the VSML family has to keep, whatever it computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils import _pytree as pytree

from tests.baselines.streams import double_precision, fresh_state, loop, make_stream
from vsml_bench.learner import BPTT, Shape
from vsml_bench.learner_entry import LearnerEntry
from vsml_bench.registry import learners
from vsml_bench.vsml.variants import VSML

ENTRIES = [entry for entry in learners().values() if entry.cls.family == "VSML"]
LIFETIMES, STEPS = 3, 8
SIZES = ("state_size", "message_size", "ticks", "hidden", "conv", "batch")

every_variant = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def setting(entry: LearnerEntry):
    """The learner with meta-parameters large enough to matter, its fresh state and a stream."""
    learner = entry.create(0).double()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.mul_(2.0)
    shape = learner.fixed_shape or Shape((1, 5, 4), 4)
    inputs, labels = make_stream(shape, STEPS, LIFETIMES)
    return learner, shape, inputs, labels


def test_the_family_is_complete():
    meta_parameters = {
        entry.name: sum(p.numel() for p in entry.create().parameters()) for entry in ENTRIES
    }
    assert meta_parameters == {
        "vsml": 2_384,
        "vsml-label-fed": 2_384,
        "vsml-random-features": 2_384,
        "vsml-deep": 2_384,
        "vsml-layer-norm": 2_416,  # scale and offset of 8 channels, twice
        "vsml-backward-pass": 2_384,
        "vsml-conv": 2_384,
        "vsml-conv-deep": 2_384,
        "vsml-deep-released": 2_416,
        "vsml-omniglot-released": 2_384,
        "vsml-conv-released": 2_416,
        "vsml-conv-deep-released": 2_416,
        "vsml-es": 2_384,
        "vsml-label": 2_512,
        "vsml-no-symmetry": 490 * 2_384,
    }


@every_variant
def test_it_is_described_and_can_be_meta_trained(entry: LearnerEntry):
    assert entry.probe()["meta_parameters"] > 0
    assert entry.cls.source and entry.cls.__doc__
    recipe = entry.cls.recipe
    assert recipe is not None
    if isinstance(recipe.engine, BPTT):
        assert recipe.examples <= VSML.recipe.examples, "none costs less per example than vsml"
    assert (recipe.size is None) == (entry.create().fixed_shape is not None)


@every_variant
def test_unroll_is_the_loop_and_knows_neither_label_nor_future(entry: LearnerEntry):
    with double_precision(), torch.no_grad():
        learner, shape, inputs, labels = setting(entry)
        state = fresh_state(learner, LIFETIMES, shape)
        before = [part.clone() for part in pytree.tree_leaves(state)]
        logits, _ = learner.unroll(state, inputs, labels)
        torch.testing.assert_close(logits, loop(learner, state, inputs, labels)[0])
        assert all(map(torch.equal, before, pytree.tree_leaves(state))), "states are values"
        now = 3
        other_inputs, other_labels = inputs.clone(), labels.clone()
        other_inputs[now + 1 :] *= -2
        other_labels[now:] = (labels[now:] + 1) % shape.classes
        after, _ = learner.unroll(state, other_inputs, other_labels)
    assert torch.equal(logits[: now + 1], after[: now + 1])
    assert not torch.allclose(logits[now + 1 :], after[now + 1 :])


@every_variant
def test_lifetimes_side_by_side_are_the_lifetimes_alone(entry: LearnerEntry):
    with double_precision(), torch.no_grad():
        learner, shape, inputs, labels = setting(entry)
        alone = [fresh_state(learner, 1, shape, seed) for seed in range(LIFETIMES)]
        joined = pytree.tree_map(lambda *parts: torch.cat(parts), *alone)
        together, _ = learner.unroll(joined, inputs, labels)
        for index, state in enumerate(alone):
            chosen = slice(index, index + 1)
            logits, _ = learner.unroll(state, inputs[:, chosen], labels[:, chosen])
            torch.testing.assert_close(together[:, chosen], logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("entry", "size"),
    [(entry, size) for entry in ENTRIES for size in SIZES if hasattr(entry.config, size)],
    ids=lambda value: getattr(value, "name", value),
)
def test_sizes_below_one_are_refused(entry: LearnerEntry, size: str):
    wrong = (3, 0) if size in ("hidden", "conv") else 0
    with pytest.raises(ValueError, match=f"^{size}: expected at least 1, found "):
        entry.cls(replace(entry.config, **{size: wrong}))


@every_variant
def test_what_it_was_told_reaches_the_next_prediction(entry: LearnerEntry):
    """The gradient of a later logit reaches every meta-parameter that can matter by then."""
    with double_precision():
        learner, shape, inputs, labels = setting(entry)
        state = fresh_state(learner, LIFETIMES, shape)
        logits, _ = learner.unroll(state, inputs, labels)
        logits[-1].square().sum().backward()
    for name in ("gates_from_forward", "gates_from_backward", "gates_from_hidden", "gates_bias"):
        reached = [p.grad for n, p in learner.named_parameters() if n.endswith(name)]
        assert reached and all(g is not None and g.abs().max() > 0 for g in reached)
