"""Adoption: stale records that replay are filed under today's identity.

Declarations change for reasons that leave results as they are: a field is added, a default is
written differently. What was measured then still stands, if today's code gives it again.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vsml_bench.config import as_plain, build, compact
from vsml_bench.evaluation.cell import (
    Adoption,
    Cell,
    Provenance,
    cell_path,
    load_cell,
    save_cell,
)
from vsml_bench.evaluation.outcomes import Outcomes, decode_outcomes
from vsml_bench.evaluation.plan import Plan
from vsml_bench.evaluation.replay import (
    Replay,
    replay_cell,
    replay_training,
    replay_tuning,
)
from vsml_bench.evaluation.runner import Setting
from vsml_bench.execution import device_name
from vsml_bench.meta_training.artifact import load_artifact, note_of
from vsml_bench.meta_training.checkpoint import save_checkpoint
from vsml_bench.meta_training.job import Job, artifact_path, find_artifact
from vsml_bench.meta_training.tuning import combinations
from vsml_bench.provenance import git_state
from vsml_bench.storage import seal, unseal, write_atomically


def adopt_file(
    path: Path,
    today: Sequence[Plan] | Sequence[Job],
    setting: Setting,
    lifetimes: int,
    report: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Adopts the cell, checkpoint or tuning record at `path` if it is stale and replays. Returns
    the fields of a `Replay`.

    today: the plan for the cell's place, or the jobs that the artifact may be of.
    """
    if path.parent.name == "cells":
        plans = [plan for plan in today if isinstance(plan, Plan)]
        return asdict(_adopt_cell(path, plans, setting, lifetimes))
    jobs = [job for job in today if isinstance(job, Job)]
    return asdict(_adopt_artifact(path, jobs, setting))


def _adopt_artifact(path: Path, jobs: Sequence[Job], setting: Setting) -> Replay:
    """Files a checkpoint or tuning record under the identity of today's job that it is of, if it
    replays; the old file goes then."""
    record = load_artifact(path)
    document = record.document
    candidates = [job for job in jobs if _is_of(document, job)]
    kind = "tuning" if "trials" in document else "meta-training"
    places = [artifact_path(path.parent, job) for job in candidates]
    if path in places:
        return Replay(path.name, kind)
    if not candidates:
        return Replay(path.name, kind, impossible="nothing in today's suites is made that way")
    job, new = candidates[0], places[0]
    if new.exists():
        return _superseded(path, kind, load_artifact(new).document["adopted"], record.sha256, new)
    if kind == "tuning":
        found = replay_tuning(record, job, setting.root, path.name)
        first: list[float] = []
    else:
        found, first = replay_training(record, job, setting.folders, setting.root, path.name)
        first = document.get("first_losses") or first
    if found.reason:
        return found
    kept = {k: v for k, v in document.items() if k not in _OF_FORMAT_1}
    adopted = {
        **kept,
        "format": 2,
        "job": as_plain(job.published()),
        "identity": job.identity(),
        "adopted": [*document.get("adopted", []), asdict(_adoption(found, record.sha256))],
    }
    if kind == "tuning":
        write_atomically(new, seal(adopted))
    else:
        save_checkpoint(new, record.tensors, {**adopted, "first_losses": first})
    path.unlink()
    return found


_OF_FORMAT_1 = ("learner_hash", "config", "recipe", "meta_train", "lifetimes", "steps_per_trial")


def _is_of(document: Mapping[str, Any], job: Job) -> bool:
    """Whether an artifact came from what the job declares, versions and new fields left out."""
    grid = job.learner.tuning
    if "trials" in document:
        tried = [trial["values"] for trial in document["trials"]]
        if grid is None or job.recipe is not None or tried != as_plain(list(combinations(grid))):
            return False
    if document.get("format") == 1:
        return _is_of_format_1(document, job)
    found, today = document["identity"], as_plain(job.identity())
    old, new = ({**of["learner"]} for of in (found, today))
    for part in ("version", "code", "package"):
        old.pop(part), new.pop(part)
    parts = ("seed", "side", "recipe", "tuning", "episodes")
    return (
        all(old.get(part) == new.get(part) for part in ("name", "class"))
        and _agrees(old, new)
        and all(_agrees(found[part], today[part]) for part in parts)
    )


