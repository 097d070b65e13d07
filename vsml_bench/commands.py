"""What each verb of the command line does: calls the API and prints."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vsml_bench import __version__, api, cards, paths, printing, suites
from vsml_bench.config import as_plain, read_toml_value
from vsml_bench.data import datasets
from vsml_bench.errors import VsmlBenchError, costs_itself
from vsml_bench.evaluation.cell import load_cell
from vsml_bench.evaluation.prices import prices
from vsml_bench.provenance import scrub
from vsml_bench.storage import write_atomically

T = TypeVar("T")


def list_command(options: argparse.Namespace) -> int:
    """`list`: learners, splits, suites or datasets."""
    rows: dict[str, Any] = {
        "learners": lambda: [printing.learner_row(card) for card in api.list_learners()],
        "splits": lambda: [
            {"name": s.name, "relation": s.relation, "description": s.description}
            for s in _readable(suites.find_split, suites.split_names())
        ],
        "suites": lambda: [
            {"name": s.name, "splits": len(s.splits), "learners": len(s.learners)}
            | {"description": s.description}
            for s in _readable(suites.find_suite, suites.suite_names())
        ],
        "datasets": lambda: _datasets(None),
    }
    printing.rows(rows[options.what](), options.what, options.json)
    return 0


def _readable(find: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
    """What is found by the names; a broken file costs itself, with a warning."""
    for name in names:
        with costs_itself(f"'{name}'"):
            yield find(name)


def data_command(options: argparse.Namespace) -> int:
    """`data` and `data fetch`."""
    if options.data_verb != "fetch":
        printing.rows(_datasets(options.data_root), "datasets", options.json)
        return 0
    from vsml_bench.data.fetch import fetch

    root = datasets.data_root(options.fetch_root or options.data_root)
    to = sys.stderr if options.json else sys.stdout
    here: dict[str, bool] = {}
    for name in options.names:
        here[name] = not datasets.status(name, root).reason
        if here[name]:
            print(f"{name}: already here", file=to)
            continue
        try:
            source = datasets.find(name).source
            folder = fetch(source, root, lambda line: print(line, flush=True, file=to))
            here[name] = True
            print(f"{name}: fetched into {folder}", file=to)
        except VsmlBenchError as error:
            print(f"vsml-bench: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps({"here": here}))
    return 0 if all(here.values()) or options.best_effort else 1


def _datasets(data_root: str | None) -> list[dict[str, Any]]:
    root = datasets.data_root(data_root)
    sources = (datasets.find(name).source for name in datasets.names())
    return [
        {"name": s.name, "available": here.available, **as_plain(here), "modality": s.modality}
        for s, here in ((source, source.find(root)) for source in sources)
    ]


def check_command(options: argparse.Namespace) -> int:
    """`check`: every promise of the contract, for each learner that the argument stands for."""
    reports = api.check_all(options.learner)
    if options.json:
        rows = [{"name": r.learner, "origin": r.origin, "checks": r.results} for r in reports]
        print(json.dumps({"learners": as_plain(rows)}, indent=2))
    else:
        for report in reports:
            printing.checks(report)
    return 1 if any(report.failed for report in reports) else 0


def new_learner_command(options: argparse.Namespace) -> int:
    """`new-learner`: write a template with the names put in."""
    from vsml_bench.new_learner import write_new_learner

    out = Path(options.out) if options.out else None
    path = write_new_learner(options.name, out, options.meta)
    if options.json:
        print(json.dumps({"path": str(path)}))
        return 0
    print(
        f"{path} is written. See whether it keeps the contract, and run it:\n"
        f"  vsml-bench check {path}\n"
        f"  vsml-bench run --suite smoke --add-learner {path}\n"
        f"  vsml-bench leaderboard --suite smoke --add-learner {path}"
    )
    return 0


def plan_command(options: argparse.Namespace) -> int:
    """`plan`: what a suite would cost, as far as its learners have been measured."""
    plans = api.plan(options.suite, **_selection(options))
    own = api.results_folder(options.suite, None)
    folders = (own / "checkpoints", *api.made_before(options.suite))
    root = datasets.data_root(options.data_root)
    found = prices(plans, api.cost_model(options.suite), folders, root)
    if options.json:
        printing.rows([as_plain(price) for price in found], "learners", as_json=True)
    else:
        printing.prices(found)
    return 0


def meta_train_command(options: argparse.Namespace) -> int:
    """`meta-train`: make a checkpoint or a tuning record."""
    recipe = _assignments(options.recipe)
    if options.engine:
        recipe["engine"] = options.engine
    given = ("split", "learner", "seed", "suite", "out", "data_root", "device", "threads")
    path = api.meta_train(
        **_named(options, *given),
        recipe=recipe,
        overrides=_assignments(options.set),
        progress=not (options.quiet or options.json),
        command=_command_line(),
    )
    print(json.dumps({"path": str(path)}) if options.json else path)
    return 0


def run_command(options: argparse.Namespace) -> int:
    """`run`: run the cells of a suite."""
    given = ("suite", "out", "data_root", "device", "precision", "jobs", "policy")
    report = api.run(
        **_named(options, *given),
        progress=not (options.quiet or options.json),
        command=_command_line(),
        **_selection(options),
    )
    if options.json:
        cells = [
            {**printing.place(cell.plan), "status": cell.status, "reason": cell.reason}
            for cell in report.cells
        ]
        print(json.dumps({"reused": report.reused, "cells": cells}))
    else:
        printing.run(report)
        place = f" --results {shlex.quote(options.out)}" if options.out else ""
        print(
            f"Results are in {api.results_folder(options.suite, options.out)}; show them with\n"
            f"  vsml-bench leaderboard --suite {shlex.quote(options.suite)}{place}"
        )
    return 1 if report.failed or report.missing else 0


def leaderboard_command(options: argparse.Namespace) -> int:
    """`leaderboard`: the board, printed and, with --write, kept."""
    from vsml_bench.boards.board import compare_boards, describe
    from vsml_bench.boards.formats import find_format, formats
    from vsml_bench.studies import find_study

    board = api.board(options.suite, options.results, **_selection(options))
    chosen = find_format(options.format)
    printed = chosen.text(board) if chosen.printed else ""
    # files first: whoever reads the output may stop
    place = api.results_folder(options.suite, options.results)
    forms = formats().values() if options.write else [] if chosen.printed else [chosen]
    for form in forms:
        file = place / f"board.{form.ending}"
        write_atomically(file, form.text(board).encode())
        if not form.printed:
            print(f"The page of this board: {file}", file=sys.stderr)
    if options.write:
        study = find_study(suites.find_suite(options.suite).study)
        for name, picture in study.pictures_of(board.sections).items():
            write_atomically(place / name, picture)
    if printed:
        print(printed)
    if options.compare:
        published = Path(options.compare)
        if options.compare == "published":
            published = paths.results() / board.suite / "board.json"
        try:
            theirs = json.loads(published.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise VsmlBenchError(
                f"--compare: {published.name} of '{board.suite}' cannot be read as a board "
                f"({error.__class__.__name__}); give the path of a board.json."
            ) from error
        print(describe(compare_boards(board, theirs)), file=sys.stderr)
    return 0


def introspect_command(options: argparse.Namespace) -> int:
    """`introspect`: pictures of how a learner learns, and the data behind them."""
    from vsml_bench.studies.introspection.look import introspect

    given = ("learner", "split", "seed", "lifetimes", "steps", "out", "data_root", "device", "jobs")
    chosen = _named(options, *given)
    progress = not (options.quiet or options.json)
    written = introspect(**chosen, progress=progress, command=_command_line())
    if options.json:
        print(json.dumps({"paths": [str(path) for path in written]}))
    else:
        print(*written, sep="\n")
    return 0


def verify_command(options: argparse.Namespace) -> int:
    """`verify`: every stored record against its own SHA-256 and the other records and, with
    --replay, against what today's code gives."""
    from vsml_bench.evaluation import integrity, verification
    from vsml_bench.evaluation.executors import LocalExecutor

    folder = Path(options.folder)
    good, bad = integrity.damaged(folder)
    reports: Sequence[Mapping[str, Any]] = ()
    root = Path(options.data_root) if options.data_root else None
    if options.adopt and options.replay is None:
        raise VsmlBenchError("--adopt: only what replays is adopted; add --replay.")
    if options.steps is not None and (options.adopt or options.replay is None):
        raise VsmlBenchError("--steps: shortens a replay, and no adoption; give it with --replay.")
    if options.replay is not None and not bad:
        executor = LocalExecutor(options.jobs, not options.json)
        chosen = {"lifetimes": options.replay, **_named(options, "steps", "adopt")}
        reports = verification.replay(folder, executor, root, **chosen)
    if options.json:
        print(json.dumps({"intact": good, "damaged": bad, "replayed": list(reports)}, indent=1))
    else:
        printing.damage(good, bad)
        if options.replay is not None and bad:
            print("Nothing was replayed, since files are damaged; remove or restore them first.")
        elif options.replay is not None:
            printing.replays(reports)
    return 1 if bad or any(report["reason"] for report in reports) else 0


