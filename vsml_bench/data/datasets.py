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

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import numpy as np

from vsml_bench.data import builtin, files, omniglot
from vsml_bench.data.dataset import (
    Dataset,
    Statistics,
    StatisticsFrom,
    keep_groups,
    statistics_of,
)
from vsml_bench.data.source import Examples, Generated, Modality, Source
from vsml_bench.errors import UnavailableError, VsmlBenchError, closest
from vsml_bench.plugins import classes_in, import_file, import_module
from vsml_bench.sides import PartitionName

ENTRY_POINT_GROUP = "vsml_bench.datasets"
ROOT_VARIABLE = "VSML_BENCH_DATA"
DEFAULT_ROOT = Path("runs/data")
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


@dataclass(frozen=True)
class DatasetStatus:
    """What of a dataset is here."""

    name: str
    available: bool
    """Whether at least one partition can be loaded."""
    origin: str
    """Where it is from, or would be from."""
    reason: str
    """What is missing and how to get it; "" where all is here."""
    train: int | None
    """Examples in the partition; None where it is not here, or where nobody has counted."""
    test: int | None
    modality: Modality


OWN: dict[str, DatasetEntry] = {
    source.name: DatasetEntry(source, "vsml-bench")
    for source in (*builtin.SOURCES, *files.SOURCES, *omniglot.SOURCES)
}


def names() -> tuple[str, ...]:
    """All datasets that are found without being pointed at, their data here or not.

    Raises VsmlBenchError where an entry point is broken, or two datasets have the same name.
    """
    return (*OWN, *_entry_points())


def find(reference: str) -> DatasetEntry:
    """The dataset of that name, or at that place; VsmlBenchError where there is none, naming the
    closest, where a reference stands for several, or where a class breaks the rules."""
    if reference in OWN:
        return OWN[reference]
    path, _, class_name = reference.partition(".py:")
    if reference.endswith(".py") or class_name:
        file = Path(path if reference.endswith(".py") else f"{path}.py")
        # the absolute path, since modules are kept and the working folder may change
        found_in = import_file(file.absolute(), "dataset")
        return _only(_entries(found_in, file.name), file.name, class_name)
    module, _, class_name = reference.partition(":")
    if "." in module and all(part.isidentifier() for part in module.split(".")):
        where = f"module {module}"
        return _only(_entries(import_module(module, "dataset"), where), where, class_name)
    found = _entry_points()
    if reference not in found:
        raise VsmlBenchError(f"unknown dataset '{reference}'; {closest(reference, names())}")
    return found[reference]


def name_of(reference: str) -> str:
    """The dataset's name, whatever it was called by; VsmlBenchError as of `find`."""
    return find(reference).name


def data_root(root: Path | str | None = None) -> Path:
    """The folder for data: `root`, else what VSML_BENCH_DATA names, else `runs/data`."""
    return Path(root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT).expanduser()


def load(
    reference: str,
    partition: PartitionName,
    root: Path | None = None,
    groups: tuple[str, ...] = (),
) -> Dataset:
    """One partition of a dataset, or its classes of some groups, cached for the life of the
    process.

    UnavailableError where it is not here, VsmlBenchError where a name is unknown or a file is
    broken.
    """
    return _load(find(reference), partition, data_root(root).resolve(), groups)


def status(reference: str, root: Path | None = None) -> DatasetStatus:
    """What of the dataset is here, read from headers only; absent data are no error."""
    source = find(reference).source
    found = source.find(data_root(root))
    return DatasetStatus(
        source.name,
        found.available,
        found.origin,
        found.reason,
        found.train,
        found.test,
        source.modality,
    )


@lru_cache(maxsize=8)
def _load(
    entry: DatasetEntry, partition: PartitionName, root: Path, groups: tuple[str, ...]
) -> Dataset:
    if groups:
        return keep_groups(_load(entry, partition, root, ()), groups)
    source = entry.source
    if isinstance(source, Generated):
        return Dataset(
            source.name,
            partition,
            source.modality,
            source.inputs_shape,
            source.classes,
            examples=None,
            generator=source,
            scale=1.0,
            statistics=Statistics((0.0,), (1.0,), "none"),
            code=entry.code,
        )
    examples = _read(source, partition, root)
    reference, computed_from = _reference(source, partition, examples, root)
    scale = source.scale if source.modality == "image" else 1.0
    return Dataset(
        source.name,
        partition,
        source.modality,
        tuple(examples.inputs.shape[1:]),
        examples.classes,
        examples,
        generator=None,
        scale=scale,
        statistics=statistics_of(reference, scale, computed_from),
        reference=reference,
    )


def _reference(
    source: Source, partition: PartitionName, examples: Examples, root: Path
) -> tuple[Examples, StatisticsFrom]:
    """What to standardise by: the dataset's own train partition, or the partition at hand where
    this machine has no other."""
    if partition == "train":
        return examples, "train"
    try:
        return _read(source, "train", root), "train"
    except UnavailableError:
        return examples, "test"


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


def _only(entries: tuple[DatasetEntry, ...], where: str, class_name: str) -> DatasetEntry:
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
    for point in entry_points(group=ENTRY_POINT_GROUP):
        origin = f"package {point.dist.name}" if point.dist is not None else "an entry point"
        for entry in _entries(import_module(point.module, "dataset"), origin):
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
    code = hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest()
    entries = []
    for cls in classes:
        is_base = any(issubclass(other, cls) and other is not cls for other in classes)
        if not (is_base and _missing(cls)):
            entries.append(DatasetEntry(_made(cls, origin), origin, code))
    return tuple(entries)


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
