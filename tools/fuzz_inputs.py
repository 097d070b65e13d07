"""Malformed inputs for `tools/fuzz.py`: each is a function that writes files into a folder and
returns the arguments of the command that must refuse them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tools.fuzz_files import idx, places, png, same, storable, toml, torn
from vsml_bench.storage import seal

Arguments = list[str]
NASTY: tuple[Any, ...] = (
    *(
        "",
        ".",
        "..",
        "/",
        "../../x",
        "a\0b",
        "x" * 300,
        "x" * 100_000,
        "\x1b[31m",
        "~nobody-here/x",
    ),
    *("\ud800", "a\nb", "=cmd()", "![x](javascript:x)", "é" * 200, "nan", "-", "--", "{}", "%s%n"),
    *(0, -1, -(2**63), 2**63, 10**30, 10**5000, 1.5, -0.0, 1e308, float("inf"), float("nan")),
    *("1_0", "٣", "+1", " 1 ", "0x1"),
    *(True, [], [[]], {}, ["x"] * 2_000, {"x": {"y": {}}}, [True, 1, "x"]),
)
"""Values that fit nowhere, or hardly anywhere."""


@dataclass(frozen=True)
class Case:
    """One malformed input."""

    kind: str
    name: str
    write: Callable[[Path], Arguments]
    """Writes what it needs into an empty folder; returns a command line, or `["read", NAME]` to
    read both partitions of a dataset."""
    environment: tuple[tuple[str, str | None], ...] = ()
    streams: str = ""
    """"closed", "full" or "ascii": what standard output is."""
    wrong: bool = True
    """Whether to accept it is a fault; else any answer will do that is one."""


@dataclass(frozen=True)
class Good:
    """What is malformed: one run's cell and checkpoint."""

    cell: bytes
    cell_name: str
    checkpoint: bytes
    checkpoint_name: str


SUITE: dict[str, Any] = {
    "description": "t",
    "splits": ["digits-to-random"],
    "learners": ["chance"],
    "seeds": [0],
    "lifetimes": 2,
    "steps": 30,
    "time_limit": 60.0,
}
SPLIT: dict[str, Any] = {
    "description": "t",
    "relation": "unseen_tasks",
    "meta_train": {"datasets": ["digits"], "partition": "train"},
    "meta_test": {"datasets": ["digits"], "partition": "test", "projection": 0.5, "size": 8},
}
RECIPE = {"phases": [{"steps": 3, "lifetime": 10, "learning_rate": 0.1}], "lifetimes": 2}


def cases(good: Good, count: int, seed: int) -> list[Case]:
    """So many cases, the same ones for the same seed, kinds in fixed shares."""
    random = Random(seed)
    shares = {
        tomls: 0.35,
        cells: 0.2,
        checkpoints: 0.12,
        datasets: 0.13,
        options: 0.15,
        environments: 0.05,
    }
    found: list[Case] = []
    for make, share in shares.items():
        source = make(good, random)
        found += [next(source) for _ in range(max(1, round(share * count)))]
    return found


def tomls(good: Good, random: Random) -> Iterator[Case]:
    """Suites and splits with one value, key or stretch of bytes that is wrong."""
    while True:
        of, base = random.choice(
            (
                ("suite", SUITE),
                ("suite", {**SUITE, "recipes": {"vsml": RECIPE}, "learners": ["vsml"]}),
                ("split", SPLIT),
            )
        )
        how = random.choice(("value", "value", "key", "missing", "bytes", "deep", "big"))
        document = json.loads(json.dumps(base))
        place, key = random.choice(list(places(document)))
        value = random.choice(NASTY)
        wrong = True
        if how == "value":
            wrong = type(value) is not type(place[key]) or value in (-1, -(2**63), 10**30)
            wrong = wrong and not (type(place[key]) is float and type(value) is int)
            place[key] = value
        elif how == "key":
            place = random.choice([document, *(v for v in document.values() if type(v) is dict)])
            name = random.choice((f"{key}x", "", "é", "x" * 100_000, "a\0b", "__class__"))
            place[name] = value
            wrong = place is not document.get("recipes")
        elif how == "missing":
            document = {k: v for k, v in document.items() if k != "description"}
        data = toml(document)
        if how == "bytes":
            data, wrong = torn(data, random), False
        elif how == "deep":
            data += random.choice((b"deep = " + b"[" * 9_000, b"[" + b"a." * 9_000 + b"a]\nx=1\n"))
        elif how == "big":
            data += b"more = " + b"9" * random.choice((20, 5_000, 200_000)) + b"\n"
        yield _toml_case(of, how, data, wrong)


