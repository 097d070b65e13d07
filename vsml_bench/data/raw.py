"""From arrays, lists and images of any kind to the partitions of a dataset, with what can be wrong
with them said in one sentence."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vsml_bench.data.source import Array, Examples, Source, divide_by_content
from vsml_bench.errors import VsmlBenchError
from vsml_bench.sides import PartitionName


class Raw(NamedTuple):
    """Examples as they were found."""

    inputs: Any
    """An array [n, ...], or a list of n arrays or images."""
    labels: Any
    where: str
    """What to call them in errors."""


class OwnData(Source):
    """A dataset whose examples come as `Raw`: the base of all in `vsml_bench.data.own_data`."""

    train_share: float = 0.5
    """Share of the examples that are the train partition, where no test partition is given."""
    image_shape: tuple[int, int, int] | None = None
    """(channels, height, width) that rows of pixels are folded to; images alone."""

    @abstractmethod
    def parts(self, root: Path) -> list[Raw]:
        """Train and test partition, or all examples together. Errors as of `Source.read`."""

    def read(self, partition: PartitionName, root: Path) -> Examples:
        """See `Source.read`."""
        return _partitions(self, root)[partition]

    def error(self, where: str, problem: str) -> VsmlBenchError:
        """Bad data at one place."""
        end = "" if problem.endswith("?") else "."
        return VsmlBenchError(f"dataset '{self.name}': {where}: {problem}{end}")


class _Misfit(Exception):
    """What does not fit, without the place, which `_partitions` knows."""


@lru_cache(maxsize=4)
def _partitions(source: OwnData, root: Path) -> dict[PartitionName, Examples]:
    parts = source.parts(root)
    inputs: list[Array] = []
    labels: list[Array] = []
    for part in parts:
        try:
            stacked = _stacked(part.inputs)
            is_image = source.modality == "image"
            inputs.append(_images(stacked, source.image_shape) if is_image else _vectors(stacked))
            labels.append(_labels(part.labels, len(stacked)))
        except _Misfit as misfit:
            raise source.error(part.where, str(misfit)) from None
    both = " and ".join(part.where for part in parts)
    if len({x.shape[1:] for x in inputs}) > 1:
        shapes = " and ".join(str(x.shape[1:]) for x in inputs)
        raise source.error(both, f"examples of one shape are needed, found {shapes}")
    if len({y.dtype.kind for y in labels}) > 1:
        raise source.error(both, "labels are integers in one and strings in the other")
    values, where = np.unique(np.concatenate(labels)), parts[0].where
    if len(values) < 2:
        raise source.error(where, f"at least two labels are needed, found only {values[0]!r}")
    ranks = [np.searchsorted(values, y).astype(np.int64) for y in labels]
    if len(parts) == 2:
        train, test = (Examples(x, y, len(values)) for x, y in zip(inputs, ranks, strict=True))
        return {"train": train, "test": test}
    count, share = len(inputs[0]), source.train_share
    divided = divide_by_content(inputs[0], ranks[0], round(share * count))
    for partition, examples in divided.items():
        if not len(examples):
            raise source.error(
                where,
                f"nothing is left for the {partition} partition of {count} examples at "
                f"train_share = {share}; give a share between 0 and 1",
            )
    return divided


def _stacked(inputs: Any) -> Array:
    """[n, ...] of numbers, n at least 1."""
    if len(inputs) == 0:
        raise _Misfit("expected examples, found none")
    items = inputs if isinstance(inputs, np.ndarray) else [*map(np.asarray, inputs)]
    for number, item in enumerate(items):
        if item.shape != items[0].shape:
            raise _Misfit(
                f"example {number} has the shape {item.shape} and the first {items[0].shape}; all "
                "of a dataset need one size"
            )
    stacked = np.asarray(items)
    if stacked.dtype.kind not in "buif":
        raise _Misfit(f"expected numbers as inputs, found {stacked.dtype}")
    return stacked


def _vectors(stacked: Array) -> Array:
    """float32 [n, features]."""
    if stacked.ndim != 2:
        raise _Misfit(
            f"expected vectors, found examples of the shape {stacked.shape[1:]}; for images set "
            'modality = "image"'
        )
    with np.errstate(over="ignore"):
        return _finite(stacked.astype(np.float32))


def _images(stacked: Array, image_shape: tuple[int, int, int] | None) -> Array:
    """uint8 [n, channels, height, width]."""
    shape = stacked.shape[1:]
    if image_shape is not None and shape == (int(np.prod(image_shape)),):
        stacked = stacked.reshape(-1, *image_shape)
    elif len(shape) == 2:
        stacked = stacked[:, None]
    elif len(shape) == 3 and shape[0] not in (1, 3) and shape[2] in (1, 3):
        stacked = np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))
    elif len(shape) != 3 or shape[0] not in (1, 3):
        raise _Misfit(
            f"expected images of 1 or 3 channels, found examples of the shape {shape}; fold rows "
            'of pixels with image_shape = (channels, height, width), or set modality = "vector"'
        )
    most = 1 if _finite(stacked).dtype.kind == "f" else 255
    if stacked.min() < 0 or stacked.max() > most:
        raise _Misfit(
            "pixels are integers from 0 to 255 or floats from 0 to 1, found "
            f"{stacked.dtype} from {stacked.min()} to {stacked.max()}"
        )
    return (np.rint(stacked * 255.0) if most == 1 else stacked).astype(np.uint8)


def _finite(inputs: Array) -> Array:
    """The same, where all of it is finite."""
    bad = np.argwhere(~np.isfinite(inputs))
    if len(bad):
        row, *place = bad[0].tolist()
        problem = f"example {row} has no finite number at {place}"
        raise _Misfit(f"{problem}; leave it out or fill it in")
    return inputs


def _labels(given: Any, count: int) -> Array:
    """[n], int64 or strings."""
    labels = [one.item() if getattr(one, "ndim", None) == 0 else one for one in given]
    if len(labels) != count:
        raise _Misfit(f"{count} examples need as many labels, found {len(labels)}")
    for kind in (int, str):
        if all(isinstance(one, kind) for one in labels):
            return np.array(labels, np.int64 if kind is int else np.str_)
    wrong = next((one for one in labels if not isinstance(one, (int, str))), labels[0])
    found = f"{type(wrong).__name__} {wrong}"
    raise _Misfit(f"labels are all integers or all strings, found {found}")
