"""The Python API: the same verbs as the command line, for notebooks and scripts.

Learners are known by their cards here, so that nothing of theirs runs in this process but in
`check`; PyTorch is imported where something is meta-trained or checked.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml_bench import cards, paths
from vsml_bench.cards import Card
from vsml_bench.data import datasets
from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation.cell import Cell, load_cells
from vsml_bench.evaluation.executors import Executor, LocalExecutor
from vsml_bench.evaluation.plan import Plan, Selection, check_protocol, plan_job, plan_suite
from vsml_bench.evaluation.runner import CostModel, Policy, RunOptions, RunReport, run_cells
from vsml_bench.meta_training.job import Job
from vsml_bench.plugins import is_place
from vsml_bench.protocols.protocol import protocol_of
from vsml_bench.storage import check_writable, write_atomically
from vsml_bench.suites import Suite, find_split, find_suite

if TYPE_CHECKING:
    import pandas as pd

    from vsml_bench.boards.board import Board
    from vsml_bench.contract import ContractReport


def list_learners() -> list[Card]:
    """All learners that are found without being pointed at."""
    return list(cards.shipped().values())


def check(learner: str) -> ContractReport:
    """Whether a learner keeps every promise of the contract.

    learner: a name, or `path/to/file.py:ClassName`.
    Raises VsmlBenchError where it cannot be found or made.
    """
    from vsml_bench.contract.suite import check_learner
    from vsml_bench.registry import find_learner

    return check_learner(find_learner(learner))


def write_new_learner(name: str, out: Path | None = None, meta: bool = False) -> Path:
    """Writes a learner that runs as it is, a template with the names put in, and returns its path.

    name: on the board, such as "fading-mean". out: where to (default: the name with underscores,
    here). meta: one with meta-parameters and a recipe. Raises VsmlBenchError for a name that cannot
    be used or is taken, and for a file that exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise VsmlBenchError(
            f"'{name}' cannot be a learner's name; use small letters and digits, words joined by "
            "hyphens, as in fading-mean."
        )
    taken = cards.shipped().get(name)
    if taken is not None:
        raise VsmlBenchError(
            f"a learner called '{name}' exists already ({taken.origin}); choose another name."
        )
    class_name = "".join(word.capitalize() for word in name.split("-"))
    if keyword.iskeyword(class_name):
        raise VsmlBenchError(f"'{name}' would be the class {class_name}, a word of Python's own.")
    path = out or Path(f"{name.replace('-', '_')}.py")
    if path.suffix != ".py":
        raise VsmlBenchError(f"--out {path}: a learner is a Python file; end its name in .py.")
    if path.exists():
        raise VsmlBenchError(f"{path} exists already; choose another name or --out.")
    text = template(meta).read_text(encoding="utf-8")
    if re.search(rf"\b{class_name}\b", text.replace("MyLearner", "")):
        raise VsmlBenchError(
            f"a learner called '{name}' would be the class {class_name}, which its file imports "
            "under that name; choose another."
        )
    text = text.replace("MyLearner", class_name).replace("my-learner", name)
    write_atomically(path, text.encode())
    return path


def template(meta: bool) -> Path:
    """The file that a new learner starts as, itself a learner that runs."""
    return paths.PACKAGE / "templates" / ("meta_learner.py" if meta else "learner.py")


def plan(
    suite: str,
    *,
    splits: Sequence[str] = (),
    learners: Sequence[str] = (),
    extra_learners: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: dict[str, Any] | None = None,
) -> list[Plan]:
    """The cells that `run` would run with the same arguments."""
    of = find_suite(suite)
    chosen, besides = _places(learners, of), _places(extra_learners, of)
    selection = Selection(splits, chosen, besides, seeds)
    known = cards.find_all(selection.references(of), overrides)
    return plan_suite(of, known, selection)


def _places(names: Sequence[str], suite: Suite) -> Sequence[str]:
    """The same with places for the names of learners that the suite names by their file."""
    known = cards.shipped() if names else {}
    if all(name in known or is_place(name) for name in names):
        return names
    files = filter(is_place, suite.learners)
    own = {card.name: card.reference for file in files for card in cards.find(file)}
    return [own.get(name, name) for name in names]


def run(
    suite: str,
    *,
    out: Path | str | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    precision: str = "float32",
    jobs: int | None = None,
    policy: Policy = "only-missing",
    progress: bool = True,
    command: str = "",
    executor: Executor | None = None,
    **selection: Any,
) -> RunReport:
    """Runs a suite's cells and stores them in `out` (default `runs/<suite>`).

    selection: `splits`, `seeds`: keep only these of the suite's. `learners`: run these instead of
    the suite's own, names or `path/to/file.py:ClassName`; `extra_learners`: run these as well.
    `overrides`: configuration fields of the learners that run. precision: of the meta-tests,
    "float32" or "bfloat16" (mixed). policy: see `RunOptions`. executor: who does the work, instead
    of `jobs` processes of this machine.
    Raises VsmlBenchError for bad input, before anything is run.
    """
    options = RunOptions(
        folder=results_folder(suite, out),
        published=paths.results() / "checkpoints",
        root=_path(data_root),
        device=device,
        precision=precision,
        policy=policy,
        executor=executor or LocalExecutor(jobs, progress),
        command=command,
    )
    return run_cells(plan(suite, **selection), options, cost_model(suite))


