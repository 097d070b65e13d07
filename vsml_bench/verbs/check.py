"""`check`: a learner against every promise of the contract."""

from __future__ import annotations

import argparse
import json

from vsml_bench.verbs.options import LEARNER, PATH, add_shared


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_shared(parser, "--json")
    parser.add_argument("learner", **PATH, help=LEARNER)


def run(options: argparse.Namespace) -> int:
    """`check`: every promise of the contract, for each learner that the argument stands for."""
    from vsml_bench import api, printing
    from vsml_bench.config import as_plain

    reports = api.check_all(options.learner)
    if options.json:
        rows = [{"name": r.learner, "origin": r.origin, "checks": r.results} for r in reports]
        print(json.dumps({"learners": as_plain(rows)}, indent=2))
    else:
        for report in reports:
            printing.checks(report)
    return 1 if any(report.failed for report in reports) else 0
