"""Who may reach a Dask cluster, and by what it is known."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from distributed import LocalCluster

from vsml_bench.errors import VsmlBenchError
from vsml_bench.evaluation import dask_cluster
from vsml_bench.evaluation.dask_cluster import Tls, check_reach, cluster


def test_who_can_be_reached_needs_tls() -> None:
    check_reach(["tcp://127.0.0.1:8786", "tcp://[::1]:8786"], None, False)
    check_reach(["tcp://192.0.2.1:8786"], None, True)
    check_reach(["tls://192.0.2.1:8786"], Tls(Path("a"), Path("b"), Path("c")), False)
    for address in ("tcp://192.0.2.1:8786", "tcp://0.0.0.0:8786", "tcp://no.such.host.invalid:1"):
        with pytest.raises(VsmlBenchError, match="can be reached from other machines"):
            check_reach([address], None, False)


def signed(folder: Path, name: str) -> Tls:
    """An authority, and a key with a certificate that it has signed, made by OpenSSL."""
    authority, key, certificate = (folder / f"{name}-{part}.pem" for part in ("ca", "key", "cert"))
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    ca_key = folder / f"{name}-ca.key"
    signing = ["-CA", str(authority), "-CAkey", str(ca_key)]
    for to, of, more in ((authority, ca_key, []), (certificate, key, signing)):
        files = ["-keyout", str(of), "-out", str(to), "-subj", f"/CN={to.stem}"]
        subprocess.run([*new, *files, *more], check=True, capture_output=True)
    return Tls(certificate, key, authority)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
def test_by_tls_only_who_is_known_gets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, strange = signed(tmp_path, "own"), signed(tmp_path, "strange")
    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 1)
    security = own.security()
    options = {"host": "tls://127.0.0.1", "dashboard_address": "127.0.0.1:0", "security": security}
    with LocalCluster(n_workers=1, processes=False, **options) as there:
        address = there.scheduler_address.removeprefix("tls://")
        with cluster(address, 1, own, False, True) as client:
            assert client.submit(sum, (1, 2)).result() == 3
        assert capsys.readouterr().err.startswith("Dask's dashboard: http://127.0.0.1:")
        for tls in (strange, None):
            with (
                pytest.raises(VsmlBenchError, match="no scheduler answers"),
                cluster(address, 1, tls, True, False),
            ):
                pass
