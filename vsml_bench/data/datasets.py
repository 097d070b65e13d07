"""The datasets: how they are found, how one is loaded, and what of it is here.

A dataset is called by name, which is one of this package's own or that of an entry point of the
group `vsml_bench.datasets` (a module or a class), or by where its class is: `path/to/file.py`,
`path/to/file.py:ClassName`, `package.module` or `package.module:ClassName`.

Data are looked for in this order: the data root (the `root` argument, else the folder that the
environment variable VSML_BENCH_DATA names, else `runs/data`) in torchvision's layout, then the
folder of the operating system's package. Nothing here ever touches the network;
`vsml_bench.data.fetch` does. Nothing here imports PyTorch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np

from vsml_bench.data import builtin, files, omniglot
from vsml_bench.data.dataset import Dataset, keep_groups, statistics_of
from vsml_bench.data.source import Examples, Found, Generated, Modality, Source
from vsml_bench.errors import UnavailableError, VsmlBenchError, closest, costs_itself
from vsml_bench.paths import expanded
from vsml_bench.plugins import classes_in, import_module, import_place, points
from vsml_bench.sides import PartitionName
from vsml_bench.storage import file_hash

RULES = "see vsml_bench/data/source.py"


@dataclass(frozen=True, eq=False)
class DatasetEntry:
    """A dataset that was found."""

    source: Source
    origin: str
    """Where it was found: "vsml-bench", "package NAME", "module NAME", or the given file's name."""
    code: str = ""
    """SHA-256 of the file that its class is in; "" of this package's own."""

    @property
    def name(self) -> str:
        """What cells and boards call it."""
        return self.source.name


OWN: dict[str, DatasetEntry] = {
    source.name: DatasetEntry(source, "vsml-bench")
    for source in (*builtin.SOURCES, *files.SOURCES, *omniglot.SOURCES)
}


def names() -> tuple[str, ...]:
    """All datasets that are found without being pointed at, their data here or not.

    An entry point that is broken costs itself, with a warning. VsmlBenchError where two datasets
    have the same name.
    """
    return (*OWN, *_entry_points())


def find(reference: str) -> DatasetEntry:
    """The dataset of that name, or at that place; VsmlBenchError where there is none, naming the
    closest, where a reference stands for several, or where a class breaks the rules."""
    if reference in OWN:
        return OWN[reference]
    imported = import_place(reference, "dataset")
    if imported is not None:
        module, place, class_name = imported
        where = Path(place).name if place.endswith(".py") else f"module {place}"
        return _only(_entries(module, where), where, class_name)
    found = _entry_points()
    if reference not in found:
        raise VsmlBenchError(f"unknown dataset '{reference}'; {closest(reference, names())}")
    return found[reference]


def data_root(root: Path | str | None = None) -> Path:
    """The folder for data: `root`, else what VSML_BENCH_DATA names, else `runs/data`."""
    return Path(expanded(str(root or os.environ.get("VSML_BENCH_DATA") or "runs/data")))


def load(
    reference: str, partition: PartitionName, root: Path | None = None, groups: tuple[str, ...] = ()
) -> Dataset:
    """One partition of a dataset, or its classes of some groups, cached for the life of the
    process.

    UnavailableError where it is not here, VsmlBenchError where a name is unknown or a file is
    broken.
    """
    return _load(find(reference), partition, data_root(root).resolve(), groups)


def status(reference: str, root: Path | None = None) -> Found:
    """What of the dataset is here, read from headers only; absent data are no error."""
    return find(reference).source.find(data_root(root))


@lru_cache(maxsize=8)
def _load(
    entry: DatasetEntry, partition: PartitionName, root: Path, groups: tuple[str, ...]
) -> Dataset:
    if groups:
        return keep_groups(_load(entry, partition, root, ()), groups)
    source = entry.source
    name, modality = source.name, source.modality
    if isinstance(source, Generated):
        shape, classes = source.inputs_shape, source.classes
        made = Dataset(
            name, partition, modality, shape, classes, None, source, 1.0, (0.0,), (1.0,), "none"
        )
        return replace(made, code=entry.code)
    own = _read(source, partition, root)
    try:
        reference = _read(source, "train", root)
    except UnavailableError:
        reference = own
    origin = partition if reference is own else "train"
    scale = source.scale if modality == "image" else 1.0
    mean, std = statistics_of(reference.inputs, scale)
    shape, classes = own.inputs.shape[1:], own.classes
    return Dataset(
        name, partition, modality, shape, classes, own, None, scale, mean, std, origin, reference
    )


