"""Means with bootstrap intervals, and paired differences with intervals and corrected p-values.

Captions of one image are not independent, so images are drawn, not records: both the bootstrap and the permutation
test work on sums over each image.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, norm, permutation_test

_PART = 1000  # resamples that are drawn at a time
_NUMBERS = 4_000_000  # that are drawn at a time
_MANY = 50  # images, for the normal approximation of far tails
_LARGE = 20_000  # from so many images on, resampling and the normal distribution agree to every digit shown


@dataclass(frozen=True)
class ComparisonOptions:
    """Draws of the bootstrap and of the sign-flip test, coverage of the intervals, and the seed of both."""

    resamples: int = 9999
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 99:
            raise ValueError("comparison.resamples must be at least 99")
        if not 0 <= self.seed < 2**63:
            raise ValueError("comparison.seed must lie in 0..2^63 - 1")
        if not 0.5 <= self.confidence < 1:
            raise ValueError("comparison.confidence must lie in 0.5..1")


@dataclass(frozen=True)
class Estimate:
    """A mean over records with its interval; over `records`; `undefined` do not count. None: no record does."""

    mean: float | None
    low: float | None
    high: float | None
    records: int
    undefined: int = 0


@dataclass(frozen=True)
class Difference:
    """The mean paired difference (run minus reference) over the records that both define, with interval and p-values.

    `p` is of the two-sided sign-flip permutation test on image sums; `p_holm` is corrected (Holm) for all differences
    of the report.
    """

    mean: float | None
    low: float | None
    high: float | None
    records: int
    p: float | None
    p_holm: float | None = None


def estimate(
    values: np.ndarray, images: np.ndarray, options: ComparisonOptions, draws: np.ndarray | None = None
) -> Estimate:
    """Mean and bootstrap interval.

    Args:
        values: (records,) float64, NaN where undefined.
        images: (records,) integers that say which image a record is of.
        options: see ComparisonOptions.
        draws: (records, draws), of a metric that is random: the interval then counts the draw too.
    """
    sums, counts = per_image(values, images)
    undefined = int(np.isnan(values).sum())
    if not counts.size:
        return Estimate(None, None, None, 0, undefined)
    low, high = interval(sums, counts, options) if draws is None else crossed(draws, images, options)[:2]
    return Estimate(float(sums.sum() / counts.sum()), low, high, int(counts.sum()), undefined)


def difference(
    values: np.ndarray,
    reference: np.ndarray,
    images: np.ndarray,
    options: ComparisonOptions,
    draws: tuple[np.ndarray, np.ndarray] | None = None,
) -> Difference:
    """Paired difference of two runs on the same records, in the same order, and with the same draws if it is random."""
    sums, counts = per_image(values - reference, images)
    if not counts.size:
        return Difference(None, None, None, 0, None)
    mean = float(sums.sum() / counts.sum())
    if draws is not None:
        low, high, error = crossed(draws[0] - draws[1], images, options)
        p = float(2 * norm.sf(abs(mean) / error)) if error else None
        return Difference(mean, low, high, int(counts.sum()), p)
    low, high = interval(sums, counts, options)
    return Difference(mean, low, high, int(counts.sum()), sign_flip(sums, options))


def per_image(values: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the defined values of each image that has any."""
    kept = ~np.isnan(values)
    _, place = np.unique(images[kept], return_inverse=True)
    return np.bincount(place, values[kept]).astype(np.float64), np.bincount(place).astype(np.float64)


def interval(sums: np.ndarray, counts: np.ndarray, options: ComparisonOptions) -> tuple[float | None, float | None]:
    """Percentile bootstrap of the ratio sums / counts over images; None with fewer than two images."""
    if len(sums) < 2:
        return None, None
    mean = sums.sum() / counts.sum()
    if len(sums) >= _LARGE:
        error = np.sqrt(((sums - mean * counts) ** 2).sum()) / counts.sum()
        reach = norm.ppf(0.5 + options.confidence / 2) * error
        return float(mean - reach), float(mean + reach)
    bounds = bootstrap(
        (sums, counts),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        n_resamples=options.resamples,
        batch=max(1, _NUMBERS // len(sums)),
        paired=True,
        vectorized=True,
        confidence_level=options.confidence,
        method="percentile",
        rng=np.random.default_rng(options.seed),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def crossed(
    draws: np.ndarray, images: np.ndarray, options: ComparisonOptions
) -> tuple[float | None, float | None, float | None]:
    """Percentile interval and standard error of the mean where images and draws are both random.

    Both are drawn with replacement, each by itself (the pigeonhole bootstrap, Owen 2007); None with fewer than two
    images or draws.

    Args:
        draws: (records, draws) float64; a row with NaN does not count.
        images: (records,) integers.
        options: see ComparisonOptions.
    """
    kept = ~np.isnan(draws).any(1)
    _, place = np.unique(images[kept], return_inverse=True)
    counts = np.bincount(place).astype(np.float64)
    many, count = len(counts), draws.shape[1]
    if many < 2 or count < 2:
        return None, None, None
    sums = np.stack([np.bincount(place, column) for column in draws[kept].T])  # (draws, images)
    rng, means = np.random.default_rng(options.seed), []
    rows = max(1, _NUMBERS // many)
    for start in range(0, options.resamples, _PART):
        size = min(_PART, options.resamples - start)
        both = []  # of the drawn images: sums by draw, and records
        for first in range(0, size, rows):
            of_images = rng.multinomial(many, np.full(many, 1 / many), min(rows, size - first))
            both.append(np.column_stack([of_images @ sums.T, of_images @ counts]))
        of_both = np.concatenate(both)
        of_draws = rng.multinomial(count, np.full(count, 1 / count), size)
        totals = (of_both[:, :-1] * of_draws).sum(1) / count
        means.append(totals / of_both[:, -1])
    resampled = np.concatenate(means)
    edge = (1 - options.confidence) / 2
    return float(np.quantile(resampled, edge)), float(np.quantile(resampled, 1 - edge)), float(resampled.std(ddof=1))


def sign_flip(sums: np.ndarray, options: ComparisonOptions) -> float | None:
    """Two-sided p-value that images' differences are as often for as against; None with fewer than two images.

    Where no drawn permutation is as extreme, and with 50 images or more, the normal approximation of the same test:
    corrected for many comparisons, the smallest p of so many draws would otherwise never be significant.
    """
    if len(sums) < 2:
        return None
    if not sums.any():
        return 1.0
    if len(sums) >= _LARGE:
        return _normal_p(sums)
    p = float(
        permutation_test(
            (sums,),
            lambda x, axis: x.sum(axis=axis),
            permutation_type="samples",
            n_resamples=options.resamples,
            batch=max(1, _NUMBERS // len(sums)),
            vectorized=True,
            rng=np.random.default_rng(options.seed),
        ).pvalue
    )
    if len(sums) >= _MANY and p <= 2 / (options.resamples + 1):  # as small as draws can show
        return min(p, _normal_p(sums))
    return p


def _normal_p(sums: np.ndarray) -> float:
    return float(2 * norm.sf(abs(sums.sum()) / np.sqrt((sums**2).sum())))


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction, in the given order."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1, np.maximum.accumulate(scaled)) if len(p_values) else scaled
    return [float(value) for value in corrected]
