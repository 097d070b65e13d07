"""The program of the process that reads cards (`cards`): it imports learners and tries them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vsml_bench.cards import neighbours
from vsml_bench.config import as_plain
from vsml_bench.errors import VsmlBenchError, costs_itself, shortened, warned
from vsml_bench.learner_entry import LearnerEntry
from vsml_bench.plugins import loaded_files
from vsml_bench.registry import find_learners, learners
from vsml_bench.storage import write_atomically


def write_cards() -> None:
    """The main program. The request is the last argument on the command line."""
    request = json.loads(sys.argv[-1])
    try:
        if request["reference"]:
            found = find_learners(request["reference"])
            entries = [entry.overridden(request["overrides"]) for entry in found]
            sizes = [entry.probe() for entry in entries]
        else:
            entries, sizes = _all_that_work()
        files = {
            str(file): digest
            for home in {entry.place.home for entry in entries}
            for file, digest in loaded_files(home).items()
        }
        answer: dict[str, Any] = {
            "cards": [as_plain(entry.card(own)) for entry, own in zip(entries, sizes, strict=True)],
            "files": files,
            "folders": {str(f): neighbours(f) for f in {Path(file).parent for file in files}},
            "warnings": warned,
        }
    except VsmlBenchError as error:
        answer = {"error": str(error)}
    except Exception as error:
        where = request["reference"] or "the learners"
        answer = {"error": shortened(f"{where}: {type(error).__name__}: {error}.")}
    write_atomically(Path(request["to"]), json.dumps(answer).encode())


def _all_that_work() -> tuple[list[LearnerEntry], list[dict[str, Any]]]:
    """All learners and their sizes. Those of other people that fail are left out."""
    entries, sizes = [], []
    for entry in learners().values():
        if entry.place.home is None:
            sizes.append(entry.probe())
            entries.append(entry)
        else:
            with costs_itself(f"learner '{entry.name}'"):
                sizes.append(entry.probe())
                entries.append(entry)
    return entries, sizes
