"""What the Makefile does around asv, one verb each: `python -m benchmarks.asv VERB ...`. Each verb
imports what it needs itself: `link` is run where nothing is installed."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

PYTHON = ".venv/bin/python"
ENVIRONMENT = "existing-py_.venv_bin_python"


def machine_name() -> str:
    """`name`: what asv calls this machine, from the CPU's model, its widest vectors that PyTorch
    uses, and the number of threads: times compare where these are the same. asv would take the
    host's name, which says nothing to others."""
    import torch

    from vsml_bench.execution import device_name

    model = device_name(torch.device("cpu"))
    vectors, cores = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return re.sub(r"[^a-z0-9]+", "-", f"{model} {vectors} {cores} cores".lower()).strip("-")


def link_packages(venv: Path) -> None:
    """`link VENV`: lets this Python import what VENV has installed, after its own. asv makes an
    environment of its own for the commits that it measures, which needs the same packages as the
    project's, gigabytes of them; only vsml-bench itself is to differ from commit to commit.

    SystemExit where VENV is not there or of another Python.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = venv / "lib" / version / "site-packages"
    if not packages.is_dir():
        raise SystemExit(f"{venv} has no packages for {version}; run `make install` first.")
    own = Path(sysconfig.get_path("purelib"))
    (own / "project-packages.pth").write_text(f"{packages}\n", encoding="utf-8")


def forget_paths(folder: Path) -> None:
    """`forget FOLDER`: takes out of asv's records of runs in an existing environment where this
    machine keeps the project, which asv writes into the names of environments and of files. A run
    of some benchmarks adds to what the commit's record has of others."""
    from vsml_bench.storage import write_atomically

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


def compare(bench: str, arguments: Sequence[str]) -> int:
    """`compare --bench PATTERN ...`: two commits side by side; not 0 where the second is slower.
    A whole suite is so many comparisons that noise alone fails one now and then. What seems slower
    is therefore measured once more by itself, and counts only if it does again."""
    code, suspects = _continuous(bench, arguments)
    if code != 0 and suspects:
        print("\nOnce more, to tell a slow-down from noise:", *suspects, sep="\n  ", flush=True)
        bench = "|".join(f"^{re.escape(name)}$" for name in suspects)
        code, _ = _continuous(bench, arguments)
    return code


def _continuous(bench: str, arguments: Sequence[str]) -> tuple[int, list[str]]:
    """asv's exit code, and the benchmarks, with parameters, that its table marks as slower; its
    output is passed on as it comes."""
    command = ["asv", "continuous", "--interleave-rounds", "--bench", bench, *arguments]
    slower = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            if line.startswith("| +"):
                slower.append(line.split("|")[-2].strip())
    return running.returncode, slower


def main() -> int:
    """One verb."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("name")
    for verb in ("link", "forget"):
        verbs.add_parser(verb).add_argument("folder", type=Path)
    verbs.add_parser("compare").add_argument("--bench", required=True, help="regular expression")
    options, arguments = parser.parse_known_args()
    if options.verb == "compare":
        return compare(options.bench, arguments)
    if options.verb == "name":
        print(machine_name())
    elif options.verb == "link":
        link_packages(options.folder)
    else:
        forget_paths(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
