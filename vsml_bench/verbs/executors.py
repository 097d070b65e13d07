"""The options that say who does the work: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vsml_bench.errors import VsmlBenchError
from vsml_bench.verbs.options import PATH

if TYPE_CHECKING:
    from vsml_bench.evaluation.executors import Executor


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Who does the work, and how it is reached."""
    parser.add_argument(
        "--executor",
        default="local",
        metavar="local|dask[:ADDRESS]",
        help="processes of this machine, a Dask cluster of its own with --jobs workers, or the "
        "cluster of the scheduler at this address (default: %(default)s)",
    )
    files = {"cert": "certificate", "key": "key of it", "ca": "certificate of who signs them"}
    for name, what in files.items():
        parser.add_argument(f"--tls-{name}", **PATH, help=f"{what}, where Dask has TLS (PEM)")
    without = "use a Dask cluster that other machines can reach without TLS"
    parser.add_argument("--insecure", action="store_true", help=without)


def chosen_executor(options: argparse.Namespace, progress: bool) -> Executor | None:
    """What was chosen; None is processes of this machine."""
    engine, _, address = options.executor.partition(":")
    files = [options.tls_cert, options.tls_key, options.tls_ca]
    if engine == "local" and not address:
        if any(files) or options.insecure:
            raise VsmlBenchError(
                "--tls-... and --insecure are for --executor dask; leave them out."
            )
        return None
    if engine != "dask":
        raise VsmlBenchError(
            f"--executor: expected local, dask or dask:HOST:PORT, found '{options.executor}'."
        )
    if any(files) and not all(files):
        raise VsmlBenchError("--tls-cert, --tls-key and --tls-ca go together; give all three.")
    from vsml_bench.evaluation.dask_cluster import Tls
    from vsml_bench.evaluation.dask_executor import DaskExecutor

    tls = Tls(*map(Path, files)) if all(files) else None
    return DaskExecutor(address, options.jobs, progress, tls, options.insecure)
