"""Geometry: native equals the HuggingFace processor bit for bit, and every box says where the grid lies."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from mmel_cli.errors import UsageError
from mmel_cli.model.preprocess import preprocess

SIZES = [(40, 60), (61, 37), (32, 32), (500, 33), (7, 9)]


@pytest.fixture(scope="module")
def processor():
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_native_equals_the_processor_bit_for_bit(processor, size):
    image = noise(*size)
    mine = preprocess(image, processor, (32, 32), "native").values
    assert torch.equal(mine, processor(image, return_tensors="pt")["pixel_values"][0])


def gradient(width, height):
    """Red grows with x, green with y, so a pixel says where it came from."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 / width, y * 255 / height, 0 * x], -1).astype(np.uint8))


@pytest.mark.parametrize("geometry", ["native", "squash", "letterbox"])
@pytest.mark.parametrize("size", [(200, 300), (310, 190), (256, 256)])
def test_the_box_is_where_the_grid_lies(processor, geometry, size):
    """The colour in the middle of the grid's cell is the original's colour at the box's place."""
    width, height = size
    pixels = preprocess(gradient(*size), processor, (32, 32), geometry)
    x0, y0, x1, y1 = pixels.box
    mean, spread = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    colours = pixels.values.permute(1, 2, 0) * spread + mean
    for row, column in [(8, 8), (16, 20), (24, 12), (16, 16)]:
        x, y = x0 + (x1 - x0) * (column + 0.5) / 32, y0 + (y1 - y0) * (row + 0.5) / 32
        if 4 < x < width - 4 and 4 < y < height - 4:
            assert colours[row, column, 0].item() == pytest.approx(x / width, abs=0.02)
            assert colours[row, column, 1].item() == pytest.approx(y / height, abs=0.02)


def test_letterbox_keeps_the_whole_image_and_pads_with_the_mean(processor):
    pixels = preprocess(Image.new("RGB", (100, 50), "white"), processor, (32, 32), "letterbox")
    assert pixels.box == (0.0, -25.0, 100.0, 75.0)
    assert pixels.values[:, 0].abs().max() < 0.02  # the mean colour, up to rounding to 8 bits


def test_an_unknown_geometry_is_named(processor):
    with pytest.raises(UsageError, match="letterbox"):
        preprocess(noise(9, 9), processor, (32, 32), "stretch")