def leaderboard(suite: str, folder: Path | str | None = None, **selection: Any) -> pd.DataFrame:
    """The board of a suite as a DataFrame, one row per split and learner.

    folder: where its cells are (default `runs/<suite>`, or the published ones where that does not
    exist). selection: `splits`, `learners`, `extra_learners`, `seeds`, `overrides` as in `run`.
    """
    from vsml_bench.boards.formats import to_frame

    return to_frame(board(suite, folder, **selection))


def board(suite: str, folder: Path | str | None = None, **selection: Any) -> Board:
    """The board of a suite: a pure function of the cells in the folder and today's plan, or, where
    PyTorch is not installed so that learners' cards cannot be read, `stored_board`."""
    if importlib.util.find_spec("torch") is None:
        selection.pop("overrides", None)
        return stored_board(suite, folder, **selection)
    from vsml_bench.boards.board import build_board

    of = find_suite(suite)
    cells, problems = load_cells(board_folder(suite, folder) / "cells")
    return build_board(of.name, cells, plan(suite, **selection), problems, of.study)


def stored_board(suite: str, folder: Path | str | None = None, **selection: Any) -> Board:
    """The board as it was when its cells were run: the newest cards in them stand for the learners,
    so that nothing else is needed. selection: as in `board`, but for `overrides`."""
    from vsml_bench.boards.board import build_board

    of = find_suite(suite)
    cells, problems = load_cells(board_folder(suite, folder) / "cells")
    chosen = Selection(**selection)
    known = {name: cards_in(cells, name, of) for name in chosen.references(of)}
    for card in [card for found in known.values() for card in found]:
        if card.recipe is not None and card.recipe.starts_from:
            name = card.recipe.starts_from
            known.setdefault(name, cards_in(cells, name, of))
    return build_board(of.name, cells, plan_suite(of, known, chosen), problems, of.study)


def cards_in(cells: Iterable[Cell], reference: str, suite: Suite) -> list[Card]:
    """The newest card of each learner in the cells that the reference stands for; one that matches
    no cell where there is none."""
    found: dict[str, Card] = {}
    for cell in sorted(cells, key=lambda cell: cell.provenance.created):
        job = cell.plan.job
        for card in (job.learner, *([job.start.learner] if job.start is not None else [])):
            if reference == card.name or card.reference.startswith(f"{reference}:"):
                found[card.name] = card
    return list(found.values()) or [cards.unknown(reference, protocol_of(suite).needs)]


def meta_train(
    split: str,
    learner: str,
    seed: int = 0,
    *,
    suite: str | None = None,
    out: Path | str = "runs/checkpoints",
    recipe: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: bool = True,
    command: str = "",
) -> Path:
    """Meta-trains (or tunes) a learner on a split's meta-train side, from its last checkpoint where
    there is one, and returns the path of the result.

    split: "" where the learner's recipe has a source of its own. suite: use that suite's protocol
    and recipe. recipe, overrides: fields of the recipe and of the learner's configuration to
    change.
    """
    job = meta_training_job(split, learner, seed, suite, recipe, overrides)
    if not job.makes_artifact:
        raise VsmlBenchError(
            f"learner '{learner}' has no meta-parameters and nothing to tune; run it as it is."
        )
    from vsml_bench.data.distributions import check_disjoint
    from vsml_bench.execution import decide
    from vsml_bench.meta_training.artifact import make_artifact

    root = _path(data_root)
    if job.side.datasets:
        check_disjoint(find_split(split), root)
    folder = Path(out)
    execution = decide(device, threads)
    check_writable(folder)
    return make_artifact(job, folder, execution, root, progress=progress, command=command)


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


def unavailable(plan: Plan, root: Path) -> str:
    """Why a cell cannot be run here, as far as headers of files and lists of packages tell; ""
    where nothing speaks against it."""
    for side in (plan.split.meta_train, plan.split.meta_test):
        for name in side.datasets:
            found = datasets.status(side.location(name), root)
            if getattr(found, side.partition) is None and found.reason:
                return found.reason
    return plan.job.learner.unavailable


def results_folder(suite: str, out: Path | str | None) -> Path:
    """Where a run of the suite stores its results."""
    return Path(out) if out is not None else Path("runs") / find_suite(suite).name


def board_folder(suite: str, folder: Path | str | None) -> Path:
    """Where a board's cells are read from: the given folder, else the user's own run, else what is
    published."""
    own = results_folder(suite, folder)
    if folder is not None or (own / "cells").is_dir():
        return own
    return paths.results() / find_suite(suite).name


def cost_model(suite: str) -> CostModel:
    """Costs as measured by the published cells and the user's own."""
    name = find_suite(suite).name
    cells: list[Cell] = []
    for folder in (paths.results() / name, Path("runs") / name):
        cells += load_cells(folder / "cells")[0]
    return CostModel(cells)


def _path(value: Path | str | None) -> Path | None:
    return Path(value) if value is not None else None
