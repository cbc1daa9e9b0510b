"""How much the maps of several runs differ, record by record."""

from collections.abc import Sequence

import numpy as np

from mmel_cli.fields import MAP
from mmel_cli.report.run import ReportRun

_BLOCK = 256


def differences(runs: Sequence[ReportRun]) -> np.ndarray | None:
    """1 less the smallest Pearson correlation of any run's map with the first run's, (n,) float32; None for one run.

    Where grids or the parts of the image that they cover differ, both maps are averaged over the cells of the coarser
    grid on what both cover. NaN where no correlation is defined: a map that is the same everywhere has none.
    """
    if len(runs) < 2:
        return None
    least = np.full(len(runs[0].rows), np.nan, np.float32)
    for start in range(0, len(least), _BLOCK):
        part = slice(start, start + _BLOCK)
        first = _read(runs[0], part)
        for other in runs[1:]:
            least[part] = np.fmin(least[part], _correlations(first, _read(other, part)))
    return 1 - least


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's, over the last axis; NaN where either is the same everywhere or not finite."""
    one, other = (rows - rows.mean(-1, keepdims=True) for rows in (one.astype(np.float64), other.astype(np.float64)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((one * other).sum(-1) / np.sqrt((one**2).sum(-1) * (other**2).sum(-1)))


def _read(run: ReportRun, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, rows, columns) and boxes (n, 4)."""
    assert run.archive is not None  # noqa: S101 - it has records
    read = run.archive.take([MAP.name, "box"], run.places[part])
    return read[MAP.name], read["box"]


def _correlations(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    (maps, boxes), (maps_other, boxes_other) = one, other
    if maps.shape == maps_other.shape and np.array_equal(boxes, boxes_other):
        return correlation(maps.reshape(len(maps), -1), maps_other.reshape(len(maps), -1))
    cells = tuple(min(sizes) for sizes in zip(maps.shape[1:], maps_other.shape[1:], strict=True))
    results = []
    for row in range(len(maps)):
        both = np.stack([boxes[row], boxes_other[row]]).astype(np.float64)
        shared = np.concatenate([both[:, :2].max(0), both[:, 2:].min(0)])
        one_laid, other_laid = (
            _averaged(values, box, shared, cells) for values, box in ((maps[row], both[0]), (maps_other[row], both[1]))
        )
        results.append(correlation(one_laid.ravel(), other_laid.ravel()))
    return np.array(results)


def _averaged(values: np.ndarray, box: np.ndarray, part: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """The mean of a map in each of `cells` (rows, columns) laid over a part of its box."""
    down = _shares((box[1], box[3]), values.shape[0], (part[1], part[3]), cells[0])
    across = _shares((box[0], box[2]), values.shape[1], (part[0], part[2]), cells[1])
    return np.asarray(down @ values.astype(np.float64) @ across.T)


def _shares(edges: tuple[float, float], count: int, part: tuple[float, float], cells: int) -> np.ndarray:
    """(cells, count): how much of each cell lies in each of `count` equal pieces; NaN if the part is empty."""
    pieces, borders = np.linspace(*edges, count + 1), np.linspace(*part, cells + 1)
    shared = np.minimum(borders[1:, None], pieces[1:]) - np.maximum(borders[:-1, None], pieces[:-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(shared.clip(min=0) / (borders[1] - borders[0] if part[1] > part[0] else np.nan))
