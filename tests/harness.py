"""The command line in this process, and small suites, splits and learners to call it with."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml_bench import cli

if TYPE_CHECKING:
    from vsml_bench.cards import Card

TINY_RECIPE = {
    "phases": "[{steps = 3, lifetime = 10, learning_rate = 0.01}]",
    "lifetimes": "2",
    "validation_lifetimes": "2",
}

STRIPES = """
from vsml_bench.data.source import Generated


class Stripes(Generated):
    name = "stripes"
    classes = 2
    inputs_shape = (1, 4, 4)
    points_per_task = True

    def generate(self, task, stream, steps, inputs_shape, classes):
        labels = stream.integers(classes, size=steps)
        points = stream.standard_normal((steps, *inputs_shape), dtype="float32")
        return points + 4 * labels.reshape(-1, 1, 1, 1).astype("float32"), labels
"""
"""A dataset: two classes far apart."""

LATE = '''
from dataclasses import dataclass

from vsml_bench.protocols.online import Online


@dataclass(frozen=True)
class Late(Online):
    """A stream of which only the last predictions count."""

    last: int

    name = "late"
    metric = "accuracy"

    @property
    def predictions(self):
        return self.last

    def run(self, learner, state, episode):
        found = super().run(learner, state, episode)
        return found._replace(
            logits=found.logits[-self.last :], labels=found.labels[-self.last :]
        )
'''
"""A protocol: a stream of which only the last predictions count."""

LEARNER = """
import multiprocessing
import os
from dataclasses import dataclass
from typing import NamedTuple

import torch

from vsml_bench.errors import UnavailableError
from vsml_bench.learner import Learner


@dataclass(frozen=True)
class Config:
    how: str


class Count(NamedTuple):
    steps: torch.Tensor  # [E]
    logits: torch.Tensor  # [E, K]


class Base(Learner):
    variants = {}
    family = "test"
    source = "none"

    def init_state(self, lifetimes, shape, generator):
        logits = torch.rand(lifetimes, shape.classes, generator=generator)
        return Count(torch.zeros(lifetimes), logits)

    def predict(self, state, inputs):
        return state.logits, state._replace(steps=state.steps + 1)

    def observe(self, state, labels):
        return state

"""

MEETING = (
    LEARNER
    + """
class Meeting(Base):
    # Each variant waits for the other at the two ends of a pipe: both must run at the same time.
    variants = {"reader": Config("r"), "writer": Config("w")}

    def init_state(self, lifetimes, shape, generator):
        pipe = os.environ["VSML_TEST_PIPE"]
        if multiprocessing.parent_process() is not None and not os.path.exists(pipe + ".met"):
            open(pipe, self.config.how).close()
            open(pipe + ".met", "w").close()  # checks and audits need not meet once more
        return super().init_state(lifetimes, shape, generator)
"""
)


ODD = (
    LEARNER
    + """
class Odd(Base):
    # From its sixth example on it goes wrong, each variant in its own way.
    variants = {how: Config(how) for how in ("diverges", "crashes", "kills")}

    def predict(self, state, inputs):
        logits, state = super().predict(state, inputs)
        if state.steps.max() <= 5:
            return logits, state
        if self.config.how == "diverges":
            return logits * float("nan"), state
        if self.config.how == "kills":
            os.kill(os.getpid(), 9)
        raise ValueError("the sixth example is too much")


class Lacking(Base):
    # Needs something that may be installed later.
    variants = {"lacks": Config("")}

    def predict(self, state, inputs):
        if state.steps.max() >= 5 and "VSML_TEST_PACKAGE" not in os.environ:
            raise UnavailableError("no such package here")
        return super().predict(state, inputs)
"""
)

LOOPS = (
    LEARNER
    + """
class Loops(Base):
    variants = {"loops": Config("")}

    def predict(self, state, inputs):
        while state.steps.max() > 5:
            pass
        return super().predict(state, inputs)
"""
)


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def call(*arguments: object) -> Outcome:
    """Runs `vsml-bench ARGUMENTS...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as left:  # how argparse refuses
            code = int(left.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def refusal(outcome: Outcome) -> str:
    """The one sentence that a refused command says, after checking that it is one."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vsml-bench: "), outcome.err
    return lines[0]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def cards_in(file: Path) -> list[Card]:
    """The cards of the learners in a file, read in this process, which has PyTorch already."""
    from vsml_bench.registry import find_learners

    return [entry.card(entry.probe()) for entry in find_learners(str(file))]


def install(folder: Path, module: str, text: str, **entry_points: str) -> Path:
    """A package called like its one module, with an entry point `name = value` for each group
    "vsml_bench.GROUP", given as GROUP="name = value". Whoever has `folder` on sys.path has it."""
    write(folder / f"{module}.py", text)
    info = folder / f"{module}-1.0.dist-info"
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"[vsml_bench.{group}]\n{line}\n" for group, line in entry_points.items()]
    write(info / "entry_points.txt", "\n".join(lines))
    return folder


def write_split(
    path: Path,
    test: str = "digits",
    *,
    train: str = "digits",
    train_partition: str = "train",
    test_partition: str = "test",
    relation: str = "unseen_tasks",
    more: str = "",
) -> Path:
    """A split; `more` ends the meta-test side."""
    return write(
        path,
        f'description = "test"\nrelation = "{relation}"\n'
        f'[meta_train]\ndatasets = ["{train}"]\npartition = "{train_partition}"\n'
        f'[meta_test]\ndatasets = ["{test}"]\npartition = "{test_partition}"\n{more}\n',
    )


def write_suite(
    path: Path,
    splits: list[object],
    learners: list[object],
    *,
    lifetimes: int = 9,
    steps: int = 30,
    seeds: str = "[0]",
    time_limit: float = 300.0,
    more: str = "",
) -> Path:
    """A suite; VSML is meta-trained for three updates."""
    recipe = "".join(f"{key} = {value}\n" for key, value in TINY_RECIPE.items())
    if "vsml" in learners:
        more += f"\n[recipes.vsml]\n{recipe}"
    return write(
        path,
        f'description = "test"\nsplits = {json.dumps([str(s) for s in splits])}\n'
        f"learners = {json.dumps([str(name) for name in learners])}\nseeds = {seeds}\n"
        f"lifetimes = {lifetimes}\nsteps = {steps}\ntime_limit = {time_limit}\n{more}",
    )


def write_few_shot(
    folder: Path,
    learners: list[object],
    *,
    train: str = "classes = 3\n",
    test: str = "classes = 4",
    more: str = "shots = 2\nqueries = 3",
    split: object = None,
) -> Path:
    """A few-shot suite on the digits, 8 pinned episodes."""
    if split is None:
        split = write_split(folder / "few.toml", more=test)
        text = split.read_text().replace("\n[meta_test]", f"\n{train}[meta_test]")
        split.write_text(text)
    recipe = "".join(f"{key} = {value}\n" for key, value in TINY_RECIPE.items())
    recipes = f"[recipes.vsml]\n{recipe}" if "vsml" in learners else ""
    return write(
        folder / "tiny.toml",
        f'description = "test"\nprotocol = "few_shot"\nsplits = {json.dumps([str(split)])}\n'
        f"learners = {json.dumps([str(name) for name in learners])}\nlifetimes = 8\n"
        f"{more}\n{recipes}",
    )


def tiny_recipe_options() -> list[str]:
    """`--recipe` options of `meta-train` for the same three updates."""
    return [word for key, value in TINY_RECIPE.items() for word in ("--recipe", f"{key}={value}")]
