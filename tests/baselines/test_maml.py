"""MAML and Meta-SGD against gradients worked out by hand, autograd in a loop, and learn2learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot

from baselines.maml import MAML, SHAPE, ConvConfig, ConvMAML, MLPConfig, ModelAgnostic
from baselines.maml_learn2learn import Learn2LearnMAML, ReferenceConfig
from tests.baselines.streams import double_precision, fresh_state, generator
from vsml_bench import execution
from vsml_bench.execution import without_gradients
from vsml_bench.registry import find_learner

TASKS, SUPPORT, QUERIES, CLASSES = 3, 4, 2, 5


def dense(**config: Any) -> MAML:
    learner = MAML(MLPConfig(**{"hidden": (7,), **config}))
    learner.init_meta_parameters(generator(4))
    return learner


def convolutional(**config: Any) -> ConvMAML:
    learner = ConvMAML(ConvConfig(**{"filters": 3, **config}))
    learner.init_meta_parameters(generator(4))
    return learner


def start_of(learner: ModelAgnostic) -> dict[str, Tensor]:
    """theta by name."""
    return {name: p for name, p in learner.network.named_parameters()}


def tasks(seed: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support inputs [S, E, 1, 28, 28] and labels [S, E], and queries likewise."""
    source = generator(seed)
    inputs = 0.3 * torch.randn(SUPPORT + QUERIES, TASKS, *SHAPE.inputs, generator=source)
    labels = torch.randint(CLASSES, (SUPPORT + QUERIES, TASKS), generator=source)
    return inputs[:SUPPORT], labels[:SUPPORT], inputs[SUPPORT:], labels[SUPPORT:]


def few_shot_loss(learner: Any) -> Tensor:
    """Mean query loss after adapting, through the learner's own methods."""
    support, support_labels, queries, query_labels = tasks()
    state = learner.adapt(fresh_state(learner, TASKS, SHAPE), support, support_labels)
    logits = torch.stack([learner.predict(state, query)[0] for query in queries])
    return cross_entropy(logits.flatten(0, 1), query_labels.flatten())


def online_loss(learner: Any) -> Tensor:
    """Mean loss of the predictions of a lifetime."""
    inputs, labels, _, _ = tasks()
    logits, _ = learner.unroll(fresh_state(learner, TASKS, SHAPE), inputs, labels)
    return cross_entropy(logits.flatten(0, 1), labels.flatten())


def meta_gradient(learner: Any, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(learner.parameters())))


def looped_inner_step(
    learner: ModelAgnostic, weights: dict[str, Tensor], x: Tensor, y: Tensor, alpha: float
) -> dict[str, Tensor]:
    """One task's step by plain autograd."""
    second_order = not learner.config.first_order
    loss = cross_entropy(functional_call(learner.network, weights, (x,)), y)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=second_order)
    factors: list[Any] = list(learner.rates) or [1.0] * len(weights)
    steps = zip(weights.items(), factors, gradients, strict=True)
    return {name: w - alpha * factor * g for (name, w), factor, g in steps}


def looped_few_shot_loss(learner: ModelAgnostic) -> Tensor:
    """The same as `few_shot_loss`, task by task."""
    support, support_labels, queries, query_labels = tasks()
    losses = []
    for task in range(TASKS):
        weights = start_of(learner)
        for _ in range(learner.config.inner_steps):
            x, y = support[:, task], support_labels[:, task]
            weights = looped_inner_step(learner, weights, x, y, learner.config.inner_rate)
        logits = functional_call(learner.network, weights, (queries[:, task],))
        losses.append(cross_entropy(logits, query_labels[:, task]))
    return torch.stack(losses).mean()


def looped_online_loss(learner: ModelAgnostic) -> Tensor:
    """The same as `online_loss`, task by task."""
    inputs, labels, _, _ = tasks()
    losses = []
    for task in range(TASKS):
        weights = start_of(learner)
        for x, y in zip(inputs[:, task, None], labels[:, task, None], strict=True):
            losses.append(cross_entropy(functional_call(learner.network, weights, (x,)), y))
            weights = looped_inner_step(learner, weights, x, y, learner.config.online_rate)
    return torch.stack(losses).mean()


LEARNERS = {
    "dense": lambda: dense(inner_steps=2),
    "dense, first order": lambda: dense(inner_steps=2, first_order=True),
    "dense, learned rates": lambda: dense(inner_steps=2, learned_rates=True),
    "convolutional": lambda: convolutional(inner_steps=2, online_rate=0.2),
    "convolutional, first order": lambda: convolutional(inner_steps=3, first_order=True),
}
PROTOCOLS = {
    "few-shot": (few_shot_loss, looped_few_shot_loss),
    "online": (online_loss, looped_online_loss),
}
every_learner = pytest.mark.parametrize("make", LEARNERS.values(), ids=LEARNERS.keys())
every_protocol = pytest.mark.parametrize("losses", PROTOCOLS.values(), ids=PROTOCOLS.keys())