def explain_command(options: argparse.Namespace) -> int:
    """`explain`: everything recorded about one thing."""
    what, text = options.what, ""
    record = what.endswith(".json") and Path(what).parent.name == "checkpoints"
    if record or what.endswith(".safetensors"):
        from vsml_bench.meta_training.checkpoint import load_artifact

        artifact = load_artifact(Path(what))
        shown = {**artifact.document, "sha256": artifact.sha256}
    elif what.endswith(".json"):
        cell = load_cell(Path(what))
        origin = as_plain(cell.provenance)
        origin["seeds"] = {k: v for k, v in origin["seeds"].items() if k != "meta_test"}
        status = {"status": cell.status, "reason": cell.reason}
        shown = {**printing.place(cell.plan), **status, **cell.identity, **origin}
    elif what in suites.suite_names() or suites.is_suite_file(what):
        shown = as_plain(suites.find_suite(what))
    elif what in suites.split_names() or paths.parts(what)[0].endswith(".toml"):
        shown = as_plain(suites.find_split(what))
    else:
        card = cards.find_one(what)
        of = printing.learner_row(card)
        shown = {**of, "version": card.version, "config": card.config}
        text = card.doc
    if options.json and text:
        shown["doc"] = text
    printing.mapping(shown, options.json)
    if text and not options.json:
        print(f"\n{text}")
    return 0


