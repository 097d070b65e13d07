"""The asv suite runs, and tracks what it says."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from benchmarks import asv
from benchmarks.tracked import base
from benchmarks.tracked.few_shot import FewShot
from benchmarks.tracked.online import Online
from benchmarks.tracked.quality import FewShotErrorRate, OnlineErrorRate
from vsml_bench import paths

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", [Online, FewShot])
def test_a_benchmark_runs(kind: type[Online | FewShot]) -> None:
    benchmark = kind()
    benchmark.setup("vsml", 64)
    benchmark.time_run("vsml", 64)
    benchmark.peakmem_run("vsml", 64)
    assert 0.0 <= benchmark.track_compile_seconds("vsml", 64) <= benchmark.first


@pytest.mark.parametrize("kind", [Online, FewShot])
def test_a_run_that_is_timed_ends_when_its_device_is_done(
    kind: type[Online | FewShot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """asv itself waits for no GPU."""
    benchmark, calls = kind(), []
    benchmark.setup("ridge", 64)
    monkeypatch.setattr(benchmark, "run", lambda: calls.append("run"))
    monkeypatch.setattr(base, "synchronize", lambda device: calls.append(device.type))
    benchmark.time_run("ridge", 64)
    assert calls == ["run", benchmark.execution.device.type]


def test_all_that_is_tracked_is_better_where_it_is_lower() -> None:
    """asv compare knows nothing else."""
    stored = json.loads((paths.results() / "speed/history/benchmarks.json").read_text("utf-8"))
    units = {name: each["unit"] for name, each in stored.items() if isinstance(each, dict)}
    assert len(units) == 8
    assert set(units.values()) == {"seconds", "bytes", "share of predictions"}
    shares = {name for name, unit in units.items() if unit == "share of predictions"}
    assert all(name.endswith("track_error_rate") for name in shares)


def test_what_is_stored_is_of_the_commit() -> None:
    """In an environment that exists, asv stores nothing unless it is told which commit it runs."""
    command = ["make", "--dry-run", "--assume-old=.venv/.installed", "asv"]
    done = subprocess.run(command, cwd=paths.home(), capture_output=True, text=True, check=True)
    run = next(line for line in done.stdout.splitlines() if "--set-commit-hash" in line)
    assert "existing:" in done.stdout and '"$(git rev-parse HEAD)"' in run


def test_error_rate_of_the_published_checkpoint() -> None:
    benchmark = OnlineErrorRate()
    benchmark.setup("vsml")
    assert 0.05 < benchmark.track_error_rate("vsml") < 0.5


def test_few_shot_error_rate_of_the_published_checkpoint() -> None:
    benchmark = FewShotErrorRate()
    try:
        benchmark.setup("maml-conv")
    except NotImplementedError as error:
        pytest.skip(str(error))
    assert 0.05 < benchmark.track_error_rate("maml-conv") < 0.3


def test_a_benchmark_whose_data_are_not_here_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSML_BENCH_DATA", str(tmp_path))
    with pytest.raises(NotImplementedError, match="omniglot"):
        FewShotErrorRate().setup("maml-conv")


def test_an_environment_sees_the_packages_of_another_after_its_own(tmp_path: Path) -> None:
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    find = "import importlib.util as u; print(u.find_spec('torch') is not None)"

    def output(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert output(str(python), "-c", find) == "False"
    output(str(python), asv.__file__, "link", sys.prefix)
    assert output(str(python), "-c", find) == "True"


def test_linking_to_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run `make install` first"):
        asv.link_packages(tmp_path)


def test_a_machine_is_called_after_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsml_bench.execution.device_name", lambda device: "Some(R) CPU @ 2.40GHz")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert asv.machine_name() == "some-r-cpu-2-40ghz-avx2-2-cores"


def test_records_forget_where_the_project_is(tmp_path: Path) -> None:
    python, name = "/home/someone/vsml/.venv/bin/python", "existing-py_home_someone_vsml_.venv_bin"
    record: dict[str, Any] = {
        "commit_hash": "0123456789abcdef",
        "env_name": name,
        "params": {"machine": "a-cpu", "python": python},
        "python": python,
        "results": {"online.Online.time_run": [[0.5]]},
    }
    folder = tmp_path / "a-cpu"
    folder.mkdir()
    (folder / f"01234567-{name}.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "machine.json").write_text("{}", encoding="utf-8")
    for _ in range(2):  # what is clean stays as it is
        asv.forget_paths(tmp_path)
        (kept,) = folder.glob("0*")
        text = kept.read_text(encoding="utf-8")
        assert "someone" not in kept.name + text
        assert json.loads(text)["results"] == record["results"]
        assert json.loads(text)["params"]["machine"] == "a-cpu"
    later = {**record, "results": {"quality.OnlineErrorRate.track_error_rate": [[0.2]]}}
    (folder / f"01234567-{name}.json").write_text(json.dumps(later), encoding="utf-8")
    asv.forget_paths(tmp_path)
    (kept,) = folder.glob("0*")
    both = json.loads(kept.read_text(encoding="utf-8"))["results"]
    assert both == {**record["results"], **later["results"]}
