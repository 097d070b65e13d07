"""`submit`: a learner's results as a folder for a pull request, and whether such a folder holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsml_bench.errors import VsmlBenchError
from vsml_bench.verbs.options import COUNT, PATH, add_shared

if TYPE_CHECKING:
    from vsml_bench.evaluation.examination import Report
    from vsml_bench.evaluation.submissions import Submission

FOLDER = Path("submissions")
SHOWN = 20
"""Lines of one kind in a summary; the rest is in the JSON."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_shared(parser, "--jobs", "--data-root", "--quiet", "--json")
    learner = "path/to/file.py, or path/to/file.py:ClassName"
    parser.add_argument("learner", nargs="?", **PATH, help=learner)
    parser.add_argument("--suite", default="desk", help="one of vsml-bench's (default: desk)")
    cells = "folder of its cells (default: runs/SUITE)"
    parser.add_argument("--results", **PATH, help=cells)
    out = f"folder to write, new or empty (default: {FOLDER}/NAME--SUITE)"
    parser.add_argument("--out", **PATH, help=out)
    check = "check these folders instead, and believe none of their numbers"
    parser.add_argument("--check", nargs="+", metavar="FOLDER", default=[], **PATH, help=check)
    accept = "with --check: merge into this folder what holds, with its badge"
    parser.add_argument("--accept", metavar="DIR", **PATH, help=accept)
    again = "lifetimes of each cell to audit and to replay, drawn at random (default: %(default)s)"
    parser.add_argument("--replay", **COUNT, default=2, metavar="N", help=again)


def run(options: argparse.Namespace) -> int:
    """`submit`: write a submission, or check some."""
    from vsml_bench.config import as_plain
    from vsml_bench.evaluation import examination, submissions
    from vsml_bench.evaluation.executors import LocalExecutor

    if bool(options.learner) == bool(options.check):
        raise VsmlBenchError(
            "submit: name the file of a learner, or folders with --check; one of both."
        )
    if options.accept and not options.check:
        raise VsmlBenchError("--accept: what was checked is accepted; name folders by --check.")
    if options.replay < 1:
        raise VsmlBenchError(f"--replay: expected at least 1 lifetime, found {options.replay}.")
    executor = LocalExecutor(options.jobs, not (options.quiet or options.json))
    root = Path(options.data_root) if options.data_root else None
    again = (executor, root, options.replay)
    found: list[tuple[Submission, Report]] = []
    for folder in map(Path, options.check):
        submission = submissions.read(folder)
        checked = examination.examine(folder, submission, *again)
        if options.accept:
            checked = examination.accepted(folder, checked, Path(options.accept))
        found.append((submission, checked))
    if options.learner:
        results = Path(options.results or Path("runs") / options.suite)
        out = Path(options.out or FOLDER / f"{_stem(options.learner)}--{options.suite}")
        contract = examination.contract_of(options.learner)
        if any(report.failed for report in contract):
            from vsml_bench import printing

            for report in contract:
                printing.checks(report)
            raise VsmlBenchError("nothing was written, since the learner breaks the contract.")
        submission = submissions.gather(options.learner, options.suite, results, out)
        examined = examination.examine(out, submission, *again, contract)
        examination.keep_report(out, submission, examined, summary(submission, examined))
        found.append((submission, examined))
    if options.json:
        shown = [{**as_plain(of), "badge": of.badge, "failed": of.failed} for _, of in found]
        print(json.dumps(shown, indent=1))
    else:
        print("\n".join(summary(*each) for each in found), end="")
        if options.learner and not found[-1][1].failed:
            print(f"\nThe submission is in {out}; add the folder to a pull request.")
    return 1 if any(report.failed for _, report in found) else 0


def _stem(reference: str) -> str:
    """What a file is called, and the class or variant, if any, in a folder's name."""
    from vsml_bench import paths

    file, inside = paths.parts(reference)
    return "-".join(filter(None, (Path(file).stem or "learner", *inside.split(":"))))


def summary(submission: Submission, report: Report) -> str:
    """A report in Markdown. What an author wrote is shown as code, so that it does no harm."""
    names = ", ".join(_code(variant.name) for variant in submission.variants)
    promises = [finding for of in report.contract for finding in of.results]
    failed = [finding for finding in promises if finding.outcome == "failed"]
    ok = report.cells.get("ok", 0)
    cells = ", ".join(f"{count} {status}" for status, count in report.cells.items()) or "none"
    lines = [
        f"# {names} in suite {_code(submission.suite)}: {report.badge}",
        "",
        f"* Contract: {len(promises) - len(failed)} of {len(promises)} checks are not failed.",
        f"* Cells: {cells}.",
        f"* Run again: lifetimes of {len(report.replayed)} of {ok} cells with a score, the largest "
        f"difference of a loss {max((of.difference for of in report.reruns), default=0.0):.3g}.",
    ]
    for variant in submission.variants:
        said = _code(variant.external_data) if variant.external_data else "nothing said"
        lines.append(f"* External data of {_code(variant.name)}, says its author: {said}.")
    lines += _section("What speaks against it", [*_against(report)])
    undecided = dict.fromkeys(
        f"{rerun.how}: {_code(rerun.undecided)}" for rerun in report.reruns if rerun.undecided
    )
    lines += _section("What could not be run again here", list(undecided))
    return "\n".join(lines) + "\n"


def _against(report: Report) -> Iterator[str]:
    for of in report.contract:
        for finding in of.failed:
            yield f"contract, {finding.check}: {_code(finding.reason)}"
    yield from map(_code, report.faults)
    for rerun in report.reruns:
        if rerun.fault:
            yield f"{rerun.how} of {_code(rerun.file)}: {_code(rerun.fault)}"


def _section(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = [f"* and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return ["", f"## {title}", "", *(f"* {item}" for item in items[:SHOWN]), *more]


def _code(text: str) -> str:
    """On one line, in a span of code that the text cannot end."""
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return f"`{shown.replace('`', chr(39))}`"
