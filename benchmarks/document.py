"""How the tables of speed are written: as JSON, and as Markdown for people."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vsml_bench import paths
from vsml_bench.storage import write_atomically


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of a command that writes a table, with the option --out for the folder."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--out", type=Path, default=paths.results() / "speed")
    return made


def write(document: dict[str, Any], path: Path) -> None:
    """Writes the JSON file `path`, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(document, indent=1).encode() + b"\n")


def publish(
    document: dict[str, Any], as_markdown: Callable[[dict[str, Any]], str], out: Path, name: str
) -> None:
    """Writes `out`/`name`.json and .md, and prints the latter."""
    text = as_markdown(document)
    write(document, out / f"{name}.json")
    write_atomically(out / f"{name}.md", text.encode())
    print(text)
