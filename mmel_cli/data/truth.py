"""The ground truth of a pair or a phrase: where in the image the thing is that its words name."""

import numpy as np

from mmel_cli.data.images import ImageLimits, read_mask
from mmel_cli.errors import RecordError
from mmel_cli.types import Phrase, Sample

_LIMITS = ImageLimits()
_SHOWN = 3  # boxes in a message


def has_truth(named: Sample | Phrase) -> bool:
    """Whether the input gives a mask or boxes for the pair, or for the phrase."""
    return named.mask is not None or bool(named.boxes)


def read_truth(named: Sample | Phrase, size: tuple[int, int], limits: ImageLimits = _LIMITS) -> np.ndarray | None:
    """The mask of a pair or phrase, or its boxes as one: bool (height, width) of the original; None if none is given.

    A pixel is in a box if its centre is. A mask comes before boxes.

    Raises:
        RecordError: stage "image", if the mask cannot be read or is not of `size`; "pair", if no pixel is in a box.
    """
    if named.mask is not None:
        return read_mask(named.mask, size, limits)
    if not named.boxes:
        return None
    down, across = (np.arange(length) + 0.5 for length in size)
    inside = np.zeros(size, bool)
    for x0, y0, x1, y1 in named.boxes:
        inside |= ((down >= y0) & (down < y1))[:, None] & ((across >= x0) & (across < x1))
    if not inside.any():  # of another image, or in other units than pixels
        given = ", ".join(str([*box]) for box in named.boxes[:_SHOWN])
        none = f"no pixel of the image ({size[1]} x {size[0]}) is in the boxes {given}"
        raise RecordError("pair", f"{none}; boxes are [x0, y0, x1, y1] in pixels")
    return inside
