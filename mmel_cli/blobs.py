"""Regions and peaks of evidence: where on the original a map is strong, as boxes and points in its pixels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import label, maximum_filter

from mmel_cli.geometry import PixelMap, to_pixels
from mmel_cli.types import Box, Map

Cells = Bool[np.ndarray, "rows columns"]

THRESHOLD = 0.2
"""The least evidence of a region's points, as a share of the strongest: that of the boxes of CAM (Zhou et al. 2016)."""

FINER = 4  # points of the interpolated map a cell's side


@dataclass(frozen=True)
class Blob:
    """Points of an interpolated map that touch by an edge, each with at least a share of its strongest evidence."""

    box: Box  # their outline, cut at the border of the image
    share: float  # of all positive evidence of the interpolated map that lies in them, 0..1
    peak: float  # the largest value of the cells that they touch
    cells: Cells  # which those are


@dataclass(frozen=True)
class Point:
    """The centre of a cell in pixels of the original, and its value."""

    x: float
    y: float
    value: float


def blobs(values: Map, box: Box, size: tuple[int, int], threshold: float = THRESHOLD) -> list[Blob]:
    """The regions of a map, the one with most evidence first; none where nothing in the image is positive.

    The map is interpolated bilinearly at FINER x FINER points a cell. Their strongest inside the image is what
    `threshold` is a share of.

    Args:
        values: (h, w), laid over `box`; what is not finite counts as 0.
        box: x0, y0, x1, y1 in pixels of the original; what of it lies outside the image (letterbox) is left out.
        size: height, width of the original.
        threshold: 0 to 1; with 0 all that is positive counts.
    """
    known = _finite(values)
    height, width = known.shape
    seen = np.where(_visible(known.shape, box, size), known, 0)  # what lies outside must not spread into the image
    inside = np.where(_visible((height * FINER, width * FINER), box, size), _interpolated(seen).clip(min=0), 0)
    top, total = float(inside.max()), float(_interpolated(known).clip(min=0).sum())
    if top <= 0:
        return []
    numbers, count = label((inside >= threshold * top) & (inside > 0))
    regions = []
    for number in range(1, count + 1):
        points = numbers == number
        cells = points.reshape(height, FINER, width, FINER).any((1, 3))
        share = float(inside[points].sum()) / total
        regions.append(Blob(outline(points, box, size), share, float(known[cells].max()), cells))
    return sorted(regions, key=lambda blob: (-blob.share, blob.box))


def outline(points: Cells, box: Box, size: tuple[int, int]) -> Box:
    """The smallest box around some points of a lattice over `box`, cut at the border of an image of `size`."""
    rows, columns = np.flatnonzero(points.any(1)), np.flatnonzero(points.any(0))
    down, across = _edges(points.shape, box, size)
    return float(across[columns[0]]), float(down[rows[0]]), float(across[columns[-1] + 1]), float(down[rows[-1] + 1])


def peaks(values: Map, box: Box, size: tuple[int, int], most: int, threshold: float = THRESHOLD) -> list[Point]:
    """The strongest positive cells that none of their eight neighbours exceeds, `most` of them, the strongest first.

    Only cells count whose centre lies in the image and whose value is at least `threshold` of the strongest of these;
    of neighbours with the same value the first.
    """
    inside = np.where(_centred(values.shape, box, size), _finite(values).clip(min=0), 0)
    top = float(inside.max())
    if top <= 0:
        return []
    highest = (inside == maximum_filter(inside, 3, mode="constant")) & (inside >= threshold * top) & (inside > 0)
    numbers, count = label(highest, np.ones((3, 3)))
    first = [int(np.flatnonzero(numbers.ravel() == number)[0]) for number in range(1, count + 1)]
    order = sorted(first, key=lambda cell: (-inside.ravel()[cell], cell))[:most]
    return [_point(values, cell, box) for cell in order]


def opposite(values: Map, box: Box, size: tuple[int, int], away: Cells) -> Point | None:
    """A cell that is not meant: of those outside `away`, the one with the strongest evidence against the caption.

    Where none is negative, the one farthest from `away` (between centres, in pixels; of equals the first). None where
    no cell outside has its centre in the image.
    """
    free = _centred(values.shape, box, size) & ~away
    if not free.any():
        return None
    against = np.where(free, _finite(values), np.inf)
    if against.min() < 0:
        return _point(values, int(against.argmin()), box)
    x, y = _centres(values.shape, box)
    places = np.stack(np.meshgrid(x, y), -1)
    taken = places[away] if away.any() else places.reshape(-1, 2)
    distance = np.linalg.norm(places[:, :, None] - taken[None, None], axis=-1).min(-1)
    return _point(values, int(np.where(free, distance, -1).argmax()), box)


def _finite(values: Map) -> Map:
    known: Map = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return known


def _interpolated(values: Map) -> PixelMap:
    fine = (values.shape[0] * FINER, values.shape[1] * FINER)
    return to_pixels(values, (0.0, 0.0, float(fine[1]), float(fine[0])), fine)[0]


def _edges(shape: tuple[int, ...], box: Box, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Borders of rows and of columns, cut at the border of the image."""
    down = np.linspace(box[1], box[3], shape[0] + 1).clip(0, size[0])
    across = np.linspace(box[0], box[2], shape[1] + 1).clip(0, size[1])
    return down, across


def _visible(shape: tuple[int, ...], box: Box, size: tuple[int, int]) -> Cells:
    """Which points of the lattice have a part of the image."""
    down, across = _edges(shape, box, size)
    return np.outer(np.diff(down) > 0, np.diff(across) > 0)


def _centres(shape: tuple[int, ...], box: Box) -> tuple[np.ndarray, np.ndarray]:
    """X of the columns and y of the rows."""
    x = box[0] + (np.arange(shape[1]) + 0.5) * (box[2] - box[0]) / shape[1]
    y = box[1] + (np.arange(shape[0]) + 0.5) * (box[3] - box[1]) / shape[0]
    return x, y


def _centred(shape: tuple[int, ...], box: Box, size: tuple[int, int]) -> Cells:
    """Which cells have their centre in the image."""
    x, y = _centres(shape, box)
    return np.outer((y >= 0) & (y < size[0]), (x >= 0) & (x < size[1]))


def _point(values: Map, cell: int, box: Box) -> Point:
    row, column = divmod(cell, values.shape[1])
    x, y = _centres(values.shape, box)
    return Point(float(x[column]), float(y[row]), float(values[row, column]))
