from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from vsml_bench.data import transforms
from vsml_bench.errors import VsmlBenchError


def test_standardise_images_by_hand() -> None:
    stored = torch.tensor([[[[0, 51], [102, 255]]]], dtype=torch.uint8)
    result = transforms.standardise(stored, 255.0, (0.2,), (0.4,))
    torch.testing.assert_close(result, torch.tensor([[[[-0.5, 0.0], [0.5, 2.0]]]]))


def test_standardise_vectors_per_feature() -> None:
    stored = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    result = transforms.standardise(stored, 1.0, (2.0, 20.0), (1.0, 5.0))
    torch.testing.assert_close(result, torch.tensor([[-1.0, -2.0], [1.0, 2.0]]))
    assert stored[0, 0] == 1.0  # the stored data stay as they are


def test_shrinking_averages_areas() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    by_hand = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])
    torch.testing.assert_close(transforms.resize(image, 2), by_hand)


@pytest.mark.parametrize(("side", "size"), [(8, 28), (28, 48), (5, 7)])
def test_growing_agrees_with_pillow(side: int, size: int) -> None:
    image = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    oracle = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    result = transforms.resize(torch.from_numpy(image)[None, None], size)
    np.testing.assert_allclose(result[0, 0].numpy(), oracle, atol=1e-5)


def test_same_size_is_untouched() -> None:
    image = torch.randn(2, 1, 6, 6)
    assert transforms.resize(image, 6) is image


def test_grayscale_agrees_with_pillow() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    oracle = np.asarray(Image.fromarray(colours).convert("L"), np.float32)
    result = transforms.to_grayscale(torch.from_numpy(colours).permute(2, 0, 1)[None].float())
    assert result.shape == (1, 1, 9, 9)
    np.testing.assert_allclose(result[0, 0].numpy(), oracle, atol=1.0)  # Pillow rounds
    gray = torch.randn(2, 1, 3, 3)
    assert transforms.to_grayscale(gray) is gray


def test_projection_is_glorot_uniform() -> None:
    projection = transforms.draw_projection(100, np.random.default_rng(2))
    bound = math.sqrt(6 / 200)
    assert projection.dtype == torch.float32
    assert projection.abs().max() <= bound
    assert projection.abs().max() > 0.99 * bound
    assert projection.mean().abs() < 4 * bound / math.sqrt(3 * 100**2)
    assert projection.var() == pytest.approx(bound**2 / 3, rel=0.05)


def test_project_multiplies_from_the_right() -> None:
    inputs = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 1.0]]]])
    projection = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])
    expected = torch.tensor([[[[201.0, 2010.0]]], [[[100.0, 1000.0]]]])
    torch.testing.assert_close(transforms.project(inputs, projection), expected)


def test_shuffle_pixels_by_hand() -> None:
    inputs = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    shuffled = transforms.shuffle_pixels(inputs, np.array([3, 0, 2, 1]))
    assert shuffled.flatten().tolist() == [4.0, 1.0, 3.0, 2.0]
    assert shuffled.shape == inputs.shape


def test_relabel_by_hand() -> None:
    assert transforms.relabel(np.array([7, 2, 2, 5]), np.array([2, 5, 7])).tolist() == [2, 0, 0, 1]


def test_padding_keeps_an_image_at_the_top_left() -> None:
    inputs = torch.arange(1.0, 9.0).view(1, 2, 1, 2, 2)  # [T, E, C, H, W]
    padded = transforms.pad_inputs(inputs, (1, 2, 2), (2, 3, 4))
    assert padded.shape == (1, 2, 2, 3, 4)
    assert torch.equal(padded[:, :, :1, :2, :2], inputs)
    assert padded.sum() == inputs.sum()


def test_padding_a_vector_into_a_vector_and_into_an_image() -> None:
    inputs = torch.tensor([[1.0, 2.0, 3.0]])
    assert transforms.pad_inputs(inputs, (3,), (5,)).tolist() == [[1, 2, 3, 0, 0]]
    image = transforms.pad_inputs(inputs, (3,), (1, 2, 2))
    assert image.tolist() == [[[[1, 2], [3, 0]]]]


def test_padding_to_the_same_shape_is_the_same_tensor() -> None:
    inputs = torch.randn(3, 1, 4, 4)
    assert transforms.pad_inputs(inputs, (1, 4, 4), (1, 4, 4)) is inputs


@pytest.mark.parametrize(
    ("from_shape", "to_shape"), [((3, 4, 4), (1, 8, 8)), ((20,), (1, 4, 4)), ((1, 5, 5), (1, 4, 6))]
)
def test_padding_never_cuts(from_shape: tuple[int, ...], to_shape: tuple[int, ...]) -> None:
    with pytest.raises(VsmlBenchError, match="do not fit"):
        transforms.pad_inputs(torch.zeros(2, *from_shape), from_shape, to_shape)


def test_padding_checks_the_shape_it_is_told() -> None:
    with pytest.raises(VsmlBenchError, match="do not end in"):
        transforms.pad_inputs(torch.zeros(2, 1, 5, 5), (1, 4, 4), (1, 8, 8))