@lru_cache(maxsize=8)
def _read(source: Source, partition: PartitionName, root: Path) -> Examples:
    examples = source.read(partition, root)
    problem = _problem(examples, source.modality)
    if problem:
        raise VsmlBenchError(f"dataset '{source.name}' ({partition}): {problem}; {RULES}.")
    return examples


def _problem(examples: Examples, modality: Modality) -> str:
    """What is wrong with examples that a source has read; "" for nothing."""
    inputs, labels = examples.inputs, examples.labels
    dtype, axes = ("uint8", 4) if modality == "image" else ("float32", 2)
    if (inputs.dtype.name, inputs.ndim) != (dtype, axes):
        return f"{modality}s are {dtype} of {axes} axes, found {inputs.dtype} {inputs.shape}"
    if labels.dtype != np.int64 or labels.shape != inputs.shape[:1]:
        expected = f"int64 {inputs.shape[:1]}"
        return f"labels are {expected} here, found {labels.dtype} {labels.shape}"
    if not len(labels):
        return "expected examples, found none"
    if labels.min() < 0 or labels.max() >= examples.classes:
        found = f"{labels.min()} to {labels.max()}"
        return f"labels are from 0 to {examples.classes - 1}, found {found}"
    return ""


def _only(entries: Sequence[DatasetEntry], where: str, class_name: str) -> DatasetEntry:
    """The entry of that class, or the only one."""
    classes = {type(entry.source).__name__: entry for entry in entries}
    if class_name and class_name not in classes:
        raise VsmlBenchError(
            f"{where} defines no dataset class '{class_name}'; {closest(class_name, classes)}"
        )
    if not class_name and len(classes) != 1:
        raise VsmlBenchError(
            f"{where} defines {', '.join(classes) or 'no dataset class'}, and one is wanted; "
            + ("name it after a colon." if classes else f"subclass Source, {RULES}.")
        )
    entry = classes[class_name] if class_name else entries[0]
    if entry.name in OWN:
        raise VsmlBenchError(
            f"{where}: dataset class {type(entry.source).__name__} is called '{entry.name}', as "
            "one of vsml-bench's own; give it another `name`."
        )
    return entry


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, DatasetEntry]:
    found: dict[str, DatasetEntry] = {}
    for point in points("vsml_bench.datasets"):
        origin = f"package {point.dist.name}" if point.dist is not None else "an entry point"
        entries: Sequence[DatasetEntry] = ()
        with costs_itself(f"dataset '{point.name}' of {origin}"):
            entries = _entries(import_module(point.module, "dataset"), origin)
        for entry in entries:
            if point.attr and point.attr != type(entry.source).__name__:
                continue
            other = OWN.get(entry.name) or found.get(entry.name)
            if other is not None:
                raise VsmlBenchError(
                    f"two datasets are called '{entry.name}', from {other.origin} and "
                    f"{origin}; rename one."
                )
            found[entry.name] = entry
    return found


@lru_cache(maxsize=256)
def _entries(module: ModuleType, origin: str) -> tuple[DatasetEntry, ...]:
    """What a module defines, each made once; VsmlBenchError where a class breaks the rules."""
    found = classes_in(module, Source)  # type: ignore[type-abstract]
    classes = [cls for cls in found if not cls.__name__.startswith("_")]
    bases = {base for cls in classes for base in cls.__mro__[1:]}
    made = [_made(cls, origin) for cls in classes if not (cls in bases and _missing(cls))]
    code = file_hash(module.__file__ or "")
    return tuple(DatasetEntry(source, origin, code) for source in made)


def _missing(cls: type[Source]) -> list[str]:
    wanted = ["name", *(["classes", "inputs_shape"] if issubclass(cls, Generated) else [])]
    attributes = [f"the attribute '{name}'" for name in wanted if not hasattr(cls, name)]
    return attributes + [f"{m}()" for m in sorted(getattr(cls, "__abstractmethods__", ()))]


def _made(cls: type[Source], origin: str) -> Source:
    where = f"{origin}: dataset class {cls.__name__}"
    if _missing(cls):
        raise VsmlBenchError(f"{where} lacks {', '.join(_missing(cls))}; {RULES}.")
    if type(cls.version) is not int:
        raise VsmlBenchError(f"{where}: version: expected an integer, found {cls.version!r}.")
    if not (isinstance(cls.name, str) and re.fullmatch(r"[\w.-]*\w", cls.name, re.ASCII)):
        raise VsmlBenchError(
            f"{where}: name: expected letters, digits, '_', '-' and '.', found {cls.name!r}."
        )
    try:
        return cls()
    except Exception as error:
        raise VsmlBenchError(
            f"{where} cannot be made without arguments: {type(error).__name__}: {error}."
        ) from error
