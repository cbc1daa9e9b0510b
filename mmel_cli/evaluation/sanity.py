"""Properties of a map that need no ground truth: sparseness, stability, dependence on the model and on the caption."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

_ZERO = 1e-12


@dataclass(frozen=True)
class SanityOptions:
    """`samples` of uniform noise within `radius` of the normalised input.

    At most `depths` randomised depths, each of `draws` networks.
    """

    samples: int = 10
    radius: float = 0.02
    depths: int = 12
    draws: int = 3

    def __post_init__(self) -> None:
        if min(self.samples, self.depths, self.draws) < 1:
            raise ValueError("sanity.samples, sanity.depths and sanity.draws must be at least 1")
        if not 0 < self.radius < float("inf"):
            raise ValueError("sanity.radius must be positive and finite")


def sparseness(values: np.ndarray) -> float:
    """Gini coefficient of the magnitudes: 0 when all are equal (or all 0), towards 1 when one has everything."""
    sizes = np.sort(np.abs(values.astype(np.float64)), axis=None)
    total, count = sizes.sum(), sizes.size
    if total <= 0:
        return 0.0
    place = np.arange(1, count + 1)
    return float(((2 * place - count - 1) * sizes).sum() / (count * total))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two maps, signed; 0 where either is constant, since it then says nothing."""
    a, b = (rankdata(values, axis=None) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size > _ZERO else 0.0


def relative_change(map_before: np.ndarray, map_after: np.ndarray) -> float:
    """Norm of the difference over the norm of the first; of a first map that is 0, the norm of the second."""
    size = float(np.linalg.norm(map_before.astype(np.float64)))
    change = float(np.linalg.norm(map_after.astype(np.float64) - map_before))
    return change / size if size > 0 else change


def depths(layers: int, most: int) -> tuple[int, ...]:
    """How many layers from the top are re-initialised at each stage: every one, or at most `most` evenly spread."""
    return tuple(int(n) for n in np.unique(np.linspace(1, layers, min(layers, most)).round()))
