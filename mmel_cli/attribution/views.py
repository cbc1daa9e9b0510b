"""Views of one image, shifted by fractions of a patch or zoomed, whose maps are laid over each other (METHOD 2).

The patches of each view cut the image elsewhere, so the mean is finer than the patch grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, affine_grid, grid_sample

from mmel_cli.fields import Field
from mmel_cli.tensors import Attribution

FINER = 2  # cells a patch side, where there is more than one view


@dataclass(frozen=True)
class View:
    """How the image is moved before the model sees it: about its centre by `zoom`, then by pixels."""

    zoom: float = 1.0
    down: int = 0
    across: int = 0


def views_of(shifts: int, zooms: tuple[float, ...], patch: int) -> tuple[View, ...]:
    """The image as it is, `shifts` - 1 shifts by half a patch in as many directions, and one view for each zoom.

    Raises:
        ValueError: for fewer than one shift, or a zoom outside 0.5..2.
    """
    if shifts < 1 or not all(0.5 <= zoom <= 2 for zoom in zooms):
        raise ValueError("method.shifts must be at least 1, and method.zooms must lie in 0.5..2")
    angles = [2 * math.pi * k / (shifts - 1) for k in range(shifts - 1)]
    moved = [View(1.0, round(patch / 2 * math.sin(a)), round(patch / 2 * math.cos(a))) for a in angles]
    return (View(), *moved, *(View(zoom) for zoom in zooms if zoom != 1))


def look(images: Float[Tensor, "images 3 height width"], view: View) -> Float[Tensor, "images 3 height width"]:
    """The images as a view shows them; what comes in from outside repeats the border."""
    if view == View():
        return images
    grid = _places(view, images, (images.shape[2], images.shape[3]), back=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def averaged(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """Those of a method's fields that several views have a mean of: regions of single views have no common grid."""
    return tuple(field for field in fields if not field.by_region)


def overlay(
    seen_by: Sequence[tuple[View, Attribution]], fields: tuple[Field, ...], size: tuple[int, int]
) -> Attribution:
    """The mean of the views' maps at each pixel of the unmoved image, on a grid FINER times as fine.

    Each pixel counts the views that show it. Fields that do not lie on the grid (token maps) are averaged as they are.

    Args:
        seen_by: each view with what the method gave for it.
        fields: see `averaged`.
        size: height, width of the model's input in pixels.
    """
    first = seen_by[0][1]
    grid = (first.map.shape[1] * FINER, first.map.shape[2] * FINER)
    laid = [field.name for field in fields if field.on_grid]
    counts = [first.fields[name][0].numel() // first.map[0].numel() for name in laid]
    total = count = torch.zeros((), device=first.map.device)
    for view, attribution in seen_by:
        maps = torch.cat(
            [attribution.fields[name].reshape(len(first.map), -1, *first.map.shape[1:]) for name in laid], 1
        )
        places = _places(view, maps, size, back=True)
        seen = (places.abs() <= 1).all(-1)[:, None]
        moved = grid_sample(maps, places, mode="bilinear", padding_mode="border", align_corners=False)
        total, count = total + moved * seen, count + seen
    mean = adaptive_avg_pool2d(total / count, grid)
    together = {
        name: part.reshape(*first.fields[name].shape[:-2], *grid)
        for name, part in zip(laid, mean.split(counts, 1), strict=True)
    }
    for field in fields:
        if not field.on_grid:
            values = torch.stack([attribution.fields[field.name] for _, attribution in seen_by])
            together[field.name] = values.mean(0)
    return Attribution(together)


def _places(view: View, images: Tensor, size: tuple[int, int], *, back: bool) -> Tensor:
    """Where each output pixel is read from, in -1..1: the moved image from the unmoved one, or `back`."""
    height, width = size
    down, across = 2 * view.down / height, 2 * view.across / width
    zoom = view.zoom if back else 1 / view.zoom
    sign = 1.0 if back else -1 / view.zoom
    theta = torch.tensor([[zoom, 0.0, sign * across], [0.0, zoom, sign * down]], device=images.device)
    return affine_grid(theta.expand(len(images), -1, -1), [len(images), 1, height, width], align_corners=False)
