"""A stranger's results as a folder that others can check (`examination`).

learner/           the author's files
cells/             one for each that a suite plans for the learner
checkpoints/       of its meta-trainings and tunings
submission.json    what of this is whose, sealed
SUMMARY.md         what was found when it was run again, for people
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsml_bench import cards, paths
from vsml_bench.cards import Card
from vsml_bench.config import as_plain, build
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import cell_path
from vsml_bench.evaluation.plan import Plan, Selection, plan_suite
from vsml_bench.meta_training.job import Job, find_artifact
from vsml_bench.plugins import real
from vsml_bench.storage import check_writable, seal, unseal, write_atomically
from vsml_bench.suites import find_suite, suite_names

DOCUMENT, SUMMARY = "submission.json", "SUMMARY.md"
LEARNER = "learner"


@dataclass(frozen=True)
class Variant:
    """One learner that is submitted."""

    name: str
    external_data: str
    """As its author says; "" where nothing is said."""
    recipe: dict[str, Any] | None
    tuning: dict[str, Any] | None


@dataclass(frozen=True)
class Submission:
    """What is submitted. The rest follows from the files."""

    suite: str
    learner: str
    """Reference from `learner/` on: "mine.py", "mine.py:Class" or "mine.py:Class:NAME"."""
    files: dict[str, str]
    """Below `learner/` -> SHA-256."""
    variants: tuple[Variant, ...]


def gather(reference: str, suite: str, results: Path, out: Path) -> Submission:
    """Copies into `out` what belongs to a submission; runs nothing.

    reference: "path/to/file.py", with ":Class" and ":NAME" where not all of it is submitted. suite:
    name of one of vsml-bench's, since others cannot check cells of another. results: folder of the
    author's cells and checkpoints. Raises VsmlBenchError where anything is missing, with the
    command that makes it.
    """
    file, inside = paths.parts(reference)
    if not file.endswith(".py"):
        raise VsmlBenchError(
            f"'{reference}' is no file of a learner; name path/to/learner.py, or a class in it."
        )
    found, plans = planned(reference, suite)
    if out.exists() and any(out.iterdir()):
        raise VsmlBenchError(f"{out} is not empty; remove it, or name another folder by --out.")
    again = f"vsml-bench run --suite {suite} --learner {shlex.quote(reference)}"
    cells = {plan.place: _cell_of(plan, results) for plan in plans}
    missing = [place for place, path in cells.items() if path is None]
    if missing:
        more = "" if results == Path("runs") / suite else f" --out {shlex.quote(str(results))}"
        raise VsmlBenchError(
            f"{len(missing)} of {len(plans)} cells of suite '{suite}' are not in {results}, the "
            f"first {missing[0][1]} on {missing[0][0]}, seed {missing[0][2]}; run `{again}{more}`."
        )
    folders = (results / "checkpoints", *published_folders(suite), paths.made())
    home = real(file).parent
    check_writable(out)
    files = files_of(found)
    for name in files:
        write_atomically(out / LEARNER / name, (home / name).read_bytes())
    for artifact in _artifacts((plan.job for plan in plans), folders):
        if not artifact.resolve().is_relative_to(paths.results().resolve()):
            write_atomically(out / "checkpoints" / artifact.name, artifact.read_bytes())
    for path in filter(None, cells.values()):
        write_atomically(out / "cells" / path.name, path.read_bytes())
    name = Path(file).name
    submission = Submission(
        suite, f"{name}:{inside}" if inside else name, files, variants_of(found)
    )
    keep(out, submission)
    return submission


def keep(out: Path, submission: Submission, **more: Any) -> None:
    """Writes the document. more: of its parts."""
    write_atomically(out / DOCUMENT, seal({"submission": as_plain(submission), **more}))


def read(folder: Path) -> Submission:
    """What a folder says that it submits; VsmlBenchError where it says nothing that can be
    meant."""
    where = f"{folder.name}/{DOCUMENT}"
    try:
        document = unseal((folder / DOCUMENT).read_bytes(), where)
    except OSError as error:
        raise VsmlBenchError(
            f"{folder} is no submission, since {DOCUMENT} cannot be read ({error.strerror}); name "
            "a folder that `vsml-bench submit` has written."
        ) from error
    submission = build(Submission, document.get("submission", {}), where)
    if submission.suite not in suite_names():
        raise VsmlBenchError(f"{where}: there is no suite '{submission.suite}' here.")
    return submission


def planned(reference: str, suite: str) -> tuple[list[Card], list[Plan]]:
    """The cards that a reference stands for, and what the suite plans for them."""
    if suite not in suite_names():
        raise VsmlBenchError(
            f"suite '{suite}' is not one of vsml-bench's, so that others cannot check its cells; "
            f"name one of: {', '.join(suite_names())}."
        )
    known = cards.find_all([reference])
    plans = plan_suite(find_suite(suite), known, Selection(learners=[reference]))
    return known[reference], plans


def files_of(found: Iterable[Card]) -> dict[str, str]:
    """Of all variants."""
    return {name: digest for card in found for name, digest in card.files.items()}


def variants_of(found: Iterable[Card]) -> tuple[Variant, ...]:
    """What a submission says of these learners."""
    return tuple(
        Variant(
            card.name,
            card.external_data,
            as_plain(card.recipe) if card.recipe is not None else None,
            as_plain(card.tuning) if card.tuning is not None else None,
        )
        for card in found
    )


def _cell_of(plan: Plan, results: Path) -> Path | None:
    """Of a CPU, else of a GPU."""
    places = (cell_path(results / "cells", plan, plan.key, how) for how in ("", "cuda"))
    return next((path for path in places if path.is_file()), None)


def published_folders(suite: str) -> tuple[Path, ...]:
    """Folders of published checkpoints."""
    return (paths.results() / "checkpoints", paths.results() / suite / "checkpoints")


def _artifacts(jobs: Iterable[Job], folders: Sequence[Path]) -> list[Path]:
    """What made these learners ready, and those that they start from. There may be several of one
    tuning (`merging`)."""
    found: dict[Path, None] = {}
    for job in jobs:
        for each in filter(None, (job.start, job)):
            artifact = find_artifact(each, folders)
            if artifact is not None:
                alike = artifact.parent.glob(f"{each.name}*{artifact.suffix}")
                found |= dict.fromkeys(
                    path for path in sorted(alike) if ".partial." not in path.name
                )
    return list(found)
