"""Meta-trains and tunes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vsml_bench import cards, paths
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.executors import run_apart
from vsml_bench.evaluation.plan import check_protocol, plan_job
from vsml_bench.evaluation.runner import Setting
from vsml_bench.meta_training.job import Job, artifact_path
from vsml_bench.meta_training.peers import Peers
from vsml_bench.owners import Claim, kept
from vsml_bench.provenance import git_state
from vsml_bench.suites import Suite, find_split, find_suite


def meta_train(
    split: str,
    learner: str,
    seed: int = 0,
    *,
    suite: str | None = None,
    out: Path | str | None = None,
    recipe: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: bool = True,
    command: str = "",
) -> Path:
    """Meta-trains (or tunes) a learner on a split's meta-train side, from its last checkpoint where
    there is one, and returns the path of the result. Where `torchrun` has started several
    processes that call it alike, they share a meta-training, and process 0 writes.

    split: "" where the learner's recipe has a source of its own. suite: use that suite's protocol
    and recipe. recipe, overrides: fields of the recipe and of the learner's configuration to
    change. out: the folder of checkpoints (default `runs/checkpoints`).
    """
    job = meta_training_job(split, learner, seed, suite, recipe, overrides)
    if not job.makes_artifact:
        raise VsmlBenchError(
            f"learner '{learner}' has no meta-parameters and nothing to tune; run it as it is."
        )
    peers = Peers.of_environment()
    if job.recipe is None and peers.count > 1:
        raise VsmlBenchError(
            f"learner '{learner}' is tuned, which one process does; run it without torchrun."
        )
    folder = Path(out) if out is not None else paths.made()
    setting = Setting((folder,), paths.given(data_root), device, command, git_state())
    of_split = find_split(split) if job.side.datasets else None
    claim = Claim(artifact_path(folder, job))
    with kept([claim]), peers.ending_together():
        path: Path = run_apart(
            "train_in_view",
            *(job, of_split, setting, peers.threads(threads), progress and peers.leads),
            *(claim, peers),
            echo=peers.leads,
            side_by_side=peers.local_count,
        )
    return path


def meta_training_job(
    split: str,
    learner: str,
    seed: int,
    suite: str | None = None,
    recipe: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
) -> Job:
    """What `meta_train` with the same arguments trains."""
    known = cards.find_all([learner], overrides)
    card = cards.only(learner, known[learner])
    of = Suite("", "", ())
    if suite:
        of = find_suite(suite)
        check_protocol(card, of)
    if not split and not (card.recipe is not None and card.recipe.source):
        raise VsmlBenchError(
            f"--split: learner '{card.name}' is made ready on tasks; name the split whose "
            "meta-train side has them."
        )
    side = find_split(split).meta_train if split else None
    return plan_job(card, side, seed, of, known, recipe)
