"""Both sides of a case of the speed table compute the same, and its rows say what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import vsml_cases
from benchmarks.case import Case, Run
from benchmarks.growth import slope
from benchmarks.learner_cases import gpicl_lifetime
from benchmarks.speed import Timings, as_markdown, parser, publish, row
from tests.vsml.comparison import (
    assert_same_outputs_and_meta_gradients,
    noise_stream,
    with_large_meta_parameters,
)
from tests.vsml.textbook import textbook_logits
from vsml_bench import paths
from vsml_bench.learner import Shape
from vsml_bench.vsml.variants import VSML, VSMLConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "config", [VSMLConfig(), VSMLConfig(hidden=(5,), layer_norm=True, feed_label=True)]
)
def test_batched_textbook_form_equals_the_oracle(config):
    learner = with_large_meta_parameters(VSML(config))
    inputs, labels = noise_stream(Shape((4,), 3), 6, 2)
    state = learner.init_state(2, Shape((4,), 3), torch.Generator().manual_seed(3))
    assert_same_outputs_and_meta_gradients(
        learner,
        lambda: vsml_cases.textbook_unroll(learner, state, inputs, labels)[0],
        lambda: textbook_logits(learner, state, inputs, labels),
        labels,
    )


@pytest.mark.parametrize("name", ["vsml", "deep"])
def test_forward_sides_give_the_same_logits(name):
    case = vsml_cases.vsml_forward(16, lifetimes=2, steps=5, goal=None, name=name)
    ours, reference = (side()() for side in case.sides())
    torch.testing.assert_close(ours[0], reference[0], rtol=1e-4, atol=1e-5)


def test_a_prefix_read_anew_gives_the_same_predictions():
    ours, reference = (side()() for side in gpicl_lifetime(12, goal=None).sides())
    torch.testing.assert_close(ours[0], torch.stack(reference), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("case", "rounding"),
    [
        (vsml_cases.vsml_meta_gradient(16, lifetimes=2, steps=5, goal=None), 1e-6),
        (vsml_cases.vsml_meta_gradient(16, lifetimes=2, steps=5, goal=None, name="deep"), 1e-6),
        # the last bits of two losses near log 10, divided by twice the noise's 0.05
        (vsml_cases.vsml_evolution(16, population=4, steps=5, goal=None), 1e-5),
    ],
    ids=["backpropagation", "with a hidden layer", "evolution strategies"],
)
def test_meta_gradients_of_both_sides_agree(case, rounding, monkeypatch: pytest.MonkeyPatch):
    learner = vsml_cases.fresh_vsml("deep" if "LayerNorm" in case.name else "vsml")
    monkeypatch.setattr(vsml_cases, "fresh_vsml", lambda name="vsml": learner)
    found = []
    for side in case.sides():
        learner.zero_grad()
        side()()
        found.append({n: p.grad for n, p in learner.named_parameters() if p.grad is not None})
    ours, reference = found
    assert ours["sub_rnns.0.gates_bias"].abs().max() > 1e-3
    for name in ours.keys() & reference.keys():
        torch.testing.assert_close(ours[name], reference[name], rtol=1e-3, atol=rounding)


def unused() -> tuple[Callable[[], Run], Callable[[], Run]]:
    raise AssertionError("not to be run")


TIMINGS = Timings(
    ours=[1.0, 2.0, 4.0], reference=[10.0, 10.0, 10.0], first_ours=3.0, first_reference=11.0
)


def test_a_row_and_its_text():
    case = Case("a case", "a peer", "examples", 100, 6.0, 50.0, sides=unused)
    found = row(case, TIMINGS, peak=50.0)
    assert found["ours"] == 50.0 and found["reference"] == 10.0 and found["unit"] == "examples/s"
    assert found["ratio"] == 5.0, "the median of the rounds' ratios, 10, 5 and 2.5"
    assert found["of_bound"] == 0.5, "50 operations at 50 a second, done in 2 seconds"
    on = {"device": "x", "vectors": "y", "cores": 2, "gflops": 1, "commit": "c", "dirty": False}
    text = as_markdown({"machine": {**on, "versions": {"torch": "2"}}, "rows": [found]})
    assert "| a case | a peer" in text and "missed" in text and "50 %" in text


def test_slope():
    assert slope((1, 2, 4, 8), [3.0, 6.0, 12.0, 24.0]) == pytest.approx(1.0)
    assert slope((1, 2, 4, 8), [3.0, 12.0, 48.0, 192.0]) == pytest.approx(2.0)
    assert slope((1, 2), [0.0, 1.0]) is None


def test_a_table_is_written_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = {"rows": [{"ratio": 1.5}]}
    publish(document, lambda found: f"{found['rows'][0]['ratio']}x", tmp_path / "new", "table")
    assert json.loads((tmp_path / "new" / "table.json").read_text(encoding="utf-8")) == document
    assert (tmp_path / "new" / "table.md").read_text(encoding="utf-8") == "1.5x"
    assert capsys.readouterr().out == "1.5x\n"


def test_tables_go_beside_the_published_ones_unless_told_otherwise(tmp_path: Path) -> None:
    assert parser("").parse_args([]).out == paths.results() / "speed"
    assert parser("").parse_args(["--out", str(tmp_path)]).out == tmp_path
