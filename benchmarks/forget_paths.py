"""`python forget_paths.py FOLDER`: takes out of asv's records where this machine keeps the project,
which asv writes into the names of environments and of files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vsml_bench.storage import write_atomically

PYTHON = ".venv/bin/python"
ENVIRONMENT = "existing-py_.venv_bin_python"


def main(folder: Path) -> None:
    """Rewrites and renames the records of runs in an existing environment. A run of some benchmarks
    adds to what the commit's record has of others."""
    for path in sorted(folder.glob("*/*-existing-*.json")):
        text = path.read_text(encoding="utf-8")
        record = json.loads(text)
        for name, known in ((record["python"], PYTHON), (record["env_name"], ENVIRONMENT)):
            text = text.replace(json.dumps(name), json.dumps(known))
        clean = path.with_name(f"{record['commit_hash'][:8]}-{ENVIRONMENT}.json")
        if clean == path:
            continue
        record = json.loads(text)
        if clean.is_file():
            earlier = json.loads(clean.read_text(encoding="utf-8"))
            record["results"] = {**earlier["results"], **record["results"]}
        write_atomically(clean, json.dumps(record).encode())
        path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
