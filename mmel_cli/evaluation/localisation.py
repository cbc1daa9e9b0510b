"""Does the map find what the caption names? Maps against masks, at the pixels of the original that the grid covers.

Wherever the covered part of the mask is empty, every metric here is undefined (None): the record does not count.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from mmel_cli.evaluation.ranking import shuffled
from mmel_cli.geometry import Mask, PixelMap


@dataclass(frozen=True)
class LocalisationOptions:
    """How masks are met and grouped.

    `tolerance` of the pointing game in pixels of the original; `sizes`, the largest part of the covered image that a
    mask fills to count as small and as medium in the breakdown by object size.
    """

    tolerance: float = 0.0
    sizes: tuple[float, float] = (0.04, 0.12)

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError("localisation.tolerance must be finite and not negative")
        if not 0 < self.sizes[0] < self.sizes[1] < 1:
            raise ValueError("localisation.sizes must be two parts of the image, the smaller first")


def localise(values: PixelMap, mask: Mask, options: LocalisationOptions) -> dict[str, float | None]:
    """All localisation metrics of one map; None for each where the mask is empty."""
    names = ("pointing-game", "energy-inside", "pixel-ap", "iou-best", "iou-area")
    if not mask.any():
        return dict.fromkeys(names)
    hits, taken = cumulative_hits(values, mask)
    pointing, energy = pointing_game(values, mask, options.tolerance), energy_inside(values, mask)
    by_rank = average_precision(hits, taken), iou_best(hits, taken), iou_area(values, mask)
    return dict(zip(names, (pointing, energy, *by_rank), strict=True))


def pointing_game(values: PixelMap, mask: Mask, tolerance: float = 0.0) -> float:
    """The part of the highest pixels (more than one only in a tie) that lie in the mask, or within `tolerance` of it.

    So a constant map scores what a blind guess scores: the mask's share of the pixels.
    """
    near = distance_transform_edt(~mask) <= tolerance if tolerance else mask
    return float(near[values == values.max()].mean())


def energy_inside(values: PixelMap, mask: Mask) -> float:
    """Positive evidence inside the mask over all positive evidence; 0 where there is none at all."""
    positive = values.clip(min=0)
    total = positive.sum()
    return float(positive[mask].sum() / total) if total > 0 else 0.0


def cumulative_hits(values: PixelMap, mask: Mask) -> tuple[np.ndarray, np.ndarray]:
    """At each distinct value, from the highest: mask pixels so far, and pixels so far."""
    order = np.argsort(-values, axis=None, kind="stable")
    ranked = values.ravel()[order]
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    return mask.ravel()[order].cumsum()[ends], ends + 1


def average_precision(hits: np.ndarray, taken: np.ndarray) -> float:
    """Mean precision over the mask's pixels; pixels of equal value share theirs (scikit-learn's definition)."""
    return float((np.diff(hits, prepend=0) * hits / taken).sum() / hits[-1])


def iou_best(hits: np.ndarray, taken: np.ndarray) -> float:
    """The largest intersection over union among all thresholds; pixels of equal value stand or fall together."""
    return float((hits / (taken + hits[-1] - hits)).max())


def iou_area(values: PixelMap, mask: Mask) -> float:
    """Intersection over union of the mask with as many of the highest pixels; ties by the fixed shuffled order."""
    count = int(mask.sum())
    shuffle = shuffled(values.size).numpy()
    chosen = shuffle[np.argsort(-values.ravel()[shuffle], kind="stable")[:count]]
    shared = int(mask.ravel()[chosen].sum())
    return shared / (2 * count - shared)


def size_class(mask: Mask, options: LocalisationOptions) -> str:
    """small, medium or large."""
    part = mask.mean()
    return ("small", "medium", "large")[int(part > options.sizes[0]) + int(part > options.sizes[1])]


def quadrant_recognition(values: np.ndarray, quadrant: int) -> float | None:
    """FIxLIP's recognition of one quadrant of a grid map; None where there is no evidence."""
    good, total = quadrant_evidence(values, quadrant)
    return good / total if total > 0 else None


def quadrant_evidence(values: np.ndarray, quadrant: int) -> tuple[float, float]:
    """Positive evidence of a grid map inside a quadrant (0 to 3, row by row) and negative outside, and all of it.

    The middle row and column of an odd grid belong to no quadrant and do not count.
    """
    height, width = values.shape
    down, across = divmod(quadrant, 2)
    rows, columns = np.zeros(height, bool), np.zeros(width, bool)
    rows[(height - height // 2) * down : (height - height // 2) * down + height // 2] = True
    columns[(width - width // 2) * across : (width - width // 2) * across + width // 2] = True
    counted_rows, counted_columns = np.ones(height, bool), np.ones(width, bool)
    if height % 2:
        counted_rows[height // 2] = False
    if width % 2:
        counted_columns[width // 2] = False
    inside = np.outer(rows, columns)
    outside = np.outer(counted_rows, counted_columns) & ~inside
    good = values[inside].clip(min=0).sum() - values[outside].clip(max=0).sum()
    return float(good), float(np.abs(values[inside | outside]).sum())


def as_tensor(maps: list[np.ndarray]) -> torch.Tensor:
    """(records, h, w) float32."""
    return torch.from_numpy(np.stack(maps).astype(np.float32))