def _toml_case(of: str, how: str, data: bytes, wrong: bool) -> Case:
    def write(folder: Path) -> Arguments:
        (folder / "my.toml").write_bytes(data)
        if of == "suite":
            return ["plan", "--suite", "my.toml"]
        (folder / "s.toml").write_bytes(toml({**SUITE, "splits": ["my.toml"]}))
        return ["plan", "--suite", "s.toml"]

    return Case("TOML", f"{of} {how}", write, wrong=wrong)


def cells(good: Good, random: Random) -> Iterator[Case]:
    """A cell with changed bytes, or sealed again with a field that is wrong."""
    while True:
        data, how = good.cell, random.choice(("bytes", "cut", "field", "field", "dropped", "other"))
        if how in ("bytes", "cut"):
            data = torn(data, random, cut=how == "cut")
        elif how == "other":
            data = random.choice((b"", b"[]", b"{}", b"[" * 100_000, b"\x80\x04.", b"9" * 100_000))
        else:
            document = json.loads(data)
            del document["sha256"]
            place, key = random.choice(list(places(document)))
            if how == "dropped":  # of a table whose keys are all needed
                parts = (document.get(part) for part in ("plan", "provenance"))
                place = random.choice([document, *filter(None, parts)])
                key = random.choice(list(place))
                del place[key]
            else:
                place[key] = random.choice([v for v in NASTY if storable(v)])
            data = seal(document)
        if same(data, good.cell):
            continue
        # a field that may be anything, sealed again: forgery, which no seal finds
        yield _cell_case(good, how, data, how != "field")


def _cell_case(good: Good, how: str, data: bytes, wrong: bool) -> Case:
    def write(folder: Path) -> Arguments:
        (folder / "out/cells").mkdir(parents=True)
        (folder / "out/cells" / good.cell_name).write_bytes(data)
        (folder / "s.toml").write_bytes(toml(SUITE))
        if how == "field":
            return ["leaderboard", "--suite", "s.toml", "--results", "out"]
        return ["verify", "out"]

    return Case("cell", how, write, wrong=wrong)


def checkpoints(good: Good, random: Random) -> Iterator[Case]:
    """A checkpoint with changed bytes, a header of another length, or other metadata."""
    while True:
        data, how = good.checkpoint, random.choice(("bytes", "cut", "header", "metadata", "other"))
        length = int.from_bytes(data[:8], "little")
        if how in ("bytes", "cut"):
            data = torn(data, random, cut=how == "cut")
        elif how == "header":
            data = struct.pack("<Q", random.choice((0, 1, 2**63, 2**64 - 1, 10**9))) + data[8:]
        elif how == "metadata":
            header = json.loads(data[8 : 8 + length])
            told = random.choice(("null", "[]", "{}", "3", "[" * 5_000, '{"sha256": 3}', "{"))
            header["__metadata__"]["vsml_bench"] = told
            text = json.dumps(header).encode()
            data = struct.pack("<Q", len(text)) + text + data[8 + length :]
        else:
            data = random.choice((b"", b"\0" * 8, b"\x80\x04.", b"{}", b"\xff" * 100))
        if data == good.checkpoint:
            continue
        yield _checkpoint_case(good, how, data)


def _checkpoint_case(good: Good, how: str, data: bytes) -> Case:
    def write(folder: Path) -> Arguments:
        (folder / "checkpoints").mkdir()
        path = folder / "checkpoints" / good.checkpoint_name
        path.write_bytes(data)
        return ["explain", str(path.relative_to(folder))]

    return Case("checkpoint", how, write)


def datasets(good: Good, random: Random) -> Iterator[Case]:
    """Files of KMNIST and Omniglot that are torn, expand without end, or have other sizes."""
    while True:
        how = random.choice(("torn", "shape", "bomb", "labels", "zip", "png"))
        images = idx((20, 28, 28), bytes(20 * 784))
        labels = idx((20,), bytes(i % 10 for i in range(20)))
        zipped = random.random() < 0.5
        if how == "torn":
            images = torn(images, random, cut=True)
        elif how == "shape":
            side = random.choice((0, 1, 2**16, 2**32 - 1))
            images = idx(random.choice(((20, side, 28), (side, 28, 28), (20, 28, side))), bytes(99))
        elif how == "bomb":
            zipped = True
        elif how == "labels":
            labels = idx((20,), bytes([random.randrange(10, 256)] * 20))
        if how in ("zip", "png"):
            yield _zip_case(how, random)
        else:
            yield _idx_case(how, images, labels, ".gz" if zipped else "")


def _idx_case(how: str, images: bytes, labels: bytes, ending: str) -> Case:
    def write(folder: Path) -> Arguments:
        raw = folder / "root/KMNIST/raw"
        raw.mkdir(parents=True)
        bomb = bytes(200_000_000) if how == "bomb" else b""  # made late: cases are kept
        for name, data in (("images-idx3", images + bomb), ("labels-idx1", labels)):
            data = gzip.compress(data, 1) if ending else data
            (raw / f"t10k-{name}-ubyte{ending}").write_bytes(data)
        return ["read", "kmnist"]

    return Case("dataset", f"IDX {how}", write)


