"""What a task does to a dataset's examples. Each function is one transform; none draws a dataset.

The order is: standardise, convert to grayscale (only where colour images share a task
distribution with others), resize, turn, keep a subset of the classes, permute labels, shuffle
pixels, project, invert and scale, observe wrong labels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vsml_bench.errors import VsmlBenchError
from vsml_bench.recipes import Shape

if TYPE_CHECKING:
    from torch import Tensor

VERSION: int = 1
"""Raised when any transform, the order in which tasks draw them, or the way that lifetimes are
drawn changes what the same seeds give; every result that was run on such lifetimes is then stale.
A new transform, off where a side does not ask for it, leaves it alone."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grayscale image (ITU-R BT.601)."""


def standardise(
    stored: Tensor, scale: float, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """(stored / scale - mean) / std as float32 [n, ...]; one mean for all or one per feature."""
    import torch

    offset = torch.tensor(mean, dtype=torch.float64) * scale
    width = torch.tensor(std, dtype=torch.float64) * scale
    return stored.float().sub(offset.float()).div_(width.float())


def to_grayscale(images: Tensor) -> Tensor:
    """[n, 3, H, W] to [n, 1, H, W]; gray images stay as they are."""
    if images.shape[1] == 1:
        return images
    import torch

    weights = torch.tensor(LUMA, dtype=images.dtype, device=images.device)
    return torch.einsum("nchw,c->nhw", images, weights).unsqueeze(1)


def resize(images: Tensor, size: int) -> Tensor:
    """[n, C, H, W] to [n, C, size, size]: each pixel the mean of the area it covers where the
    image shrinks, bilinear where it grows (in either direction)."""
    import torch

    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    if size <= height and size <= width:
        return torch.nn.functional.interpolate(images, size=(size, size), mode="area")
    return torch.nn.functional.interpolate(
        images, size=(size, size), mode="bilinear", align_corners=False
    )


def rotate(images: Tensor, turns: NDArray[np.int64]) -> Tensor:
    """Each image of [n, C, H, H] turned counter-clockwise by `turns` [n] times 90 degrees."""
    import torch

    rotated = torch.empty_like(images)
    for turn in range(4):
        chosen = torch.from_numpy(np.flatnonzero(turns == turn))
        rotated[chosen] = torch.rot90(images[chosen], turn, (-2, -1))
    return rotated


def draw_projection(features: int, generator: np.random.Generator) -> Tensor:
    """A dense random matrix W [D, D] with entries uniform in +-sqrt(6 / (2 D)), that is Glorot's
    uniform for D inputs and D outputs (the released VSML code's projection)."""
    import torch

    bound = math.sqrt(6.0 / (2 * features))
    uniform = generator.random((features, features), dtype=np.float32)
    return torch.from_numpy(uniform).mul_(2 * bound).sub_(bound)


def project(inputs: Tensor, projection: Tensor) -> Tensor:
    """Each example x becomes x W; inputs [T, ...] keep their shape."""
    return (inputs.flatten(1) @ projection).view(inputs.shape)


def shuffle_pixels(inputs: Tensor, order: NDArray[np.int64]) -> Tensor:
    """Input i of the result is input order[i]; inputs [T, ...] keep their shape."""
    import torch

    return inputs.flatten(1)[:, torch.from_numpy(order)].view(inputs.shape)


def relabel(labels: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of a class subset renamed to their rank in `kept` (sorted), 0..len(kept)-1."""
    return np.searchsorted(kept, labels).astype(np.int64)


def wrong_labels(
    labels: NDArray[np.int64], classes: int, share: float, uniform: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Labels [T] with each replaced, with probability `share`, by one of the other classes, all
    equally likely. uniform: independent numbers from [0, 1), [T, 2]."""
    # A number just below 1 may be rounded up.
    step = np.minimum(np.floor(uniform[:, 1] * (classes - 1)), classes - 2).astype(np.int64)
    return np.where(uniform[:, 0] < share, (labels + 1 + step) % classes, labels)


def check_fits(shape: Shape, to_shape: Shape) -> None:
    """VsmlBenchError where a learner that is run with `to_shape` cannot take tasks of `shape`."""
    _missing(*_of_equal_rank(shape.inputs, to_shape.inputs))
    if shape.classes > to_shape.classes:
        raise VsmlBenchError(
            f"tasks of {shape.classes} classes do not fit a learner whose classes are fixed to "
            f"{to_shape.classes}; use a split with fewer, or a learner for any number."
        )


def pad_inputs(inputs: Tensor, from_shape: tuple[int, ...], to_shape: tuple[int, ...]) -> Tensor:
    """Zero-pads examples for a learner of fixed size.

    inputs [..., *from_shape] becomes [..., *to_shape]. Shapes of equal rank get zeros at the end of
    each axis (an image stays at the top left, a channel in front); otherwise examples are
    flattened, get zeros at the end, and are folded to `to_shape`. VsmlBenchError where they do not
    fit.
    """
    import torch

    if from_shape == to_shape:
        return inputs
    leading = inputs.shape[: inputs.dim() - len(from_shape)]
    if tuple(inputs.shape[len(leading) :]) != from_shape:
        raise VsmlBenchError(
            f"inputs of shape {tuple(inputs.shape)} do not end in the task's shape {from_shape}."
        )
    shapes = _of_equal_rank(from_shape, to_shape)
    widths = [n for missing in reversed(_missing(*shapes)) for n in (0, missing)]
    padded = torch.nn.functional.pad(inputs.reshape(*leading, *shapes[0]), widths)
    return padded.reshape(*leading, *to_shape)


def _of_equal_rank(
    from_shape: tuple[int, ...], to_shape: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both as they are, or both flattened where they have different numbers of axes."""
    if len(from_shape) == len(to_shape):
        return from_shape, to_shape
    return (math.prod(from_shape),), (math.prod(to_shape),)


def _missing(from_shape: tuple[int, ...], to_shape: tuple[int, ...]) -> list[int]:
    """What each axis lacks; VsmlBenchError where one has too much."""
    missing = [to - have for have, to in zip(from_shape, to_shape, strict=True)]
    if min(missing) < 0:
        raise VsmlBenchError(
            f"examples of shape {from_shape} do not fit a learner whose inputs are fixed to "
            f"{to_shape}; use a split with smaller examples, or a learner for any size."
        )
    return missing
