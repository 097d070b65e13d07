"""The ablations of VSML: nothing changed is VSML to the bit, and each change is the one it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.runners import CPU, on_cpu
from tests.vsml.comparison import noise_stream, with_large_meta_parameters
from tests.vsml.textbook import textbook_logits
from vsml_bench.contract.subject import Subject
from vsml_bench.contract.suite import run_check
from vsml_bench.learner import Learner, Shape
from vsml_bench.learner_entry import LearnerEntry
from vsml_bench.registry import find_learners, learners
from vsml_bench.studies.ablations import ABLATIONS, DEFAULT
from vsml_bench.studies.ablations.learner import (
    Ablation,
    AblationConfig,
    LabelAblation,
    SumAblation,
)
from vsml_bench.vsml.fast import Lifetimes, fast_code, library
from vsml_bench.vsml.variants import VSML, VSMLConfig

pytestmark = pytest.mark.usefixtures("one_thread")

ENTRIES = {entry.name: entry for entry in find_learners("vsml_bench.studies.ablations.learner")}
SHAPE = Shape((1, 2, 3), 4)
LIFETIMES, STEPS = 2, 6

every_ablation = pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.name)


def run(learner: Learner, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Logits [T, E, K] from fresh states of a fixed seed."""
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    return learner.unroll(state, inputs.to(dtype), labels)[0]


def fresh_cell(config: AblationConfig) -> torch.Tensor:
    """C of a fresh state [E, A, B, N]."""
    state = Ablation(config).init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    return state.layers[0].cell[:, 0]


def test_the_table_of_ablations_has_them_all() -> None:
    changed = [name for ablation in ABLATIONS for name in ablation.changed]
    assert sorted([DEFAULT, *changed]) == sorted(ENTRIES) and len(set(changed)) == len(changed)
    assert not set(ENTRIES) & set(learners()), "they would crowd the list"


@every_ablation
def test_it_fits_the_harness(entry: LearnerEntry) -> None:
    assert entry.probe()["meta_parameters"] > 0
    assert entry.cls.recipe == Ablation.recipe


@pytest.mark.parametrize("check", ["label leak", "unroll and loop", "meta-gradient", "population"])
@pytest.mark.parametrize("name", [DEFAULT, "ablation-label", "ablation-sum", "ablation-n-8"])
def test_it_keeps_the_contract(name: str, check: str) -> None:
    result = run_check(check, Subject(ENTRIES[name]))
    assert result.outcome != "failed", result.reason


def test_nothing_changed_is_vsml_to_the_bit() -> None:
    ablation, vsml = ENTRIES[DEFAULT].create(7), VSML(VSMLConfig())
    vsml.init_meta_parameters(torch.Generator().manual_seed(7))
    for own, other in zip(ablation.parameters(), vsml.parameters(), strict=True):
        assert torch.equal(own, other)
    found, expected = run(ablation), run(vsml)
    assert torch.equal(found, expected)
    for logits in (found, expected):
        logits.square().sum().backward()
    for own, other in zip(ablation.parameters(), vsml.parameters(), strict=True):
        assert (own.grad is None) == (other.grad is None)
        assert own.grad is None or other.grad is None or torch.equal(own.grad, other.grad)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        *((name, True) for name in (DEFAULT, "ablation-ticks-3", "ablation-offsets-0")),
        *((name, False) for name in ("ablation-sum", "ablation-label", "ablation-messages-4")),
    ],
)
@pytest.mark.skipif(library.load() is None, reason="no C++ compiler for the kernel")
def test_what_the_hand_written_code_can_take_it_takes(name: str, whole: bool) -> None:
    learner = ENTRIES[name].create(0)
    found = fast_code(learner, CPU, 0)
    assert isinstance(found, Lifetimes if whole else Ablation)
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    state = learner.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    runner = on_cpu(learner)
    logits, _ = runner.unroll(state, inputs.float(), labels)
    torch.testing.assert_close(logits, run(learner), rtol=1e-4, atol=1e-5)
    assert runner.fast is not None and runner.fast.in_use


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_random_share_of_a_fresh_state(share: float) -> None:
    cell = fresh_cell(AblationConfig(random_share=share))
    drawn = round(16 * share)
    assert (cell[..., :drawn] != 0).all() and (cell[..., drawn:] == 0).all()
    if drawn:
        assert cell[..., :drawn].std() == pytest.approx(0.88 / 6**0.5, rel=0.2)  # cut at 2 std
        assert not torch.equal(cell[0], cell[1])
    assert (fresh_cell(AblationConfig())[..., :8] != 0).all()


def test_offsets_are_those_of_the_gates() -> None:
    """A bias moved by the change of an offset is the offset changed."""
    ablation, default = (ENTRIES[name].create(7) for name in ("ablation-offsets-1", DEFAULT))
    biases = [learner.get_parameter("sub_rnns.0.gates_bias") for learner in (ablation, default)]
    i, g, f, o = (biases[0] - biases[1]).chunk(4)
    assert (i == 4).all() and (f == -4).all() and not g.any() and not o.any()


def test_sums_are_means_times_their_number() -> None:
    """With heads divided by the six inputs, the logits of sums are those of means."""
    mean = with_large_meta_parameters(VSML(VSMLConfig()))
    summed = SumAblation(AblationConfig()).double()
    summed.load_state_dict(mean.state_dict())
    assert not torch.allclose(run(summed, torch.float64), run(mean, torch.float64))
    with torch.no_grad():
        for parameter in summed.sub_rnns[0].forward_head.parameters():  # type: ignore[union-attr]
            parameter.div_(6)
    torch.testing.assert_close(run(summed, torch.float64), run(mean, torch.float64))


def test_the_label_takes_the_place_of_the_error() -> None:
    """Against VSML step by step, with the one-hot label put where the error would be."""
    label = with_large_meta_parameters(LabelAblation(AblationConfig()))
    vsml = with_large_meta_parameters(VSML(VSMLConfig()))
    vsml.load_state_dict(label.state_dict())
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    state = vsml.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    expected = []
    for x, y in zip(inputs, labels, strict=True):
        logits, state = vsml.predict(state, x)
        expected.append(logits)
        top = torch.zeros_like(state.feedback[0])
        top[:, 0, :, 0] = nn.functional.one_hot(y, 4)
        state = state._replace(feedback=(top,))
    torch.testing.assert_close(run(label, torch.float64), torch.stack(expected))
    assert not torch.allclose(run(label, torch.float64), run(vsml, torch.float64))


def test_the_message_size_of_one_layer_touches_fresh_weights_only() -> None:
    """Equal weights on the channels in use give equal logits, whatever M is."""
    small = with_large_meta_parameters(Ablation(AblationConfig(VSMLConfig(message_size=4))))
    large = with_large_meta_parameters(Ablation(AblationConfig(VSMLConfig(message_size=16))))
    own = dict(large.named_parameters())
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            own[name][tuple(slice(size) for size in parameter.shape)] = parameter
    torch.testing.assert_close(run(small, torch.float64), run(large, torch.float64))
    inputs, labels = noise_stream(SHAPE, STEPS, LIFETIMES)
    state = small.init_state(LIFETIMES, SHAPE, torch.Generator().manual_seed(3))
    textbook = textbook_logits(small, state, inputs, labels)
    torch.testing.assert_close(run(small, torch.float64), textbook)
