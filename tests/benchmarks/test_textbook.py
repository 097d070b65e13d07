"""The form of VSML that speed is compared with computes the same as the tests' oracle."""

from __future__ import annotations

import torch

from benchmarks.textbook import textbook_unroll
from tests.vsml.comparison import (
    assert_same_outputs_and_meta_gradients,
    noise_stream,
    with_large_meta_parameters,
)
from tests.vsml.textbook import textbook_logits
from vsml_bench.learner import Shape
from vsml_bench.vsml.variants import VSML, VSMLConfig


def test_batched_textbook_form_equals_the_oracle():
    learner = with_large_meta_parameters(VSML(VSMLConfig()))
    inputs, labels = noise_stream(Shape((4,), 3), 6, 2)
    state = learner.init_state(2, Shape((4,), 3), torch.Generator().manual_seed(3))
    assert_same_outputs_and_meta_gradients(
        learner,
        lambda: textbook_unroll(learner, state, inputs, labels)[0],
        lambda: textbook_logits(learner, state, inputs, labels),
        labels,
    )
