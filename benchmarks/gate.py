"""`make asv-compare`: two commits side by side by asv, and an exit code that is not zero where the
second is slower.

A whole suite is so many comparisons that noise alone fails one now and then. What seems slower is
therefore measured once more by itself, and counts only if it does again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence


def slower(output: str) -> list[str]:
    """The benchmarks, with parameters, that asv's table marks as slower."""
    rows = [line.split("|") for line in output.splitlines() if line.startswith("| +")]
    return [row[-2].strip() for row in rows]


def compare(arguments: Sequence[str], benchmarks: str) -> tuple[int, list[str]]:
    """asv's exit code, and what is slower; its output is passed on as it comes."""
    command = ["asv", "continuous", "--interleave-rounds", "--bench", benchmarks, *arguments]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return running.returncode, slower("".join(lines))


def main() -> None:
    """Compares the commits that asv is given."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--bench", required=True, help="regular expression of benchmarks")
    options, arguments = parser.parse_known_args()
    code, suspects = compare(arguments, options.bench)
    if code != 0 and suspects:
        print("\nOnce more, to tell a slow-down from noise:", *suspects, sep="\n  ", flush=True)
        code, suspects = compare(arguments, "|".join(f"^{re.escape(name)}$" for name in suspects))
    sys.exit(code)


if __name__ == "__main__":
    main()
