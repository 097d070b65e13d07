"""Ready-made datasets for data of your own: subclass one in a file, and name what it is to read.

    class Leaves(ImageFolder):
        name = "leaves"
        train = "leaves"  # below the data root: one folder of images per label

Every one of them takes official train and test partitions or, where `test` is left out, divides
the examples by their content. Labels are integers or strings; classes are numbered in their order,
over both partitions together. Images become bytes: integers from 0 to 255 stay as they are, and
floats from 0 to 1 are multiplied by 255 and rounded. Vectors become float32. Whatever does not fit
is a VsmlBenchError of one sentence.
"""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vsml_bench.data.raw import OwnData, Raw
from vsml_bench.data.source import BROKEN_ZIP, Array, Found, Modality
from vsml_bench.errors import UnavailableError, VsmlBenchError, closest
from vsml_bench.paths import expanded
from vsml_bench.plugins import missing_package

IMAGE_FILES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class OfImages(OwnData):
    """Data whose images may be Pillow's."""

    size: tuple[int, int] | None = None
    """(height, width) that all are resized to; None if they have one size."""
    gray: bool = False
    """Whether colours are left out. Where all images are gray, they have one channel anyway."""

    def pixels(self, images: Sequence[Any], where: str) -> list[Array]:
        """Pillow's images as bytes [height, width] or [height, width, 3]; other arrays as they
        are."""
        pillow = {n: image for n, image in enumerate(images) if hasattr(image, "convert")}
        for number, image in pillow.items():
            if image.mode.startswith(("I", "F")):
                found = f"image {number} has the mode {image.mode}"
                raise self.error(where, f"{found}; 8 bits per channel are expected")
        mode = "L" if self.gray or all(i.mode in ("1", "L") for i in pillow.values()) else "RGB"
        arrays = []
        for number, image in enumerate(images):
            if number in pillow:
                image = image.convert(mode)
                image = image if self.size is None else image.resize(self.size[::-1])
            arrays.append(np.asarray(image))
        return arrays


class OwnFiles(OwnData):
    """Data in files or folders: a path below the data root, or an absolute one."""

    train: Any
    """The train partition, or everything."""
    test: Any = None
    """The test partition; None divides `train` by content."""

    def files(self) -> tuple[str, ...]:
        """What has to be there."""
        return (self.train,) if self.test is None else (self.train, self.test)

    def find(self, root: Path) -> Found:
        """Whether all is there; nobody counts."""
        try:
            for file in self.files():
                self.locate(file, root)
        except VsmlBenchError as error:
            return Found("data root", str(error))
        return Found("data root")

    def locate(self, file: str, root: Path) -> tuple[Path, str]:
        """Where it is, and what to call it; UnavailableError where it is not there."""
        path = Path(expanded(file))
        # Errors end up in cells, which hold no absolute paths.
        called = path.name if path.is_absolute() else path.as_posix()
        if not (root / path).exists():
            place = "" if path.is_absolute() else " in the data root"
            raise UnavailableError(f"dataset '{self.name}' is not here: no {called}{place}.")
        return root / path, called


class ImageFolder(OwnFiles, OfImages):
    """A folder of images, in one folder per label. `train`, `test`: that folder."""

    def parts(self, root: Path) -> list[Raw]:
        """Images in the order of their names."""
        return [self._folder(*self.locate(file, root)) for file in self.files()]

    def _folder(self, top: Path, where: str) -> Raw:
        from PIL import Image

        folders = sorted(path for path in top.glob("[!.]*") if path.is_dir())
        if not folders:
            raise self.error(where, "expected a folder with one folder of images per label")
        images, labels = [], []
        for folder in folders:
            files = sorted(p for p in folder.glob("[!.]*") if p.suffix.lower() in IMAGE_FILES)
            if not files:
                raise self.error(f"{where}/{folder.name}", "expected images, found none")
            for file in files:
                try:
                    with Image.open(file) as image:
                        images.append(image.copy())
                except Exception as error:  # Pillow raises many kinds
                    place = f"{where}/{folder.name}/{file.name}"
                    raise self.error(place, "expected an image that can be read") from error
                labels.append(folder.name)
        return Raw(self.pixels(images, where), labels, where)


class CsvTable(OwnFiles):
    """A table with a header, one example per row. `train`, `test`: a CSV file."""

    label: str
    """The column of labels."""
    ignore: tuple[str, ...] = ()
    """Columns that are no inputs, such as numbers of rows."""
    delimiter: str = ","
    modality: Modality = "vector"

    def parts(self, root: Path) -> list[Raw]:
        """All other columns are inputs, in their order."""
        return [self._table(*self.locate(file, root)) for file in self.files()]

    def _table(self, path: Path, where: str) -> Raw:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                header, *rows = [row for row in csv.reader(file, delimiter=self.delimiter) if row]
        except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
            raise self.error(where, "expected a CSV file with a header and rows") from error
        for column in (self.label, *self.ignore):
            if column not in header:
                raise self.error(where, f"no column '{column}'; {closest(column, header)}")
        kept = [i for i, name in enumerate(header) if name not in (self.label, *self.ignore)]
        for number, row in enumerate(rows, 1):
            if len(row) != len(header):
                raise self.error(
                    where, f"row {number} has {len(row)} fields, and the header has {len(header)}"
                )
        inputs = np.array([[_number(row[i]) for i in kept] for row in rows])
        for number, name in np.argwhere(np.isnan(inputs)):
            text = rows[number][kept[name]]
            raise self.error(
                where,
                f"row {number + 1}, column '{header[kept[name]]}': expected a number, found "
                f"'{text}'; name columns of other things in `ignore`",
            )
        labels = [row[header.index(self.label)] for row in rows]
        return Raw(inputs, _parsed(labels), where)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _parsed(labels: list[str]) -> list[Any]:
    """Texts as integers where all are, as floats (which labels must not be) where all are."""
    for kind in (int, float):
        try:
            return [kind(label) for label in labels]
        except ValueError:
            pass
    return labels


