"""Which engine finds the meta-gradient: on the command line, in recipes, in identities."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.harness import call, refusal, tiny_recipe_options, write, write_suite
from vsml_bench.api import meta_training_job
from vsml_bench.execution import decide
from vsml_bench.learner import ES, Phase, Recipe
from vsml_bench.meta_training import schedule
from vsml_bench.meta_training.checkpoint import load_checkpoint
from vsml_bench.meta_training.loop import Training
from vsml_bench.meta_training.objective import Lifetimes
from vsml_bench.registry import learners
from vsml_bench.suites import find_suite
from vsml_bench.vsml.variants import VSML

pytestmark = pytest.mark.usefixtures("nothing_here", "one_thread")


def test_a_learner_that_cannot_be_a_population_is_refused_before_training_starts(
    tmp_path: Path,
) -> None:
    text = """
from vsml_bench.learner import ES, Phase, Recipe
from vsml_bench.vsml.variants import VSML, VSMLConfig


class Branching(VSML):
    variants = {"branching": VSMLConfig()}
    recipe = Recipe(phases=(Phase(3, 10, 0.01),), lifetimes=2, engine=ES(pairs=2))

    def predict(self, state, inputs):
        logits, state = super().predict(state, inputs)
        return (logits if logits.max() > 0 else 2 * logits), state
"""
    learner = write(tmp_path / "branching.py", text)
    command = ["meta-train", "--split", "digits-held-out", "--learner", learner, "--quiet"]
    outcome = call(*command, "--out", tmp_path / "out")
    *warnings, said = outcome.err.splitlines()
    assert all("Branching runs without its fast code" in warning for warning in warnings)
    assert outcome.code == 2
    assert "learner 'branching' cannot be meta-trained by evolution strategies" in said
    assert not list((tmp_path / "out").iterdir())


def test_engine_on_the_command_line_and_what_the_board_says(tmp_path: Path) -> None:
    """A suite's own recipe names the engine as well, so its run uses the checkpoint."""
    more = '\n[recipes.vsml]\nengine = "es"\npairs = 2\nnoise_std = 0.1\nlifetimes = 2\n'
    more += (
        "phases = [{steps = 3, lifetime = 10, learning_rate = 0.01}]\nvalidation_lifetimes = 2\n"
    )
    suite = write(
        tmp_path / "evolved.toml",
        write_suite(tmp_path / "s.toml", ["digits-held-out"], ["chance"], lifetimes=2, steps=5)
        .read_text()
        .replace('["chance"]', '["vsml"]')
        + more,
    )
    out, common = tmp_path / "out", ["--split", "digits-held-out", "--learner", "vsml"]
    trained = call(
        *("meta-train", *common, "--engine", "es", "--recipe", "pairs=2", "--quiet"),
        *("--recipe", "noise_std=0.1", "--recipe", "size=8", *tiny_recipe_options()),
        *("--device", "cpu", "--threads", 1, "--out", out / "checkpoints"),
    )
    assert trained.code == 0, trained
    path = Path(trained.out.strip())
    document = load_checkpoint(path).document
    engine = document["identity"]["recipe"]["engine"]
    fields = {"name": "es", "pairs": 2, "noise_std": 0.1, "own_lifetimes": False}
    assert engine == fields and document["steps"] == 3

    written = path.stat().st_ino
    run = call("run", "--suite", suite, "--out", out, "--jobs", 1, "--device", "cpu", "--quiet")
    assert run.code == 0, run
    assert path.stat().st_ino == written and list((out / "checkpoints").iterdir()) == [path]
    board = call("leaderboard", "--suite", suite, "--results", out).out
    assert "vsml: meta-trained by evolution strategies" in board