def _zip_case(how: str, random: Random) -> Case:
    picture = png(random.choice((0, 1, 50_000)), random.choice((0, 104, 50_000)))
    if how == "zip":
        picture = random.choice((b"", b"GIF89a", bytes(500)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images_background_small1/Greek/character01/01.png", picture)
    data = buffer.getvalue()
    if how == "zip" and random.random() < 0.7:
        data = torn(data, random, cut=random.random() < 0.5)
    if how == "zip" and random.random() < 0.3:  # says that it is encrypted
        data = data.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01")
        data = data.replace(b"\x14\x03\x14\x00\x00", b"\x14\x03\x14\x00\x01")

    def write(folder: Path) -> Arguments:
        (folder / "root/omniglot-py").mkdir(parents=True)
        for name in ("images_background_small1", "images_background_small2"):
            (folder / f"root/omniglot-py/{name}.zip").write_bytes(data)
        return ["read", "omniglot_small"]

    return Case("dataset", f"Omniglot {how}", write)


def options(good: Good, random: Random) -> Iterator[Case]:
    """Command lines with names, numbers and paths that nobody means."""
    templates: tuple[tuple[str, ...], ...] = (
        ("plan", "--suite", "?"),
        ("plan", "--suite", "?.toml"),
        ("plan", "--suite", "smoke", "--split", "?"),
        ("plan", "--suite", "smoke", "--learner", "?"),
        ("plan", "--suite", "smoke", "--seed", "?"),
        ("plan", "--suite", "smoke", "--data-root", "?"),
        ("leaderboard", "--suite", "?"),
        ("leaderboard", "--suite", "smoke", "--format", "?"),
        ("leaderboard", "--suite", "smoke", "--results", "?", "--compare", "?"),
        ("run", "--suite", "smoke", "--jobs", "?"),
        ("run", "--suite", "smoke", "--policy", "?"),
        ("run", "--suite", "smoke", "--precision", "?"),
        ("explain", "?"),
        ("explain", "?.json"),
        ("explain", "?.safetensors"),
        ("verify", "?"),
        ("cite", "--suite", "?"),
        ("data", "fetch", "?"),
        ("list", "?"),
        ("new-learner", "?"),
        ("?",),
        ("meta-train", "--split", "?", "--learner", "chance"),
        ("meta-train", "--split", "digits-held-out", "--learner", "vsml", "--recipe", "?"),
    )
    lenient = ("--data-root", "--results")  # absent data and results are no fault
    while True:
        template = random.choice(templates)
        value = str(random.choice([v for v in NASTY if v != 10**5000 and "\0" not in str(v)]))
        arguments = [part.replace("?", value) for part in template]
        wrong = not any(name in template for name in lenient)
        wrong = wrong and not ("--seed" in template and value == "0")
        wrong = wrong and not ("new-learner" in template and value in ("nan", "inf"))  # good names
        folders = (".", "..", "--")  # "--" is as good as no argument
        wrong = wrong and not (template[0] == "verify" and value in folders)
        if (template[0], value) != ("verify", "/"):  # as asked, it looks through all of the disk
            yield _option_case(template, arguments, wrong)


def _option_case(template: tuple[str, ...], arguments: Arguments, wrong: bool) -> Case:
    return Case("option", " ".join(template), lambda folder: arguments, wrong=wrong)


def environments(good: Good, random: Random) -> Iterator[Case]:
    """Variables and streams that are odd; each command must still answer."""
    verbs = (
        ("list", "suites"),
        ("data",),
        ("plan", "--suite", "smoke"),
        ("leaderboard", "--suite", "smoke"),
        ("explain", "digits-held-out"),
        ("explain", "no-such-thing"),
        ("cite",),
    )
    names = ("VSML_BENCH_DATA", "HOME", "OMP_NUM_THREADS", "COLUMNS", "TERM", "LANG", "USER")
    while True:
        value = str(random.choice([v for v in NASTY if v != 10**5000 and "\0" not in str(v)]))
        verb = random.choice(verbs)
        streams = random.choice(("", "", "closed", "full", "ascii"))
        setting = ((random.choice(names), random.choice((value, None, ""))),)
        yield _environment_case(verb, () if streams else setting, streams)


def _environment_case(
    verb: tuple[str, ...], setting: tuple[tuple[str, str | None], ...], streams: str
) -> Case:
    name = f"stdout {streams}" if streams else setting[0][0]
    return Case("environment", name, lambda folder: [*verb], setting, streams, wrong=False)