def cite_command(options: argparse.Namespace) -> int:
    """`cite`: BibTeX for the software, and the published board's hash."""
    from vsml_bench.provenance import git_state

    commit, dirty = git_state()
    note = f"version {__version__}"
    if commit:
        note += f", commit {commit[:12]}{' with local changes' if dirty else ''}"
    if options.suite:
        suite = suites.find_suite(options.suite).name
        path = paths.results() / suite / "board.json"
        if not path.is_file():
            raise VsmlBenchError(f"suite '{suite}' has no published board to cite.")
        note += f"; board '{suite}', hash {json.loads(path.read_text())['board_hash']}"
    title = "vsml-bench: a benchmark of meta-learned learning algorithms"
    fields = {"title": title, "author": "{vsml-bench contributors}", "year": "2026", "note": note}
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items()]
    bibtex = ",\n".join(["@software{vsml_bench", *lines]) + "\n}"
    print(json.dumps({"bibtex": bibtex}) if options.json else bibtex)
    return 0


def _named(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}


def _selection(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "splits": options.split,
        "learners": options.learner,
        "extra_learners": options.add_learner,
        "seeds": options.seed,
        "overrides": _assignments(options.set),
    }


def _assignments(pairs: Any) -> dict[str, Any]:
    """["key=value", ...] with values as in TOML; a bare word is a string."""
    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise VsmlBenchError(f"'{pair}' is not an assignment; write key=value.")
        values[key.strip()] = read_toml_value(text)
    return values


def _command_line() -> str:
    """The command as a user would repeat it, without this machine's paths."""
    return shlex.join(["vsml-bench", *map(scrub, sys.argv[1:])])
