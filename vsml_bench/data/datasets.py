"""The datasets by name, and how to load one or say what of it is here.

Looked for in this order: the data root (the `root` argument, else the folder that the environment
variable VSML_BENCH_DATA names, else `runs/data`) in torchvision's layout, then the folder of the
operating system's package. Nothing here ever touches the network; `vsml_bench.data.fetch` does.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from vsml_bench.data.bundled import MlxtendDigits, SklearnDigits, SklearnTable
from vsml_bench.data.files import Cifar10, Svhn
from vsml_bench.data.generated import Generated, RandomPoints, SumSign
from vsml_bench.data.groups import keep_groups
from vsml_bench.data.idx import IdxImages
from vsml_bench.data.omniglot import FULL, SMALL, Omniglot
from vsml_bench.data.omniglot_runs import OmniglotRuns
from vsml_bench.data.source import (
    Dataset,
    DatasetStatus,
    Examples,
    Source,
    Statistics,
    StatisticsFrom,
    statistics_of,
)
from vsml_bench.errors import UnavailableError, VsmlBenchError, closest
from vsml_bench.sides import PartitionName

__all__ = ["Dataset", "DatasetStatus", "data_root", "load", "names", "source", "status"]

ROOT_VARIABLE = "VSML_BENCH_DATA"
DEFAULT_ROOT = Path("runs/data")

SOURCES: dict[str, Source] = {
    "mnist5k": MlxtendDigits(train=3000, test=2000),
    "digits": SklearnDigits(train=297, test=1500),
    "wine": SklearnTable(train=45, test=133, loader="load_wine"),
    "breast_cancer": SklearnTable(train=119, test=450, loader="load_breast_cancer"),
    "iris": SklearnTable(train=30, test=120, loader="load_iris"),
    "random": Generated(RandomPoints()),
    "sum_sign": Generated(SumSign()),
    "mnist": IdxImages("mnist", "MNIST", 10),
    "fashion_mnist": IdxImages(
        "fashion_mnist",
        "FashionMNIST",
        10,
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
        system_origin="Debian package",
    ),
    "kmnist": IdxImages("kmnist", "KMNIST", 10),
    # "byclass": the paper's 62 outputs. Its images are transposed, as in every copy of EMNIST.
    "emnist": IdxImages(
        "emnist", "EMNIST", 62, prefixes=("emnist-byclass-train", "emnist-byclass-test")
    ),
    "cifar10": Cifar10(),
    "svhn": Svhn(),
    "omniglot": Omniglot("omniglot", FULL),
    "omniglot_small": Omniglot("omniglot_small", SMALL),
    "omniglot_runs": OmniglotRuns(),
}


def names() -> tuple[str, ...]:
    """All datasets there are, here or not."""
    return tuple(SOURCES)


def source(name: str) -> Source:
    """Where the dataset comes from; VsmlBenchError naming the closest where it is unknown."""
    if name not in SOURCES:
        raise VsmlBenchError(f"unknown dataset '{name}'; {closest(name, SOURCES)}")
    return SOURCES[name]


def data_root(root: Path | str | None = None) -> Path:
    """The folder for data: `root`, else what VSML_BENCH_DATA names, else `runs/data`."""
    return Path(root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT).expanduser()


def load(
    name: str,
    partition: PartitionName,
    root: Path | None = None,
    groups: tuple[str, ...] = (),
) -> Dataset:
    """One partition of a dataset, or its classes of some groups, cached for the life of the
    process.

    UnavailableError where it is not here, VsmlBenchError where a name is unknown or a file is
    broken.
    """
    return _load(source(name), name, partition, data_root(root).resolve(), groups)


def status(name: str, root: Path | None = None) -> DatasetStatus:
    """What of the dataset is here, read from headers only; absent data are no error."""
    where = source(name)
    found = where.find(data_root(root))
    generated = isinstance(where, Generated)
    available = generated or found.train is not None or found.test is not None
    return DatasetStatus(
        name, available, found.origin, found.reason, found.train, found.test, where.modality
    )


@lru_cache(maxsize=8)
def _load(
    where: Source, name: str, partition: PartitionName, root: Path, groups: tuple[str, ...]
) -> Dataset:
    if groups:
        return keep_groups(_load(where, name, partition, root, ()), groups)
    if isinstance(where, Generated):
        made = where.generator
        unchanged = Statistics((0.0,), (1.0,), "none")
        return Dataset(
            name,
            partition,
            where.modality,
            made.inputs_shape,
            made.classes,
            None,
            made,
            1.0,
            unchanged,
        )
    examples = _read(where, partition, root)
    reference, computed_from = _reference(where, partition, examples, root)
    shape = tuple(examples.inputs.shape[1:])
    return Dataset(
        name,
        partition,
        where.modality,
        shape,
        examples.classes,
        examples,
        None,
        where.scale,
        statistics_of(reference, where.scale, computed_from),
        reference,
    )


def _reference(
    where: Source, partition: PartitionName, examples: Examples, root: Path
) -> tuple[Examples, StatisticsFrom]:
    """What to standardise by: the dataset's own train partition, or the partition at hand where
    this machine has no other."""
    if partition == "train":
        return examples, "train"
    try:
        return _read(where, "train", root), "train"
    except UnavailableError:
        return examples, "test"


@lru_cache(maxsize=8)
def _read(where: Source, partition: PartitionName, root: Path) -> Examples:
    return where.read(partition, root)
