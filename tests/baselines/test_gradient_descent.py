"""SGD and Adam against torch.optim with autograd, one lifetime after the other."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

from baselines.gradient_descent import (
    SGD,
    Adam,
    AdamConfig,
    AsInVSMLPaper,
    GradientDescent,
    PaperAdam,
    PaperSGD,
    SGDConfig,
)
from tests.baselines.streams import double_precision, fresh_state, make_stream
from vsml_bench.learner import Shape

SHAPE = Shape((1, 3, 2), 4)
LIFETIMES, STEPS = 3, 25

LEARNERS: dict[str, GradientDescent] = {
    "sgd linear": SGD(SGDConfig(learning_rate=0.3)),
    "sgd, one hidden layer": SGD(SGDConfig(hidden=(5,), learning_rate=0.1)),
    "sgd, three hidden layers": SGD(SGDConfig(hidden=(5, 3, 4), learning_rate=0.2)),
    "adam linear": Adam(AdamConfig(learning_rate=0.02)),
    "adam, two hidden layers": Adam(AdamConfig(hidden=(5, 3), learning_rate=0.01)),
    "adam, other constants": Adam(
        AdamConfig(hidden=(5,), learning_rate=0.02, beta1=0.5, beta2=0.9, epsilon=1e-2)
    ),
    "sgd as in the VSML paper": PaperSGD(SGDConfig(hidden=(5,), learning_rate=20.0)),
    "adam as in the VSML paper": PaperAdam(AdamConfig(learning_rate=3.0)),
}


def textbook_model(learner: GradientDescent, state, lifetime: int) -> nn.Sequential:
    """torch's own layers, with the initial weights of one lifetime."""
    widths = (SHAPE.features, *learner.config.hidden, SHAPE.classes)
    model = nn.Sequential(nn.Flatten())
    for depth in range(len(widths) - 1):
        if depth > 0:
            model.append(nn.Tanh())
        layer = nn.Linear(widths[depth], widths[depth + 1])
        with torch.no_grad():
            layer.weight.copy_(state.parameters[2 * depth][lifetime])
            layer.bias.copy_(state.parameters[2 * depth + 1][lifetime])
        model.append(layer)
    if isinstance(learner, AsInVSMLPaper):
        model.append(Bound())
    return model


class Bound(nn.Module):
    """100 tanh(z / 100), which autograd differentiates."""

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return 100 * torch.tanh(outputs / 100)


def textbook_optimizer(learner: GradientDescent, model: nn.Module) -> torch.optim.Optimizer:
    config = learner.config
    if isinstance(config, AdamConfig):
        betas = (config.beta1, config.beta2)
        return torch.optim.Adam(
            model.parameters(), lr=config.learning_rate, betas=betas, eps=config.epsilon
        )
    return torch.optim.SGD(model.parameters(), lr=config.learning_rate)


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS.keys())
def test_it_is_torch_optim_on_torch_layers(learner: GradientDescent):
    with double_precision():
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        logits, last = learner.unroll(state, inputs, labels)
        for lifetime in range(LIFETIMES):
            model = textbook_model(learner, state, lifetime)
            optimizer = textbook_optimizer(learner, model)
            for step in range(STEPS):
                output = model(inputs[step, lifetime : lifetime + 1])
                torch.testing.assert_close(logits[step, lifetime], output[0], rtol=0, atol=1e-9)
                optimizer.zero_grad()
                nn.functional.cross_entropy(
                    output, labels[step, lifetime : lifetime + 1]
                ).backward()
                optimizer.step()
            for ours, theirs in zip(last.parameters, model.parameters(), strict=True):
                torch.testing.assert_close(ours[lifetime], theirs.detach(), rtol=0, atol=1e-9)
        assert last.steps.tolist() == [STEPS] * LIFETIMES
        assert logits.abs().max() > (50 if isinstance(learner, AsInVSMLPaper) else 0)


