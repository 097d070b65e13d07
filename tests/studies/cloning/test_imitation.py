"""Cloning: a perfect synapse has no loss, others get better, interruptions change nothing."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.harness import LEARNER, call, refusal, write
from vsml_bench import cards
from vsml_bench.acceleration import COMPILE_AFTER, compiled
from vsml_bench.api import meta_training_job
from vsml_bench.errors import VsmlBenchError
from vsml_bench.execution import decide
from vsml_bench.learner import ES, Phase, Recipe
from vsml_bench.meta_training.checkpoint import load_checkpoint
from vsml_bench.meta_training.job import NO_TASKS, Job, artifact_path
from vsml_bench.meta_training.loop import Training, meta_train
from vsml_bench.owners import Claim
from vsml_bench.registry import find_learner
from vsml_bench.studies.cloning import imitation as module
from vsml_bench.studies.cloning.imitation import (
    Imitation,
    Synapses,
    errors,
    imitate,
    inputs,
    rates,
    weights,
)
from vsml_bench.studies.cloning.learner import Clone, Synapse, SynapseConfig
from vsml_bench.suites import find_split

RECIPE = Recipe(
    phases=(Phase(60, lifetime=2, learning_rate=1e-2),),
    lifetimes=64,
    validate_every=20,
    checkpoint_every=20,
)


class Backpropagation(Synapse):
    """A synapse that does what it should: its cell is (w, v, x, 0, ...)."""

    def incoming(self, phase: int, message: Tensor, rate: Tensor | None = None) -> Tensor:
        assert rate is not None
        return torch.stack([torch.full_like(message, phase), message, rate], -1)

    def run_phase(self, incoming: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        phase, message, rate = incoming.unbind(-1)
        cell, hidden = cell.clone(), torch.zeros_like(hidden)
        weight = self.weight(cell)
        if not phase.any():
            cell[:, 2] = message
            hidden[:, 0] = torch.tanh(message) * weight
            return hidden, cell
        active = torch.tanh(cell[:, 2])
        hidden[:, 1] = weight * message * (1 - active**2)
        velocity = self.config.momentum * self.velocity(cell) - rate * active * message
        cell[:, 0] += velocity / self.config.weight_scale
        cell[:, 1] = velocity / (self.config.weight_scale * self.config.rate)
        return hidden, cell


def synapses(synapse: Synapse, count: int, draw: torch.Generator) -> Synapses:
    cell = synapse.storing(weights(count, draw))
    return Synapses(torch.zeros_like(cell), cell, rates(count, synapse.config, draw))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_backpropagation_itself_has_no_loss(momentum: float) -> None:
    config = SynapseConfig(state_size=4, momentum=momentum, rate_range=3.0)
    synapse, draw = Backpropagation(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        synapse.heads.weight.copy_(torch.eye(2, 4))
        synapse.heads.bias.zero_()
    examples = [(inputs(500, draw), errors(500, draw)) for _ in range(5)]
    found, after = imitate(synapse, synapses(synapse, 500, draw), examples, config)
    assert found.loss < 1e-9 and found.accuracy > 1 - 1e-6
    assert not torch.equal(after.cell[:, 0], synapses(synapse, 500, draw).cell[:, 0])


def test_compiled_it_gives_the_same_loss_and_gradient() -> None:
    config = SynapseConfig(state_size=4, ticks=1)
    synapse, draw = Synapse(config), torch.Generator().manual_seed(0)
    synapse.init_meta_parameters(draw)
    examples = [(inputs(8, draw), errors(8, draw)) for _ in range(2)]
    start = synapses(synapse, 8, draw)
    found = []
    for run in (imitate, compiled(imitate)):
        synapse.zero_grad()
        errors_of, after = run(synapse, start, examples, config)
        errors_of.loss.backward()
        found.append((errors_of.loss, after, [p.grad for p in synapse.parameters()]))
    torch.compiler.reset()
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_doing_nothing_explains_nothing() -> None:
    config = SynapseConfig(state_size=4)
    synapse, draw = Synapse(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in synapse.parameters():
            parameter.zero_()
        synapse.from_phase[:, 8] = 30.0  # the stored weight is kept, and that is all
    started = synapses(synapse, 500, draw)
    found, after = imitate(synapse, started, [(inputs(500, draw), errors(500, draw))], config)
    assert found.accuracy.abs() < 1e-5
    torch.testing.assert_close(after.cell[:, 0], started.cell[:, 0])


def test_samples_are_as_described() -> None:
    draw, count = torch.Generator().manual_seed(0), 100_000
    x, w, e = inputs(count, draw), weights(count, draw), errors(count, draw)
    for numbers, share in ((x, 0.15), (w, 0.0), (e, 0.08)):
        assert (numbers == 0).float().mean() == pytest.approx(share, abs=0.005)
    assert x.abs().max() <= 20
    assert (x.abs() > 6).float().mean() == pytest.approx(0.10 * 14 / 20, abs=0.004)
    assert (x.abs() > 4.5).float().mean() == pytest.approx(0.15 / 4 + 0.10 * 15.5 / 20, abs=0.005)
    assert e.abs().max() <= 3
    assert (e.abs() > 1).float().mean() == pytest.approx(0.08 * 2 / 3, abs=0.004)
    assert (e.abs() < 0.01).float().mean() == pytest.approx(
        0.08 + 0.34 * 0.01 + 0.08 * 0.01 / 3 + 0.5 / 3, abs=0.006
    )
    assert e.mean().abs() < 0.01
    assert (w.abs() > 1.5).float().mean() == pytest.approx(0.3 * 0.4, abs=0.005)
    alpha = rates(count, SynapseConfig(rate=0.02, rate_range=4.0), draw)
    assert alpha.min() >= 0.005 and alpha.max() <= 0.08
    assert alpha.log().mean() == pytest.approx(torch.tensor(0.02).log().item(), abs=0.01)


def job(recipe: Recipe) -> Job:
    card = cards.find_one("clone-1")
    assert card.recipe is not None
    own = dataclasses.replace(recipe, source=card.recipe.source, shared=card.recipe.shared)
    return Job(card, NO_TASKS, 3, own)


def test_it_learns_and_an_interruption_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = decide("cpu", 1)
    whole = load_checkpoint(meta_train(job(RECIPE), tmp_path / "whole", execution, progress=False))
    first, _, last = whole.document["history"]
    assert last["validation_loss"] < 0.5 * first["validation_loss"]
    assert whole.document["data_hashes"] == {}

    def interrupt(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        meta_train(job(RECIPE), folder, execution, progress=False, report=interrupt)
    (partial,) = folder.iterdir()
    assert load_checkpoint(partial).document["steps"] == 20
    resumed = load_checkpoint(meta_train(job(RECIPE), folder, execution, progress=False))
    assert resumed.document["history"] == whole.document["history"]
    assert resumed.tensors.keys() == whole.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name


def test_evolution_strategies_are_refused(tmp_path: Path) -> None:
    recipe = Recipe(phases=RECIPE.phases, engine=ES(pairs=2))
    with pytest.raises(VsmlBenchError, match="imitates by gradients alone"):
        meta_train(job(recipe), tmp_path, decide("cpu", 1), progress=False)


def test_meta_training_goes_on_from_a_clone(tmp_path: Path) -> None:
    card = cards.find_one("clone-meta-trained")
    side = find_split("digits-held-out").meta_train
    recipe = Recipe((Phase(2, lifetime=3, learning_rate=1e-3),), 2, size=4, validation_lifetimes=1)
    trained = Job(card, side, 3, recipe, start=job(RECIPE))
    path = meta_train(trained, tmp_path, decide("cpu", 1), progress=False)
    clone, found = (load_checkpoint(p) for p in sorted(tmp_path.iterdir()))
    assert path.name.startswith("clone-meta-trained--digits")
    assert found.document["begun_by"]["checkpoint"] == clone.sha256
    for name, tensor in clone.tensors.items():
        moved = (found.tensors[name] - tensor).abs().max()
        assert 0 < moved <= 2.1e-3, name  # two steps of Adam, each at most the learning rate


def test_what_it_goes_on_from_is_trained_by_one_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = job(Recipe((Phase(2, lifetime=2, learning_rate=1e-2),), 2, validation_lifetimes=1))
    claim = Claim(artifact_path(tmp_path, start))
    assert claim.take()
    waits, made = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        waits.set()
        made.wait()

    monkeypatch.setattr(time, "sleep", sleep)
    later = dataclasses.replace(start, start=start, seed=4)
    assert later.recipe is not None
    cpu = decide("cpu", 1)
    training = Training(later, later.recipe, tmp_path, cpu, None, "", compiling=False)
    thread = threading.Thread(target=training.begin, args=((), False))
    thread.start()
    while thread.is_alive() and not waits.is_set():
        thread.join(0.01)
    assert waits.is_set()
    checkpoint = load_checkpoint(meta_train(start, tmp_path, cpu, progress=False))
    claim.release()
    made.set()
    thread.join()
    assert training.progress.begun_by is not None
    assert training.progress.begun_by["checkpoint"] == checkpoint.sha256


def test_without_a_compiler_it_runs_as_it_is_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    double = compiled(lambda x: 2 * x)
    assert double(3) == 6 and double(4) == 8
    assert caplog.messages == ["running uncompiled: no C++ compiler"]


@pytest.mark.parametrize("steps", [COMPILE_AFTER - 1, COMPILE_AFTER])
def test_long_imitations_are_compiled(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Callable[..., Any]] = []

    def ask(function: Callable[..., Any]) -> Callable[..., Any]:
        asked.append(function)
        return function

    monkeypatch.setattr(module, "compiled", ask)
    learner = find_learner("clone-1").create(seed=0)
    assert isinstance(learner, Clone)
    recipe = dataclasses.replace(RECIPE, phases=(Phase(steps, lifetime=2, learning_rate=1e-2),))
    Imitation(job(recipe), recipe, learner, decide("cpu"), None)
    assert asked == ([imitate] if steps >= COMPILE_AFTER else [])


def test_one_meta_training_serves_networks_of_any_depth(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    options = ["--out", folder, "--threads", 1, "--quiet", "--device", "cpu", "--seed", 4]
    phase = "{steps=2, lifetime=1, learning_rate=0.01}"
    options += ["--recipe", f"phases=[{phase}]", "--recipe", "lifetimes=8"]
    one, other = (call("meta-train", "--learner", f"clone-{layers}", *options) for layers in (1, 2))
    assert one.code == other.code == 0, (one, other)
    (path,) = folder.iterdir()
    assert one.out.strip() == other.out.strip() == str(path)
    assert path.name.startswith("clone--imitation--seed4--")
    split = ["--split", "digits-held-out"]
    assert call("meta-train", "--learner", "clone-1", *split, *options).out == one.out
    said = call("explain", path).out
    assert re.search(r"^steps +2$", said, re.MULTILINE)
    assert re.search(r'^history +\[{"accuracy": .*"validation_loss": ', said, re.MULTILINE)


def test_a_split_is_needed_where_there_are_tasks() -> None:
    said = refusal(call("meta-train", "--learner", "clone-meta-trained"))
    assert "'clone-meta-trained' is made ready on tasks; name the split" in said


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source": ""}, "shared: has no effect without `source`"),
        ({"shared": "synapses"}, "no field 'synapses' to configure; did you mean 'synapse'"),
        ({"starts_from": "clone-1"}, "a learner cannot go on from itself"),
    ],
)
def test_recipes_that_make_no_sense(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(VsmlBenchError, match=words):
        meta_training_job("", "clone-1", 0, recipe=fields)


def test_a_source_of_another_package(tmp_path: Path) -> None:
    """A learner in a file names a source of its own, and shares nothing."""
    file = write(
        tmp_path / "mine.py",
        LEARNER.replace("import Learner", "import Learner, Phase, Recipe")
        + """
from vsml_bench.meta_training.objective import MetaLoss, Source, Validation


class Towards(Source):
    # The parameter is pulled towards 3.
    def __init__(self, job, recipe, learner, execution, root):
        self.data_hashes, self.carried = {}, {}
        self.learner = learner

    def objective(self, planned, step, *, largest=False):
        def objective(learner):
            loss = (learner.weight - 3).square().sum()
            return MetaLoss(loss, torch.zeros(()))
        return objective

    def validate(self):
        return Validation((self.learner.weight - 3).square().item(), 0.0)


class Mine(Base):
    variants = {"mine": Config("")}
    recipe = Recipe((Phase(200, lifetime=1, learning_rate=0.1),), source=":Towards")

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def init_meta_parameters(self, generator):
        torch.nn.init.zeros_(self.weight)
""",
    )
    options = ["--out", tmp_path / "out", "--quiet", "--device", "cpu", "--threads", 1]
    done = call("meta-train", "--learner", f"{file}:Mine", *options)
    assert done.code == 0, done
    path = Path(done.out.strip())
    assert path.name.startswith("mine--towards--seed0--")
    assert load_checkpoint(path).tensors["weight"].item() == pytest.approx(3, abs=0.1)
