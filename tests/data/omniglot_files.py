"""Small files in the formats of Omniglot's authors."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 105


def ink(seed: int, side: int = SIDE) -> npt.NDArray[np.bool_]:
    """Random ink, coarse enough to survive that images are made smaller."""
    coarse = np.random.default_rng(seed).integers(0, 2, (7, 7)).astype(bool)
    return coarse.repeat(side // 7, 0).repeat(side // 7, 1)


def png(seed: int, side: int = SIDE) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(~ink(seed, side)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_archive(
    path: Path, alphabets: dict[str, int], seed: int = 0, *, drawings: int = 2, same: int = 0
) -> None:
    """Alphabet -> number of characters. `same`: seed of drawings of Greek and Latin, which two
    archives then share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shared = same
    with zipfile.ZipFile(path, "w") as archive:
        for alphabet, characters in alphabets.items():
            for character in range(1, characters + 1):
                for drawing in range(1, drawings + 1):
                    name = f"{path.stem}/{alphabet}/character{character:02}/{drawing:02}.png"
                    if same and alphabet in ("Greek", "Latin"):
                        shared += 1
                        archive.writestr(name, png(shared))
                    else:
                        seed += 1
                        archive.writestr(name, png(seed))


def write_runs(folder: Path, *, runs: int, characters: int) -> dict[Any, npt.NDArray[np.uint8]]:
    """Lake's `all_runs`; returns (run, character, "training" or "test") -> pixels. Test images are
    numbered the other way round, as the labels say."""
    drawn: dict[Any, npt.NDArray[np.uint8]] = {}
    for run in range(runs):
        name, lines = f"run{run + 1:02}", []
        for character in range(characters):
            training = f"{name}/training/class{character + 1:02}.png"
            test = f"{name}/test/item{characters - character:02}.png"
            lines.append(f"{test} {training}")
            for index, (kind, file) in enumerate((("training", training), ("test", test))):
                seed = 1 + index + 2 * (character + characters * run)
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(png(seed))
                drawn[run, character, kind] = np.where(ink(seed), 0, 255).astype(np.uint8)
        (folder / name / "class_labels.txt").write_text("\n".join(sorted(lines)) + "\n")
    return drawn
