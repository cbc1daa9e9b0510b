"""One scale for all maps of a run."""

from dataclasses import dataclass

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.fields import MAP

BLOCK = 256  # maps in memory at a time


@dataclass(frozen=True)
class Scale:
    """Of all cells of all maps.

    `top` is where the colours of a whole run end: a percentile of the values, with negative ones as 0; `strongest` is
    the largest size of any value.
    """

    top: float
    strongest: float


def scale_of(archive: Archive | None, places: np.ndarray, percentile: float) -> Scale:
    """The scale of the records at these places (`Archive.places`).

    As `render.colours.strongest` takes it of one map; only the values above the percentile are kept meanwhile.
    """
    if archive is None or not len(places):
        return Scale(0.0, 0.0)
    rows, columns = archive.info.grid
    total = len(places) * rows * columns
    rank = (total - 1) * percentile / 100
    kept, strongest = _Largest(total - int(rank)), 0.0
    for start in range(0, len(places), BLOCK):
        values = archive.take([MAP.name], places[start : start + BLOCK])[MAP.name]
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        strongest = max(strongest, float(np.abs(values).max()))
        kept.add(values.clip(min=0).ravel())
    ordered = kept.sorted()
    top = float(ordered[0] + (rank - int(rank)) * (ordered[min(1, len(ordered) - 1)] - ordered[0]))
    return Scale(top or float(ordered[-1]), strongest)


class _Largest:
    """The largest `count` of a stream of numbers."""

    def __init__(self, count: int) -> None:
        self._count, self._parts, self._held = count, [np.zeros(0, np.float32)], 0

    def add(self, values: np.ndarray) -> None:
        self._parts.append(values)
        self._held += len(values)
        if self._held > 2 * self._count + (1 << 20):
            self._cut()

    def sorted(self) -> np.ndarray:
        self._cut()
        return np.sort(self._parts[0]).astype(np.float64)

    def _cut(self) -> None:
        values = np.concatenate(self._parts)
        if len(values) > self._count:
            values = np.partition(values, len(values) - self._count)[-self._count :]
        self._parts, self._held = [values], len(values)
