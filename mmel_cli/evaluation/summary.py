"""From the scores of records to what is reported: means, differences, sizes, curves and layers, joined on record id."""

from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from mmel_cli.errors import MmelError
from mmel_cli.evaluation.compare import ComparisonOptions, Difference, difference, estimate, holm
from mmel_cli.evaluation.registry import named
from mmel_cli.idsets import IdIndex

SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Scores:
    """What was measured on one record; None where a metric is undefined for it."""

    id: str
    image: str
    values: dict[str, float | None]
    size: str | None = None  # small, medium, large: of the mask
    curves: dict[str, list[float]] = field(default_factory=dict)  # by metric: the points of its curve
    layers: dict[str, list[float]] = field(default_factory=dict)  # by "field/metric": one value a layer
    draws: dict[str, list[float]] = field(default_factory=dict)  # by metric: its value for each random draw


@dataclass(frozen=True)
class Columns:
    """The scores of a run by column, 8 bytes a number; row k of everything is record `numbers[k]` of an order."""

    numbers: np.ndarray  # (records,) int32
    sizes: np.ndarray  # index into SIZES, -1 for none
    values: dict[str, np.ndarray]  # (records,), NaN where undefined
    curves: dict[str, np.ndarray]  # (records, points), NaN rows where missing
    layers: dict[str, np.ndarray]  # (records, layers), the same
    draws: dict[str, np.ndarray]  # (records, draws), the same

    @classmethod
    def collect(cls, scores: Iterable[Scores], order: IdIndex) -> "Columns":
        """Read scores one by one; those of one record, by several metrics, need not follow each other.

        Args:
            scores: in the order that rows have then.
            order: the numbers of records, by their ids.

        Raises:
            MmelError: if a curve has another number of points than that of the records before it, or a record is not
                in the order.
        """
        rows, numbers = np.full(len(order), -1, np.int32), array("i")
        sizes, values, curves, layers, draws = array("b"), _Table(), _Table(), _Table(), _Table()
        for score in scores:
            number = order.number(score.id)
            if number is None:
                raise MmelError(f"record {score.id}: was scored and is not in the runs; score anew with --overwrite")
            if rows[number] < 0:
                rows[number] = len(numbers)
                numbers.append(number)
                sizes.append(-1)
            row = int(rows[number])
            sizes[row] = SIZES.index(score.size) if score.size else sizes[row]
            values.add(row, {n: [np.nan if v is None else v] for n, v in score.values.items()}, score.id)
            for table, points in ((curves, score.curves), (layers, score.layers), (draws, score.draws)):
                table.add(row, points, score.id)
        count = len(numbers)
        single = {name: column[:, 0] for name, column in values.arrays(count).items()}
        tables = (table.arrays(count) for table in (curves, layers, draws))
        return cls(np.array(numbers, np.int32), np.array(sizes, np.int8), single, *tables)

    def only(self, names: Iterable[str]) -> "Columns":
        """Without the numbers, and their curves and draws, that are not named."""
        chosen = set(names)
        values, curves, draws = (
            {name: rows for name, rows in table.items() if name in chosen}
            for table in (self.values, self.curves, self.draws)
        )
        return replace(self, values=values, curves=curves, draws=draws)

    def take(self, numbers: np.ndarray) -> "Columns":
        """The rows of these records, in this order."""
        if np.array_equal(numbers, self.numbers):
            return self
        place = np.full(max(self.numbers.max(initial=0), numbers.max(initial=0)) + 1, -1, np.int32)
        place[self.numbers] = np.arange(len(self.numbers), dtype=np.int32)
        rows = place[numbers]
        all_tables = (self.values, self.curves, self.layers, self.draws)
        tables = ({n: a[rows] for n, a in table.items()} for table in all_tables)
        return Columns(numbers, self.sizes[rows], *tables)


class _Table:
    """Named columns of number rows that may be missing here and there."""

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {}
        self._widths: dict[str, int] = {}

    def add(self, row: int, values: dict[str, list[float]], record: str) -> None:
        for name, numbers in values.items():
            column = self._columns.setdefault(name, array("d"))
            width = self._widths.setdefault(name, len(numbers))
            if len(numbers) != width:
                raise MmelError(
                    f"record {record}: {name} has {len(numbers)} points, the records before it {width}; the scores are "
                    "of different settings, score anew with --overwrite"
                )
            column.extend([np.nan] * ((row + 1) * width - len(column)))
            column[row * width : (row + 1) * width] = array("d", numbers)

    def arrays(self, rows: int) -> dict[str, np.ndarray]:
        arrays = {}
        for name, column in self._columns.items():
            column.extend([np.nan] * (rows * self._widths[name] - len(column)))
            arrays[name] = np.frombuffer(column).reshape(rows, self._widths[name])
        return arrays


