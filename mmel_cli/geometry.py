"""Between the patch grid and the pixels of the original image, for an axis-aligned box that may reach beyond it."""

import numpy as np
from jaxtyping import Bool, Float

from mmel_cli.types import Box, Map

PixelMap = Float[np.ndarray, "rows columns"]
Mask = Bool[np.ndarray, "rows columns"]


def to_pixels(values: Map, box: Box, size: tuple[int, int]) -> tuple[PixelMap, tuple[slice, slice]]:
    """Interpolate a grid map bilinearly at the centres of the original's pixels that the box covers.

    Args:
        values: (h, w), laid over `box`.
        box: x0, y0, x1, y1 in pixels of the original.
        size: height, width of the original.

    Returns:
        The covered pixels, float64, and the rows and columns of the original that they are.
    """
    rows, columns = covered(box, size)
    down = _between(values.astype(np.float64), _places(rows, (box[1], box[3]), values.shape[0]))
    across = _between(down.T, _places(columns, (box[0], box[2]), values.shape[1]))
    return across.T, (rows, columns)


def to_grid(mask: Mask, box: Box, grid: tuple[int, int]) -> Map:
    """The part of each grid cell's area that is inside the mask, float32 (h, w) in 0..1."""
    down = _overlaps(mask.shape[0], (box[1], box[3]), grid[0])
    across = _overlaps(mask.shape[1], (box[0], box[2]), grid[1])
    return (down @ mask.astype(np.float64) @ across.T).astype(np.float32)


def covered(box: Box, size: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of an image of `size` (height, width) whose centres lie in the box."""
    x0, y0, x1, y1 = box
    return _centres(y0, y1, size[0]), _centres(x0, x1, size[1])


def _centres(low: float, high: float, length: int) -> slice:
    first = min(length, max(0, int(np.ceil(low - 0.5))))
    return slice(first, max(first, min(length, int(np.ceil(high - 0.5)))))


def _places(pixels: slice, edges: tuple[float, float], cells: int) -> np.ndarray:
    """Where the centres of pixels lie among the centres of cells; beyond the outer ones the outer cell counts alone."""
    place = (np.arange(pixels.start, pixels.stop) + 0.5 - edges[0]) / (edges[1] - edges[0]) * cells - 0.5
    return place.clip(0, cells - 1)


def _between(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows of `values` interpolated at `places`, as a + t (b - a): between equal rows exactly those."""
    low = np.floor(places).astype(int)
    first, second = values[low], values[np.minimum(low + 1, len(values) - 1)]
    return first + (places - low)[:, None] * (second - first)


def _overlaps(length: int, edges: tuple[float, float], cells: int) -> np.ndarray:
    """(cells, pixels): the part of each cell's extent that each pixel takes."""
    borders = np.linspace(*edges, cells + 1)
    starts = np.arange(length)
    shared = np.minimum(borders[1:, None], starts + 1) - np.maximum(borders[:-1, None], starts)
    return np.maximum(0, shared) / (borders[1] - borders[0])
