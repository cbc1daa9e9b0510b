"""The ground truth of a pair: where in the image the thing is that its caption names."""

import numpy as np

from mmel_cli.data.images import ImageLimits, read_mask
from mmel_cli.types import Sample

_LIMITS = ImageLimits()


def has_truth(sample: Sample) -> bool:
    """Whether the input gives a mask or boxes for the pair."""
    return sample.mask is not None or bool(sample.boxes)


def read_truth(sample: Sample, size: tuple[int, int], limits: ImageLimits = _LIMITS) -> np.ndarray | None:
    """The mask of a pair, or its boxes as one: bool (height, width) of the original; None if the input gives neither.

    A pixel is in a box if its centre is. A mask comes before boxes.

    Raises:
        RecordError: stage "image", if the mask cannot be read or is not of `size`.
    """
    if sample.mask is not None:
        return read_mask(sample.mask, size, limits)
    if not sample.boxes:
        return None
    down, across = (np.arange(length) + 0.5 for length in size)
    inside = np.zeros(size, bool)
    for x0, y0, x1, y1 in sample.boxes:
        inside |= ((down >= y0) & (down < y1))[:, None] & ((across >= x0) & (across < x1))
    return inside