def join(runs: dict[str, Columns]) -> dict[str, Columns]:
    """The records that every run has, in the order of the first."""
    first, *others = runs.values()
    common = np.ones(len(first.numbers), bool)
    for columns in others:
        common &= np.isin(first.numbers, columns.numbers)
    numbers = first.numbers[common]
    return {label: columns.take(numbers) for label, columns in runs.items()}


def summarise(
    runs: dict[str, Columns], images: np.ndarray, names: list[str], options: ComparisonOptions
) -> dict[str, Any]:
    """The report as plain values; the first run is the reference of all differences.

    Args:
        runs: joined columns by label.
        images: (records,) integers that say which image a record is of, from 0.
        names: the metrics asked for.
        options: of intervals and tests.
    """
    labels, numbers = list(runs), named()
    first = runs[labels[0]]
    differences = {
        (name, label): difference(
            runs[label].values[name], first.values[name], images, options, _both(runs[label], first, name)
        )
        for name in names
        for label in labels[1:]
        if name in first.values and name in runs[label].values
    }
    corrected = correct(differences)
    metrics: dict[str, Any] = {}
    for name in names:
        had = {label: columns for label, columns in runs.items() if name in columns.values}
        metric, said = numbers[name]
        metrics[name] = {
            "group": metric.group,
            "better": said.better,
            "definition": said.definition,
            "source": said.source or metric.source,
            "runs": {
                label: asdict(estimate(columns.values[name], images, options, columns.draws.get(name)))
                for label, columns in had.items()
            },
            "differences": {label: asdict(corrected[name, label]) for label in had if (name, label) in corrected},
            "by_size": _by_size(runs, name, images, options) if metric.group == "localisation" else {},
        }
    return {
        "records": len(first.numbers),
        "images": int(np.unique(images).size),
        "reference": labels[0],
        "metrics": metrics,
        "curves": {label: _means(columns.curves, images) for label, columns in runs.items()},
        "layers": {label: _means(columns.layers, images) for label, columns in runs.items()},
    }


def correct(differences: dict[tuple[str, str], Difference]) -> dict[tuple[str, str], Difference]:
    """Holm's correction over all differences that have a p-value."""
    tested = [key for key, value in differences.items() if value.p is not None]
    corrected = dict(zip(tested, holm([differences[key].p or 0.0 for key in tested]), strict=True))
    return {key: Difference(**(asdict(value) | {"p_holm": corrected.get(key)})) for key, value in differences.items()}


def _by_size(runs: dict[str, Columns], name: str, images: np.ndarray, options: ComparisonOptions) -> dict[str, Any]:
    """By size of the mask, then by run."""
    by_size: dict[str, Any] = {}
    for number, size in enumerate(SIZES):
        for label, columns in runs.items():
            rows = columns.sizes == number
            if name in columns.values and rows.any():
                part = estimate(columns.values[name][rows], images[rows], options)
                by_size.setdefault(size, {})[label] = asdict(part)
    return by_size


def _both(one: Columns, other: Columns, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The draws of a random metric in two runs, if both have as many."""
    first, second = one.draws.get(name), other.draws.get(name)
    if first is None or second is None or first.shape != second.shape:
        return None
    return first, second


def _means(table: dict[str, np.ndarray], images: np.ndarray) -> dict[str, Any]:
    """Mean and standard error at every point, over the records that have the curve; images are drawn, not records."""
    points = {}
    for name, rows in table.items():
        complete = ~np.isnan(rows).any(1)
        if complete.any():
            _, place = np.unique(images[complete], return_inverse=True)
            counts = np.bincount(place).astype(np.float64)
            sums = np.stack([np.bincount(place, column) for column in rows[complete].T], 1)  # (images, points)
            mean, many = sums.sum(0) / counts.sum(), len(counts)
            spread = np.sqrt(((sums - mean * counts[:, None]) ** 2).sum(0) * many / max(many - 1, 1))
            error, records = spread / counts.sum(), int(complete.sum())
            points[name] = {"mean": mean.tolist(), "error": error.tolist(), "records": records}
    return points
