"""From the scores of records to what is reported: means, differences, sizes, curves and layers, joined on record id."""

from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mmel_cli.evaluation.compare import ComparisonOptions, Difference, difference, estimate, holm
from mmel_cli.evaluation.registry import METRICS

SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Scores:
    """What was measured on one record; None where a metric is undefined for it."""

    id: str
    image: str
    values: dict[str, float | None]
    size: str | None = None  # small, medium, large: of the mask
    curves: dict[str, list[float]] = field(default_factory=dict)  # by metric: the points of its curve
    layers: dict[str, list[float]] = field(default_factory=dict)  # by "kind/metric": one value a layer


@dataclass(frozen=True)
class Columns:
    """The scores of a run by column, 8 bytes a number; row k of everything is record `ids[k]`."""

    ids: list[str]
    images: list[str]
    sizes: np.ndarray  # index into SIZES, -1 for none
    values: dict[str, np.ndarray]  # (records,), NaN where undefined
    curves: dict[str, np.ndarray]  # (records, points), NaN rows where missing
    layers: dict[str, np.ndarray]  # (records, layers), the same

    @classmethod
    def collect(cls, scores: Iterable[Scores]) -> "Columns":
        """Read scores one by one."""
        ids: list[str] = []
        images: list[str] = []
        sizes, values = array("b"), _Table()
        curves, layers = _Table(), _Table()
        for row, score in enumerate(scores):
            ids.append(score.id)
            images.append(score.image)
            sizes.append(SIZES.index(score.size) if score.size else -1)
            values.add(row, {n: [np.nan if v is None else v] for n, v in score.values.items()})
            curves.add(row, score.curves)
            layers.add(row, score.layers)
        count = len(ids)
        single = {name: column[:, 0] for name, column in values.arrays(count).items()}
        return cls(ids, images, np.array(sizes), single, curves.arrays(count), layers.arrays(count))

    def take(self, ids: list[str]) -> "Columns":
        """The rows of these records, in this order."""
        place = {name: row for row, name in enumerate(self.ids)}
        rows = np.array([place[name] for name in ids], int)
        tables = ({n: a[rows] for n, a in table.items()} for table in (self.values, self.curves, self.layers))
        return Columns(ids, [self.images[row] for row in rows], self.sizes[rows], *tables)


class _Table:
    """Named columns of number rows that may be missing here and there."""

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {}
        self._widths: dict[str, int] = {}

    def add(self, row: int, values: dict[str, list[float]]) -> None:
        for name, numbers in values.items():
            column = self._columns.setdefault(name, array("d"))
            width = self._widths.setdefault(name, len(numbers))
            column.extend([np.nan] * (row * width - len(column)))
            column.extend(numbers)

    def arrays(self, rows: int) -> dict[str, np.ndarray]:
        found = {}
        for name, column in self._columns.items():
            column.extend([np.nan] * (rows * self._widths[name] - len(column)))
            found[name] = np.array(column).reshape(rows, self._widths[name])
        return found


def join(runs: dict[str, Columns]) -> dict[str, Columns]:
    """The records that every run has, in the order of the first."""
    first = next(iter(runs.values()))
    common = set(first.ids).intersection(*(columns.ids for columns in runs.values()))
    ids = [name for name in first.ids if name in common]
    return {label: columns.take(ids) for label, columns in runs.items()}


def summarise(runs: dict[str, Columns], names: list[str], options: ComparisonOptions) -> dict[str, Any]:
    """The report as plain values; the first run is the reference of all differences.

    Args:
        runs: joined columns by label.
        names: the metrics asked for.
        options: of intervals and tests.
    """
    labels = list(runs)
    first = runs[labels[0]]
    _, images = (
        np.unique(np.array(first.images, object), return_inverse=True) if first.ids else (None, np.zeros(0, int))
    )
    differences = {
        (name, label): difference(runs[label].values[name], first.values[name], images, options)
        for name in names
        for label in labels[1:]
        if name in first.values and name in runs[label].values
    }
    corrected = correct(differences)
    metrics: dict[str, Any] = {}
    for name in names:
        had = [label for label in labels if name in runs[label].values]
        metric = METRICS[name]
        metrics[name] = {
            "group": metric.group,
            "better": metric.better,
            "definition": metric.definition,
            "source": metric.source,
            "runs": {label: asdict(estimate(runs[label].values[name], images, options)) for label in had},
            "differences": {label: asdict(corrected[name, label]) for label in had if (name, label) in corrected},
            "by_size": _by_size(runs, name, images, options) if metric.group == "localisation" else {},
        }
    return {
        "records": len(first.ids),
        "images": len(set(first.images)),
        "reference": labels[0],
        "metrics": metrics,
        "curves": {label: _means(columns.curves) for label, columns in runs.items()},
        "layers": {label: _means(columns.layers) for label, columns in runs.items()},
    }


def correct(differences: dict[tuple[str, str], Difference]) -> dict[tuple[str, str], Difference]:
    """Holm's correction over all differences that have a p-value."""
    tested = [key for key, value in differences.items() if value.p is not None]
    corrected = dict(zip(tested, holm([differences[key].p or 0.0 for key in tested]), strict=True))
    return {key: Difference(**(asdict(value) | {"p_holm": corrected.get(key)})) for key, value in differences.items()}


def _by_size(runs: dict[str, Columns], name: str, images: np.ndarray, options: ComparisonOptions) -> dict[str, Any]:
    """By size of the mask, then by run."""
    found: dict[str, Any] = {}
    for number, size in enumerate(SIZES):
        for label, columns in runs.items():
            rows = columns.sizes == number
            if name in columns.values and rows.any():
                part = estimate(columns.values[name][rows], images[rows], options)
                found.setdefault(size, {})[label] = asdict(part)
    return found


def _means(table: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean and standard error at every point, over the records that have the curve."""
    found = {}
    for name, rows in table.items():
        held = rows[~np.isnan(rows).any(1)]
        if len(held):
            error = held.std(0, ddof=1) / np.sqrt(len(held)) if len(held) > 1 else np.zeros(held.shape[1])
            found[name] = {"mean": held.mean(0).tolist(), "error": error.tolist(), "records": len(held)}
    return found
