"""Which Dask cluster does the work, and whether it may: who can reach it, and what runs there."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vsml_bench.errors import VsmlBenchError

if TYPE_CHECKING:
    from distributed import Client, Security

CONNECT_SECONDS = 30
WORKERS_SECONDS = 120
"""In which the first worker must come."""
SETTINGS = {
    # The nannies' limit is of the worker's own process, in which nothing runs, and a cell's is
    # kept by its worker. A worker's death is nobody's fault on this machine.
    "distributed.scheduler.allowed-failures": 100,
    "distributed.worker.daemon": False,
}
"""Of a cluster on this machine."""


@dataclass(frozen=True)
class Tls:
    """Files in PEM format by which driver, scheduler and workers know each other."""

    certificate: Path
    key: Path
    authority: Path
    """Certificate of who signed all certificates that are accepted."""

    def security(self) -> Security:
        """The same for Dask; VsmlBenchError where a file is missing."""
        from distributed import Security

        for path in (self.certificate, self.key, self.authority):
            if not path.is_file():
                raise VsmlBenchError(f"TLS: there is no file {path}; name one in PEM format.")
        own = {"cert": str(self.certificate), "key": str(self.key)}
        parts = ("client", "scheduler", "worker")
        files = {f"tls_{part}_{kind}": path for part in parts for kind, path in own.items()}
        return Security(tls_ca_file=str(self.authority), require_encryption=True, **files)


@contextlib.contextmanager
def cluster(
    address: str, jobs: int, tls: Tls | None, insecure: bool, shown: bool
) -> Iterator[Client]:
    """A client of the cluster at this address, or of one on this machine with so many workers.

    VsmlBenchError where Dask is not installed, nobody answers, anybody could reach the cluster, or
    other code runs there than here.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise VsmlBenchError(
            "--executor dask needs the package 'distributed'; install vsml-bench[dask]."
        ) from None
    logging.getLogger("distributed").setLevel(logging.ERROR)
    security = tls.security() if tls is not None else None
    if address:
        if "://" not in address:
            address = f"{'tls' if tls is not None else 'tcp'}://{address}"
        check_reach([address], tls, insecure)
        try:
            client = Client(address, security=security, timeout=CONNECT_SECONDS)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise VsmlBenchError(
                f"--executor dask: no scheduler answers at {address} ({type(error).__name__}); "
                "start one, and give its address and the files of its TLS, if it has any."
            ) from error
    else:
        with dask.config.set(SETTINGS):
            local = LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                security=security,
            )
        client = Client(local)
    try:
        if not client.nthreads():
            _wait_for_workers(client, address)
        check_reach([client.scheduler_info()["address"], *client.nthreads()], tls, insecure)
        check_versions(client)
        if shown:
            print(f"Dask's dashboard: {client.dashboard_link}", file=sys.stderr)
        yield client
    finally:
        client.close()
        if not address:
            local.close()


def check_reach(addresses: Iterable[str], tls: Tls | None, insecure: bool) -> None:
    """VsmlBenchError where one of the addresses can be reached from other machines, unless TLS says
    who may, or the user says that it does not matter."""
    for address in addresses:
        if tls is None and not insecure and not _is_loopback(address):
            raise VsmlBenchError(
                f"--executor dask: {address} can be reached from other machines, and who reaches "
                "Dask can run code in it; give --tls-cert, --tls-key and --tls-ca, or --insecure "
                "where nobody else is in that network."
            )


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(str(each).partition("%")[0]).is_loopback for each in found)


def check_versions(client: Client) -> None:
    """VsmlBenchError where a worker runs other code than this process."""
    from vsml_bench.evaluation.dask_worker import differing, here

    for worker, found in client.run(here, on_error="return").items():
        if isinstance(found, OSError):
            continue  # it has just died; who takes its place is asked before each task
        if isinstance(found, Exception):
            wrong = f"no vsml-bench that works ({type(found).__name__}: {found})"
        else:
            wrong = differing(here(), found)
        if wrong:
            raise VsmlBenchError(
                f"--executor dask: worker {worker} has {wrong}; install the same on all machines."
            )


def _wait_for_workers(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKERS_SECONDS)
    except TimeoutError as error:
        raise VsmlBenchError(
            f"--executor dask: the scheduler at {address} has no workers; start some."
        ) from error