class NpzArrays(OwnFiles):
    """Arrays in a NumPy archive. `train`, `test`: the names of the arrays of inputs and labels."""

    file: str
    """The `.npz` file."""
    train: tuple[str, str] = ("x_train", "y_train")
    test: tuple[str, str] | None = ("x_test", "y_test")

    def files(self) -> tuple[str, ...]:
        """The one file."""
        return (self.file,)

    def parts(self, root: Path) -> list[Raw]:
        """The arrays as they are."""
        path, where = self.locate(self.file, root)
        try:
            with np.load(path, allow_pickle=False) as archive:
                names = (self.train,) if self.test is None else (self.train, self.test)
                return [self._arrays(archive, pair, where) for pair in names]
        except (TypeError, AttributeError, *BROKEN_ZIP) as error:
            raise self.error(where, "expected an .npz file of arrays of numbers") from error

    def _arrays(self, archive: Mapping[str, Array], names: tuple[str, str], where: str) -> Raw:
        for name in names:
            if name not in archive:
                raise self.error(where, f"no array '{name}'; {closest(name, archive)}")
        return Raw(archive[names[0]], archive[names[1]], f"{where}, {names[0]}")


class OwnObjects(OwnData):
    """Data that another library gives: `train` and `test` return an object of it."""

    requires: ClassVar[Mapping[str, str]] = {}
    """Packages that it needs -> how to install them. Import them in the methods."""
    origin: ClassVar[str] = "its own code"

    @abstractmethod
    def train(self, root: Path) -> Any:
        """The train partition, or everything. root: the data root."""

    def test(self, root: Path) -> Any:
        """The test partition; None divides what `train` gives by content."""
        return None

    @abstractmethod
    def raw(self, given: Any, where: str) -> Raw:
        """What there is in an object of the library."""

    def find(self, root: Path) -> Found:
        """Whether the packages are installed."""
        reason = missing_package(self.requires, f"dataset '{self.name}'")
        return Found(self.origin, reason)

    def parts(self, root: Path) -> list[Raw]:
        """What the methods return. An OSError or RuntimeError of theirs, which is how libraries say
        that files are absent, makes the dataset unavailable."""
        if reason := self.find(root).reason:
            raise UnavailableError(reason)
        raws = []
        for make, where in ((self.train, "train()"), (self.test, "test()")):
            try:
                given = make(root)
            except (OSError, RuntimeError, ImportError) as error:
                raise UnavailableError(
                    f"dataset '{self.name}' is not here: {where}: {' '.join(str(error).split())}"
                ) from error
            if given is not None:
                raws.append(self.raw(given, where))
        return raws


class SklearnData(OwnObjects):
    """A Bunch of scikit-learn's, or a pair (X, y) of arrays or data frames."""

    modality: Modality = "vector"

    def raw(self, given: Any, where: str) -> Raw:
        """Inputs and labels."""
        if isinstance(given, Mapping) and {"data", "target"} <= set(given):
            given = given["data"], given["target"]
        if not isinstance(given, tuple) or len(given) != 2:
            raise self.error(
                where, f"expected a Bunch or a pair (X, y), found {type(given).__name__}"
            )
        return Raw(np.asarray(given[0]), given[1], where)


class TorchvisionData(OwnObjects, OfImages):
    """A dataset of torchvision's, or any other that has a length and gives pairs (image, label)."""

    def raw(self, given: Any, where: str) -> Raw:
        """All pairs, one by one."""
        try:
            images, labels = zip(*(given[i] for i in range(len(given))), strict=True)
        except (TypeError, ValueError) as error:
            raise self.error(
                where, f"expected pairs (image, label), found {type(given).__name__}"
            ) from error
        return Raw(self.pixels(images, where), labels, where)


class HuggingFaceData(OwnObjects, OfImages):
    """One split of a dataset of Hugging Face's `datasets`: columns, some of them inputs."""

    inputs: str | tuple[str, ...] = "image"
    """The column of images or of vectors, or all columns of numbers."""
    label: str = "label"

    def raw(self, given: Any, where: str) -> Raw:
        """The columns that are named."""
        if isinstance(given, Mapping):
            raise self.error(where, f"found the splits {', '.join(given)}; return one of them")
        names = (self.inputs,) if isinstance(self.inputs, str) else self.inputs
        for name in (*names, self.label):
            if name not in given.features:
                raise self.error(where, f"no column '{name}'; {closest(name, given.features)}")
        labels = list(given[self.label])
        if self.modality == "image":
            return Raw(self.pixels(list(given[names[0]]), where), labels, where)
        try:
            columns = np.column_stack([np.asarray(list(given[name])) for name in names])
        except ValueError as error:
            raise self.error(where, f"{', '.join(names)}: expected numbers, all as many") from error
        return Raw(columns, labels, where)
