"""How far an unfinished meta-training is, and all that its checkpoint must hold for it to continue
exactly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from vsml_bench.learner import Learner
from vsml_bench.meta_training.checkpoint import Checkpoint, load_meta_parameters
from vsml_bench.meta_training.objective import Source


def provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where the beginning of a meta-training comes from."""
    kept = ("steps", "seconds", "command", "git_commit", "git_dirty", "versions", "device")
    return {"checkpoint": checkpoint.sha256, **{key: checkpoint.document[key] for key in kept}}


@dataclass
class Progress:
    """How far a meta-training is, and what came out so far, as its checkpoint says."""

    steps: int = 0
    """Meta-updates done."""
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry per validation."""
    first_losses: list[float] = field(default_factory=list)
    since_validation: list[tuple[float, float]] = field(default_factory=list)
    """Loss and accuracy of each meta-update since the last validation."""
    adopted: list[dict[str, Any]] = field(default_factory=list)
    begun_by: dict[str, Any] | None = None
    """What it went on from."""


def all_tensors(learner: Learner, optimizer: Optimizer, source: Source) -> dict[str, Tensor]:
    """All that the meta-updates to come depend on: meta-parameters, Adam's moments, and what the
    source carries."""
    tensors: dict[str, Tensor] = dict(learner.state_dict())
    for name, parameter in learner.named_parameters():
        for moment, tensor in optimizer.state[parameter].items():
            tensors[f"adam/{moment}/{name}"] = tensor
    for name, tensor in source.carried.items():
        tensors[f"carried/{name}"] = tensor
    return tensors


def restore(
    learner: Learner, optimizer: Optimizer, source: Source, checkpoint: Checkpoint, where: str
) -> Progress:
    """Puts `all_tensors` of a checkpoint back and returns how far it is. where: what to call it."""
    adam = {n: t for n, t in checkpoint.tensors.items() if n.startswith("adam/")}
    carried = {n: t for n, t in checkpoint.tensors.items() if n.startswith("carried/")}
    own = {n: t for n, t in checkpoint.tensors.items() if n not in {*adam, *carried}}
    load_meta_parameters(learner, Checkpoint(own, checkpoint.document, checkpoint.sha256), where)
    for name, parameter in learner.named_parameters():
        moments = {
            moment: adam[f"adam/{moment}/{name}"].to(
                "cpu" if moment == "step" else parameter.device
            )
            for moment in ("step", "exp_avg", "exp_avg_sq")
            if f"adam/{moment}/{name}" in adam
        }
        if moments:  # Adam keeps nothing of a parameter that the loss does not depend on
            optimizer.state[parameter] = moments
    source.carried = {n.removeprefix("carried/"): t for n, t in carried.items()}
    names = {each.name for each in dataclasses.fields(Progress)}
    return Progress(**{k: v for k, v in checkpoint.document.items() if k in names})