def _agrees(old: Any, new: Any) -> bool:
    """Equal in what both say: a field that only one has is no difference."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return all(_agrees(old[key], new[key]) for key in old.keys() & new.keys())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_agrees, old, new))
    return bool(old == new)


def _is_of_format_1(document: Mapping[str, Any], job: Job) -> bool:
    identity = document["identity"]
    if identity["seed"] != job.seed or (job.recipe is None) != ("trials" in document):
        return False
    recipe = as_plain(job.recipe)
    if "imitated" in identity:
        if job.recipe is None or not job.recipe.shared:
            return False
        own = job.learner.config[job.recipe.shared]
        return document["config"][job.recipe.shared] == own and _same_recipe(document, recipe)
    return (
        identity["learner"] == job.learner.name
        and identity["meta_train"] == as_plain(compact(job.side))
        and identity.get("few_shot") == (job.episodes.numbers if job.episodes else None)
        and (job.recipe is None or _same_recipe(document, recipe))
        and _agrees(document.get("config", {}), job.learner.config)
    )


def _same_recipe(document: Mapping[str, Any], today: Mapping[str, Any]) -> bool:
    old = dict(document["recipe"])
    of_es = {key: old.pop(key) for key in ("pairs", "noise_std", "chunk_mib") if key in old}
    engine = {"name": old.pop("engine", "bptt")}
    old["engine"] = {**engine, **(of_es if engine["name"] == "es" else {})}
    return _agrees(old, today)


def _adopt_cell(path: Path, plans: Sequence[Plan], setting: Setting, lifetimes: int) -> Replay:
    """Files a cell under the identity of today's plan for its place, if it replays; the old file
    goes then."""
    record = _read(path)
    if not plans:
        return Replay(path.name, "cell", impossible="today's suites have no such cell")
    (plan,) = plans
    new = cell_path(path.parent, plan, plan.key, record.provenance.manner)
    if new == path:
        return Replay(path.name, "cell")
    if new.exists():
        return _superseded(path, "cell", load_cell(new).provenance.adopted, record.key, new)
    if record.status != "ok":
        return Replay(path.name, "cell", impossible=f"it is {record.status}; run it again")
    if not _agrees(record.config, plan.job.learner.config):
        return Replay(path.name, "cell", impossible="its configuration is not that of today's plan")
    artifact = find_artifact(plan.job, setting.folders)
    sha256 = load_artifact(artifact).sha256 if artifact is not None else None
    cell = Cell(plan, record.status, record.reason, record.outcomes, record.provenance)
    found = replay_cell(cell, plan, setting.folders, setting.root, lifetimes, file=path.name)
    if found.reason or found.impossible:
        return found
    adopted = (*record.provenance.adopted, _adoption(found, record.key))
    provenance = replace(
        record.provenance, checkpoint=sha256, note=note_of(plan.job), adopted=adopted
    )
    save_cell(path.parent, replace(cell, provenance=provenance))
    path.unlink()
    return found


def _superseded(
    path: Path, kind: str, adopted: Sequence[Adoption | Mapping[str, Any]], own: str, new: Path
) -> Replay:
    """What becomes of a record where today's is there already: the old file goes if that was made
    from it, by an adoption that was cut short; else both stay.

    adopted: of today's record. own: hash or key of the old one.
    """
    lines = [line if isinstance(line, Mapping) else asdict(line) for line in adopted]
    if any(line["formerly"] == own[:16] for line in lines):
        path.unlink()
        return Replay(path.name, kind)
    return Replay(path.name, kind, impossible=f"today's record, {new.name}, is there already")


@dataclass(frozen=True)
class _Record:
    """A stored cell, whatever its format."""

    status: Any
    reason: str
    outcomes: Outcomes | None
    provenance: Provenance
    config: dict[str, Any]
    """The learner's."""
    key: str


def _read(path: Path) -> _Record:
    document = unseal(path.read_bytes(), f"cell {path.name}")
    if document.get("format") != 1:
        cell = load_cell(path)
        config = cell.plan.job.learner.config
        return _Record(cell.status, cell.reason, cell.outcomes, cell.provenance, config, cell.key)
    outcomes = document["outcomes"]
    gone = ("hashes", "meta_train_hash", "learner_config", "recipe")
    provenance = {k: v for k, v in document["provenance"].items() if k not in gone}
    return _Record(
        document["status"],
        document["reason"],
        None if outcomes is None else decode_outcomes(outcomes, path.name),
        build(Provenance, provenance, path.name),
        document["provenance"].get("learner_config", {}),
        document["key"],
    )


def _adoption(found: Replay, formerly: str) -> Adoption:
    import torch

    return Adoption(
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        git_commit=git_state()[0],
        lifetimes=found.lifetimes,
        steps=found.steps,
        largest_difference=found.difference,
        device=device_name(torch.device("cpu")),
        formerly=formerly[:16],
    )