def test_the_networks_of_the_board():
    """Softmax regression, and two layers of weights around 160 tanh units."""
    sizes = {}
    for cls in (SGD, Adam, PaperSGD, PaperAdam):
        for name, config in cls.variants.items():
            state = fresh_state(cls(config), 1, Shape((1, 28, 28), 10))
            sizes[name] = [tuple(p.shape[1:]) for p in state.parameters]
    linear = [(10, 784), (10,)]
    mlp = [(160, 784), (160,), (10, 160), (10,)]
    assert sizes == {
        "sgd-linear": linear,
        "sgd-mlp": mlp,
        "adam-linear": linear,
        "adam-mlp": mlp,
        "sgd-linear-paper": linear,
        "sgd-mlp-paper": mlp,
        "adam-linear-paper": linear,
        "adam-mlp-paper": mlp,
    }


def test_the_papers_rates_are_fixed_and_its_start_is_a_truncated_normal():
    """Rates 0.01 and 0.001; std 0.88/sqrt(fan in), which a cut at two deviations leaves; b = 0."""
    for cls, rate in ((PaperSGD, 0.01), (PaperAdam, 0.001)):
        assert cls.tuning is None
        assert {config.learning_rate for config in cls.variants.values()} == {rate}
    state = fresh_state(PaperSGD(SGDConfig(hidden=(64,))), 100, Shape((784,), 10))
    first, first_bias, second, second_bias = state.parameters
    assert not first_bias.any() and not second_bias.any()
    for weight, inputs in ((first, 784), (second, 64)):
        assert weight.abs().max() <= 2 / math.sqrt(inputs)
        assert weight.std() == pytest.approx(stats.truncnorm(-2, 2).std() / math.sqrt(inputs), 0.02)
        assert len(weight.flatten(1).unique(dim=0)) == 100
    assert first.std() == pytest.approx(0.031, abs=5e-4)


def test_fresh_weights_are_those_of_torch_layers():
    """Uniform in +-1/sqrt(fan in), weights and biases, all lifetimes different."""
    state = fresh_state(SGD(SGDConfig(hidden=(64,))), 200, Shape((25,), 3))
    for parameter, inputs in zip(state.parameters, (25, 25, 64, 64), strict=True):
        bound = 1 / math.sqrt(inputs)
        values = parameter.flatten()
        assert values.abs().max() <= bound
        assert values.abs().max() > 0.98 * bound
        assert abs(values.mean()) < 5 * bound / math.sqrt(3 * len(values))
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert len(parameter.flatten(1).unique(dim=0)) == 200


def test_adam_moves_by_its_learning_rate_at_first():
    """Whatever the gradient's size, in float32 as well: both corrections are exact there."""
    learner = Adam(AdamConfig(learning_rate=0.01))
    inputs, labels = make_stream(SHAPE, 1, LIFETIMES)
    state = fresh_state(learner, LIFETIMES, SHAPE)
    _, last = learner.unroll(state, inputs, labels)
    for before, after in zip(state.parameters, last.parameters, strict=True):
        torch.testing.assert_close((after - before).abs(), torch.full_like(before, 0.01))


@pytest.mark.parametrize("name", ["sgd, one hidden layer", "adam, two hidden layers"])
def test_compiled_is_eager(name: str):
    """In one piece and once: a second compilation, at a later step, is an error."""
    learner = LEARNERS[name]
    compiled = type(learner)(learner.config)
    torch.compiler.reset()
    compiled.compile(dynamic=False, fullgraph=True)
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        inputs, labels = make_stream(SHAPE, STEPS, LIFETIMES)
        state = fresh_state(learner, LIFETIMES, SHAPE)
        expected, expected_last = learner.unroll(state, inputs, labels)
        logits, last = compiled.unroll(state, inputs, labels)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last.parameters, expected_last.parameters, rtol=1e-4, atol=1e-5)
