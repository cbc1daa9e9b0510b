"""Several views of an image: what each shows, and where its map lies on the image as it is (METHOD 2)."""

import numpy as np
import pytest
import torch

from mmel_cli.attribution.flow import FLOW
from mmel_cli.attribution.views import FINER, View, look, overlay, views_of
from mmel_cli.fields import MAP, TOKEN_MAP
from mmel_cli.tensors import Attribution

FIELDS = (MAP, TOKEN_MAP, FLOW)
SIZE, GRID = (32, 32), (8, 8)


def seen(images, view):
    """The 'map' of a view: what a perfect model would find, the mean of each 4 x 4 patch of what it is shown."""
    cells = torch.nn.functional.avg_pool2d(look(images, view)[:, :1], 4)[:, 0]
    return Attribution({"map": cells, "tokens/map": torch.zeros(len(images), 2), "layers/flow": cells[:, None]})


def test_one_view_is_the_image_itself():
    images = torch.rand(2, 3, *SIZE)
    assert views_of(1, (), 4) == (View(),)
    assert look(images, View()) is images


def test_five_shifts_are_half_a_patch_in_four_directions():
    moves = {(view.down, view.across) for view in views_of(5, (), 16)}
    assert moves == {(0, 0), (8, 0), (-8, 0), (0, 8), (0, -8)}


def test_a_shifted_look_moves_whole_pixels():
    image = torch.rand(1, 3, *SIZE)
    moved = look(image, View(1.0, 2, -3))
    torch.testing.assert_close(moved[:, :, 2:, :-3], image[:, :, :-2, 3:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("view", [*views_of(5, (), 4), View(0.5), View(2.0), View(1.25), View(1.5, 2, -1)])
def test_the_map_of_every_view_comes_back_to_its_place(view):
    """A smooth hill off the centre: the overlaid map has its summit where the image has."""
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in SIZE), indexing="ij")
    hill = torch.exp(-((y - 13) ** 2 + (x - 18) ** 2) / 30)
    images = hill.expand(1, 3, *SIZE)
    found = (
        overlay([(view, seen(images, view))], FIELDS, SIZE).map[0].nan_to_num()
    )  # nothing is known where it looks past
    truth = torch.nn.functional.avg_pool2d(hill[None], 4 // FINER)[0]
    assert found.shape == (GRID[0] * FINER, GRID[1] * FINER)
    inner = slice(4, 12)  # a view that shows less says nothing about the rest
    assert np.corrcoef(found[inner, inner].ravel(), truth[inner, inner].ravel())[0, 1] > 0.94
    weight = found / found.sum()
    for axis, centre in ((1, 13), (0, 18)):
        mean = (weight.sum(axis) * (torch.arange(16) + 0.5) * 2).sum()
        assert abs(float(mean) - centre) < 1  # pixel; a patch has four


def test_pixels_that_no_view_but_one_shows_count_that_one():
    ones = torch.ones(1, 3, *SIZE)
    found = overlay([(view, seen(ones, view)) for view in views_of(5, (0.5, 2.0), 4)], FIELDS, SIZE)
    torch.testing.assert_close(found.map, torch.ones(1, 16, 16))
    torch.testing.assert_close(found.fields["layers/flow"], torch.ones(1, 1, 16, 16))


def test_shifts_show_what_is_finer_than_a_patch():
    """A bar of half a patch, off its middle: more views come closer to it."""
    image = torch.zeros(1, 3, *SIZE)
    image[:, :, :, 18:20] = 1
    truth = torch.nn.functional.avg_pool2d(image[:, :1], 2)[:, 0].numpy().ravel()

    def likeness(shifts):
        found = overlay([(view, seen(image, view)) for view in views_of(shifts, (), 4)], FIELDS, SIZE)
        return np.corrcoef(found.map.numpy().ravel(), truth)[0, 1]

    assert likeness(5) > likeness(1) + 0.05


@pytest.mark.parametrize(("shifts", "zooms"), [(0, ()), (1, (0.3,)), (1, (3.0,))])
def test_views_out_of_range_are_refused(shifts, zooms):
    with pytest.raises(ValueError, match=r"method\.shifts"):
        views_of(shifts, zooms, 4)