@every_learner
@every_protocol
def test_it_is_autograd_task_by_task(make: Any, losses: Any):
    with double_precision():
        learner = make()
        loss, expected = (compute(learner) for compute in losses)
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
        gradients = meta_gradient(learner, loss)
        for ours, theirs in zip(gradients, meta_gradient(learner, expected), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


@every_protocol
@pytest.mark.parametrize("config", [{}, {"learned_rates": True}], ids=["maml", "meta-sgd"])
def test_the_meta_gradient_is_the_slope_of_the_meta_loss(losses: Any, config: dict[str, Any]):
    """Central differences along the gradient and along a random direction."""
    compute, step = losses[0], 1e-5
    with double_precision():
        learner = dense(inner_steps=2, online_rate=0.05, **config)
        gradients = meta_gradient(learner, compute(learner))
        assert all(gradient.abs().sum() > 0 for gradient in gradients)
        source = generator(8)
        random = [torch.randn(g.shape, generator=source) for g in gradients]
        for direction in (gradients, random):
            slopes = []
            for sign in (1, -1):
                moved = dense(inner_steps=2, online_rate=0.05, **config)
                with torch.no_grad():
                    for p, d in zip(moved.parameters(), direction, strict=True):
                        p.add_(sign * step * d)
                    slopes.append(sign * compute(moved) / (2 * step))
            expected = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
            torch.testing.assert_close(sum(slopes), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
def test_two_steps_of_softmax_regression_by_hand(first_order: bool):
    """L(W) = CE(W x, y) has G(W) = (p - onehot(y)) x^T and, for a direction V, the Hessian product
    H V = J (V x) x^T with J = diag(p) - p p^T; the meta-gradient of W2 = W1 - a G(W1), W1 = W0 -
    a G(W0) is (1 - a H(W0)) (1 - a H(W1)) G'(W2)."""
    alpha = 0.3
    with double_precision():
        learner = dense(hidden=(), inner_steps=2, inner_rate=alpha, first_order=first_order)
        support, support_labels, queries, query_labels = tasks()
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.mul_(3)
        state = learner.adapt(fresh_state(learner, TASKS, SHAPE), support[:1], support_labels[:1])
        logits, _ = learner.predict(state, queries[0])
        ours = meta_gradient(learner, cross_entropy(logits, query_labels[0]))
        expected = torch.zeros(SHAPE.classes, SHAPE.features + 1)
        for task in range(TASKS):
            # the bias is the weight of a constant input
            x = torch.cat([support[0, task].flatten(), torch.ones(1)])
            query = torch.cat([queries[0, task].flatten(), torch.ones(1)])
            weight, bias = (parameter.detach() for parameter in learner.parameters())
            w = torch.cat([weight, bias[:, None]], 1)
            probabilities = []
            for _ in range(2):
                p = (w @ x).softmax(0)
                probabilities.append(p)
                w = w - alpha * torch.outer(p - one_hot(support_labels[0, task], len(p)), x)
            q = (w @ query).softmax(0)
            gradient = torch.outer(q - one_hot(query_labels[0, task], len(q)), query)
            for p in [] if first_order else reversed(probabilities):
                z = gradient @ x
                gradient = gradient - alpha * torch.outer(p * z - p * (p @ z), x)
            expected += gradient / TASKS
        torch.testing.assert_close(ours[0], expected[:, :-1], rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(ours[1], expected[:, -1], rtol=1e-8, atol=1e-12)


def test_first_and_second_order_adapt_alike_and_differ_in_the_meta_gradient():
    with double_precision():
        second, first = (dense(inner_steps=2, first_order=order) for order in (False, True))
        losses = [few_shot_loss(second), few_shot_loss(first)]
        assert torch.equal(*losses)
        gradients = [meta_gradient(second, losses[0]), meta_gradient(first, losses[1])]
        assert not torch.allclose(gradients[0][0], gradients[1][0], rtol=1e-3, atol=0)


def test_with_all_rates_equal_meta_sgd_is_maml():
    plain, learned = dense(), dense(learned_rates=True)
    assert torch.equal(few_shot_loss(plain), few_shot_loss(learned))
    with torch.no_grad():
        for factor in learned.rates:
            factor.fill_(0.5)
    halved = dense(inner_rate=plain.config.inner_rate / 2)
    torch.testing.assert_close(few_shot_loss(learned), few_shot_loss(halved))


def test_the_order_of_a_support_set_means_nothing():
    learner = dense()
    support, labels, _, _ = tasks()
    state = fresh_state(learner, TASKS, SHAPE)
    one = learner.adapt(state, support, labels)
    other = learner.adapt(state, support.flip(0), labels.flip(0))
    torch.testing.assert_close(one.weights, other.weights)


def test_the_networks_of_the_board():
    sizes = {
        name: [tuple(p.shape) for p in cls(config).network.parameters()]
        for cls in (MAML, ConvMAML)
        for name, config in cls.variants.items()
    }
    mlp = [(64, 784), (64,), (62, 64), (62,)]
    block = [(32, 32, 3, 3), (32,), (32,), (32,)]
    conv = [(32, 1, 3, 3), (32,), (32,), (32,), *block * 3, (62, 4 * 32), (62,)]
    assert sizes == {
        **dict.fromkeys(("maml", "fomaml", "meta-sgd"), mlp),
        **dict.fromkeys(("maml-conv", "fomaml-conv", "meta-sgd-conv"), conv),
    }


def test_compiled_is_eager():
    """As meta-training and evaluation run it, the meta-gradient included."""
    learner, compiled = (dense(online_rate=0.02, learned_rates=True) for _ in range(2))
    torch.compiler.reset()
    compiled.compile(dynamic=False)
    losses = [online_loss(learner), online_loss(compiled)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    gradients = [
        meta_gradient(one, loss) for one, loss in zip((learner, compiled), losses, strict=True)
    ]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)


REFERENCE = find_learner("maml-learn2learn")
needs_learn2learn = pytest.mark.skipif(bool(REFERENCE.unavailable), reason=REFERENCE.unavailable)


def reference_of(learner: ModelAgnostic) -> Learn2LearnMAML:
    """learn2learn's MAML on the same network with the same weights, rates and steps."""
    own, shared = learner.config, ("online_rate", "inner_rate", "inner_steps", "first_order")
    network = (
        {"filters": (own.filters,) * 4} if isinstance(own, ConvConfig) else {"hidden": own.hidden}
    )
    config = ReferenceConfig(**{name: getattr(own, name) for name in shared}, **network)
    reference = Learn2LearnMAML(config)
    reference.network.load_state_dict(learner.network.state_dict())
    return reference


PARITY = {
    f"{kind}, {order} order": (make, order == "first")
    for kind, make in (("dense", dense), ("convolutional", convolutional))
    for order in ("first", "second")
}


@needs_learn2learn
@every_protocol
@pytest.mark.parametrize(("make", "first_order"), PARITY.values(), ids=PARITY.keys())
def test_it_is_learn2learn(make: Any, first_order: bool, losses: Any):
    """Adapted weights, predictions and meta-gradient, in float32, to 1e-5."""
    learner = make(inner_steps=2, online_rate=0.05, first_order=first_order)
    reference = reference_of(learner)
    support, labels, _, _ = tasks()
    compute = losses[0]
    states = []
    for one in (learner, reference):
        state = fresh_state(one, TASKS, SHAPE)
        if compute is few_shot_loss:
            states.append(one.adapt(state, support, labels))
        else:
            states.append(one.unroll(state, support, labels)[1])
    torch.testing.assert_close(states[0].weights, states[1].weights, rtol=0, atol=1e-5)
    ours, theirs = (meta_gradient(one, compute(one)) for one in (learner, reference))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert max(gradient.abs().max() for gradient in theirs) > 1e-3


@pytest.mark.parametrize("as_in_old_releases", [False, True])
def test_it_adapts_in_an_evaluation(as_in_old_releases, monkeypatch):
    """In inference mode, `torch.func.grad` of PyTorch 2.11 returns zeros."""
    if as_in_old_releases:
        monkeypatch.setattr(execution, "_differentiates_in_inference_mode", lambda: False)
    learner = dense(inner_steps=2)
    expected = [few_shot_loss(learner), online_loss(learner)]
    with without_gradients():
        assert not torch.is_grad_enabled()
        assert not (as_in_old_releases and torch.is_inference_mode_enabled())
        found = [few_shot_loss(learner), online_loss(learner)]
    torch.testing.assert_close(found, [loss.detach() for loss in expected])


@needs_learn2learn
def test_the_reference_adapts_where_gradients_are_off():
    """As in an evaluation, in which learn2learn alone could not adapt."""
    reference = reference_of(dense(inner_steps=2))
    expected = [few_shot_loss(reference), online_loss(reference)]
    for mode in (torch.no_grad, without_gradients):
        with mode():
            found = [few_shot_loss(reference), online_loss(reference)]
        torch.testing.assert_close(found, [loss.detach() for loss in expected])


def test_the_reference_has_the_networks_of_the_board():
    for name, counterpart in (
        ("maml-learn2learn", MAML(MAML.variants["maml"])),
        ("maml-conv-learn2learn", ConvMAML(ConvMAML.variants["maml-conv"])),
    ):
        reference = Learn2LearnMAML(Learn2LearnMAML.variants[name])
        reference.network.load_state_dict(counterpart.network.state_dict())
        assert repr(reference.network) == repr(counterpart.network)
        assert isinstance(reference.network, nn.Sequential)
