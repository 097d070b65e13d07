"""Gives malformed inputs to the command line and says how it answers: `make fuzz`.

Each case runs in a process forked from this one, which has everything imported, in an empty
folder, with a limit of time and of memory. A good answer to a malformed input is a refusal: exit
code 1 or 2, no traceback, fewer than 500 characters.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from tools.fuzz_files import toml
from tools.fuzz_inputs import SUITE, Case, Good, cases
from vsml_bench import cli
from vsml_bench.errors import VsmlBenchError

LONGEST = 500
"""Characters of an answer."""
SECONDS = 60.0
"""After which a case counts as endless."""
MEMORY = 1 << 30
"""Bytes that a case may take beyond what the process has that it was forked from."""


@dataclass(frozen=True)
class Answer:
    """What the command did with a case."""

    case: Case
    code: int
    """Exit code; negative: the signal that ended it."""
    text: str
    """What it wrote to standard error or, where that is nothing and it refused, to standard
    output."""
    seconds: float
    """Of CPU."""
    megabytes: float
    """Largest memory beyond the beginning's."""

    @property
    def fault(self) -> str:
        """What is wrong with it; "" for nothing."""
        if self.code < 0:
            return "killed" if self.code != -signal.SIGKILL else "endless"
        if "Traceback (most recent call last)" in self.text or self.code not in (0, 1, 2):
            return "traceback"
        if self.code == 0 and self.case.wrong:
            return "accepted wrongly"
        if self.code and len(self.text) > LONGEST:
            return "long answer"
        if self.megabytes > MEMORY / 1e6:
            return "memory"
        return ""


FAULTS = ("accepted wrongly", "traceback", "long answer", "memory", "endless", "killed")


def make_good(folder: Path) -> Good:
    """Runs a cell and takes a checkpoint that is published."""
    from vsml_bench import paths

    (folder / "s.toml").write_bytes(toml(SUITE))
    command = ["run", "--suite", str(folder / "s.toml"), "--out", str(folder / "out"), "--quiet"]
    with contextlib.redirect_stdout(io.StringIO()):
        if cli.main([*command, "--jobs", "1"]) != 0:
            raise SystemExit("a sound suite does not run")
    (cell,) = (folder / "out/cells").glob("*.json")
    checkpoint = min((paths.results() / "checkpoints").glob("*.safetensors"), key=_size)
    return Good(cell.read_bytes(), cell.name, checkpoint.read_bytes(), checkpoint.name)


def _size(path: Path) -> tuple[int, str]:
    return path.stat().st_size, path.name


def ask(case: Case) -> Answer:
    """Runs one case in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        (folder / "here").mkdir()
        arguments = case.write(folder / "here")
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _answer(case, arguments, folder)
        status, used = _wait(child)
        text = (folder / "err").read_text(errors="replace")
        code = os.waitstatus_to_exitcode(status)
        if code and not text:
            text = (folder / "out").read_text(errors="replace") if not case.streams else ""
        peak = folder / "peak"
        megabytes = float(peak.read_text()) if peak.is_file() else 0.0
        return Answer(case, code, text, used.ru_utime + used.ru_stime, megabytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(child: int) -> tuple[int, resource.struct_rusage]:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            return status, used
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return status, used


def _answer(case: Case, arguments: Sequence[str], folder: Path) -> None:
    """Never returns."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder / "here")
        for name, value in case.environment:
            os.environ.pop(name, None)
            if value is not None:  # a program may be given any bytes
                os.environb[name.encode()] = value.encode("utf-8", "surrogatepass")
        out = "/dev/full" if case.streams == "full" else folder / "out"
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(os.open(folder / "err", os.O_WRONLY | os.O_CREAT), 2)
        encoding = "ascii" if case.streams == "ascii" else "utf-8"
        sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
        if case.streams == "closed":
            os.close(1)
            sys.stdout = None  # as Python does where it is closed
        before = _memory("VmRSS")
        size = _memory("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (size * 1024 + 4 * MEMORY,) * 2)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        code = _call(arguments)
        with contextlib.suppress(OSError):
            (folder / "peak").write_text(str((_memory("VmHWM") - before) / 1e3))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _call(arguments: Sequence[str]) -> int:
    if arguments[0] == "read":
        from vsml_bench.data import datasets

        try:
            datasets.load(arguments[1], "test", Path("root"))
        except VsmlBenchError as error:
            print(f"vsml-bench: {error}", file=sys.stderr)
            return 2
        return 0
    try:
        return cli.main(list(arguments))
    except SystemExit as left:  # how argparse refuses
        return int(left.code or 0)


def _memory(what: str) -> int:
    """Kilobytes, as the system counts them; 0 where it does not."""
    with contextlib.suppress(OSError), open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(f"{what}:"):
                return int(line.split()[1])
    return 0


def table(answers: Sequence[Answer]) -> str:
    """Counts by kind of input, as Markdown."""
    rows = []
    for kind in [*dict.fromkeys(answer.case.kind for answer in answers), "all"]:
        own = [answer for answer in answers if kind in (answer.case.kind, "all")]
        refused = [answer for answer in own if answer.code]
        rows.append(
            {
                "input": kind,
                "cases": len(own),
                **{fault: sum(answer.fault == fault for answer in own) for fault in FAULTS},
                "longest answer": max((len(answer.text) for answer in refused), default=0),
                "longest (CPU s)": round(max(answer.seconds for answer in own), 2),
                "most memory (MB)": round(max(answer.megabytes for answer in own)),
            }
        )
    return str(tabulate(rows, headers="keys", tablefmt="github"))


def fuzz(count: int, seed: int) -> list[Answer]:
    """Answers to so many cases."""
    import torch  # noqa: F401  # so that no case imports it

    import vsml_bench.meta_training.artifact  # noqa: F401

    cli.build_parser()
    with tempfile.TemporaryDirectory() as folder:
        good = make_good(Path(folder))
    return [ask(case) for case in cases(good, count, seed)]


def main() -> int:
    """Prints the table, and an example of each fault below it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    answers = fuzz(options.cases, options.seed)
    print(f"# {len(answers)} malformed inputs\n\n{table(answers)}")
    examples = {(a.case.kind, a.case.name, a.fault): a for a in answers if a.fault}
    for (kind, name, fault), answer in sorted(examples.items()):
        end = " ".join(answer.text.split())[-160:]
        print(f"* {kind}, {name}: {fault} (exit code {answer.code}): {end!a}")
    return 1 if examples else 0


if __name__ == "__main__":
    sys.exit(main())