def test_the_engine_is_part_of_the_identity_and_idle_fields_are_not(tmp_path: Path) -> None:
    def key(**fields: object) -> str:
        return meta_training_job("digits-held-out", "vsml", 0, None, dict(fields) or None).key

    plain = key()
    assert key(engine="bptt") == plain
    changes: tuple[dict[str, object], ...] = (
        {},
        {"pairs": 5},
        {"noise_std": 0.1},
        {"own_lifetimes": True},
    )
    evolved = [key(engine="es", **more) for more in changes]
    assert len({plain, *evolved}) == 5
    defaults: dict[str, object] = {"pairs": 1024, "own_lifetimes": False, "noise_std": 0.05}
    assert key(engine="es", chunk_mib=7, **defaults) == evolved[0]
    suite = tmp_path / "s.toml"
    write(
        suite,
        'description = ""\nsplits = ["digits-held-out"]\nlearners = ["vsml"]\n'
        '[recipes.vsml]\nengine = "es"\npairs = 5\n',
    )
    back = meta_training_job("digits-held-out", "vsml", 0, str(suite), {"engine": "bptt"})
    assert back.key == plain


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"engine": "es", "pairs": 0}, "pairs: expected more than 0, found 0"),
        ({"engine": "es", "pairs": 2.5}, "pairs: expected int, found 2.5"),
        ({"engine": "es", "noise_std": -0.1}, "noise_std: expected more than 0, found -0.1"),
        (
            {"engine": "es", "noise_std": float("nan")},
            "expected a finite float, found nan",
        ),
        ({"engine": "es", "chunk_mib": 0}, "chunk_mib: expected more than 0"),
        ({"engine": "es", "clip": -1.0}, "clip: expected a bound of more than 0, or 0 for none"),
        ({"engine": "ess"}, "'ess' is not a choice; did you mean 'es'?"),
        ({"engine": "es", "pair": 3}, "unknown key 'pair'; did you mean 'pairs'?"),
        ({"pairs": 64}, 'pairs: has no effect with engine = "bptt"'),
        ({"engine": "bptt", "noise_std": 0.1}, "noise_std: has no effect"),
    ],
)
def test_wrong_numbers_are_refused(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    command = ["meta-train", "--split", "digits-held-out", "--learner", "vsml"]
    options = [w for key, value in fields.items() for w in ("--recipe", f"{key}={value}")]
    assert words in refusal(call(*command, *options, "--out", tmp_path / "out"))
    assert not list(tmp_path.glob("out/*"))


def test_an_unknown_engine_is_refused_and_so_is_one_for_what_is_not_meta_trained() -> None:
    command = ["meta-train", "--split", "digits-held-out", "--learner", "vsml"]
    outcome = call(*command, "--engine", "sgd")
    assert outcome.code == 2 and "invalid choice: 'sgd'" in outcome.err
    outcome = call(*command[:-1], "sgd-linear", "--engine", "es")
    assert "'sgd-linear' is not meta-trained, so it has no recipe to change" in refusal(outcome)


def test_what_the_paper_suite_costs() -> None:
    """2 x 1,024 members, each in 10,001 lifetimes of 500 examples."""
    own = VSML.recipe
    assert own is not None
    changed = own.changed(find_suite("paper").recipes["vsml"], "paper")
    assert isinstance(changed.engine, ES) and changed.clip == 0 and changed.size == 28
    assert changed.engine.own_lifetimes and changed.lifetimes == 1
    assert changed.examples == 2048 * 10_001 * 500
    small = Recipe(phases=(Phase(1, 4, 0.1),), engine=ES(pairs=3))
    assert small.examples == 16 * 6 * 4


@pytest.mark.parametrize("name", ["vsml", "meta-rnn", "fast-weight-memory", "hebbian-oja"])
def test_the_papers_cast_is_meta_trained_as_there(name: str) -> None:
    suite = find_suite("paper")
    assert name in suite.learners
    own = learners()[name].cls.recipe
    assert own is not None
    recipe = own.changed(suite.recipes[name], "paper")
    pairs = ES(pairs=1024, own_lifetimes=True, noise_std=0.05)
    assert isinstance(recipe.engine, ES)
    assert dataclasses.replace(recipe.engine, chunk_mib=pairs.chunk_mib) == pairs
    assert [(p.steps, p.lifetime, p.learning_rate) for p in recipe.phases] == [(10_001, 500, 0.025)]


def test_each_pair_has_lifetimes_of_its_own_in_each_update(tmp_path: Path) -> None:
    """Three updates of two pairs with two lifetimes each are twelve lifetimes, all different, and
    fresh states as different; lifetimes per update are then those of a pair."""
    recipe = Recipe(
        phases=(Phase(3, 5, 0.01),), lifetimes=2, size=4, engine=ES(pairs=2, own_lifetimes=True)
    )
    job = dataclasses.replace(meta_training_job("digits-held-out", "vsml", 0), recipe=recipe)
    training = Training(job, recipe, tmp_path, decide("cpu", 1), None, "")
    shares = []
    for step in range(recipe.steps):
        objective = training.source.objective(schedule.at(recipe, step), step)
        assert isinstance(objective, Lifetimes)
        shares += [objective.share(pair, 1, 2) for pair in range(2)]
        training.update(step)
    assert [len(share.seeds) for share in shares] == [2] * 6
    assert len({seed for share in shares for seed in share.seeds}) == 12
    inputs = [share.episode.inputs[:, e].flatten() for share in shares for e in range(2)]
    fresh = [share.fresh_states(training.learner).layers[0].cell for share in shares]
    cells = [cell.flatten() for of_share in fresh for cell in of_share]
    for drawn in (inputs, cells):
        assert len({tuple(one.tolist()) for one in drawn}) == 12
