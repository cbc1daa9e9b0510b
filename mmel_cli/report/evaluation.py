"""What `mmel eval` measured, for the report: its metrics.json as it is, and a column a metric and run."""

import csv
import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmel_cli.idsets import IdIndex, digest
from mmel_cli.names import count
from mmel_cli.report.run import ReportRun
from mmel_cli.runs.cells import as_text
from mmel_cli.runs.folder import METRICS_FILE, TABLE

_BETTER = {"up": "higher", "down": "lower"}
_LONGEST_CELL = 1 << 27  # characters; captions may be long
_BLOCK = 256  # records


@dataclass(frozen=True)
class Evaluated:
    """An evaluation as a report has it.

    `content` is that of metrics.json without the settings. Its key `report_runs` has, by label, the number of the run
    in the report, or None; `confidence` is that of its intervals, None if it does not say. `metrics` says what the
    `columns` are, (records,) float64 each, NaN where undefined.
    """

    content: dict[str, Any]
    metrics: list[dict[str, Any]]
    columns: list[np.ndarray]


def find_evaluation(folder: Path, runs: Sequence[ReportRun], say: Callable[[str], None]) -> Evaluated | None:
    """The evaluation in a folder; None if there is none.

    Args:
        folder: of `mmel eval`.
        runs: of the report.
        say: told in a line why an evaluation, or a part of it, is left out: it cannot be read, is of other runs, of
            other records or maps than a run has now, or of other pairs under the same names.
    """
    if not (folder / METRICS_FILE).is_file():
        return None
    try:
        said = json.loads((folder / METRICS_FILE).read_text("utf-8"))
        numbers = _numbers(said["runs"], runs)
        changed = _changed(said["runs"], runs, numbers)
        names = [str(name) for name in said["metrics"]]
        table, other = _read_table(folder / TABLE, names, numbers, runs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        say(f"{folder}: cannot be read ({type(error).__name__}: {error}); left out, run mmel eval again")
        return None
    if changed:
        say(f"{folder}: left out: {changed}; run mmel eval again")
        return None
    if all(number is None for number in numbers.values()):
        say(f"{folder}: is of other runs, or they were made anew since; left out, run mmel eval again")
        return None
    if other:
        say(f"{folder}: {count(other, 'row')} of another image or caption left out")
    metrics, columns = [], []
    for label, number in numbers.items():
        for name in names:
            values = table.get((label, name))
            if number is not None and values is not None and not np.isnan(values).all():
                metrics.append(_metric(name, said["metrics"][name], number))
                columns.append(values)
    content = {key: value for key, value in said.items() if key != "config"}
    content |= {"label": str(folder), "report_runs": numbers, "confidence": _confidence(said.get("config"))}
    return Evaluated(content, metrics, columns)


def _confidence(config: Any) -> float | None:
    comparison = config.get("comparison") if isinstance(config, dict) else None
    confidence = comparison.get("confidence") if isinstance(comparison, dict) else None
    return confidence if isinstance(confidence, float) else None


def _metric(name: str, said: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {
        "key": name,
        "label": name,
        "better": _BETTER.get(str(said.get("better")), "neither"),
        "definition": said.get("definition"),
        "run": number,
    }


def _numbers(evaluated: Sequence[Mapping[str, Any]], runs: Sequence[ReportRun]) -> dict[str, int | None]:
    """By label of the evaluation, which run of the report it is.

    A run may have moved since, so what it was made from and what it holds count; of several alike, the path does.
    """
    numbers: dict[str, int | None] = {}
    for one in evaluated:
        alike = [
            number
            for number, run in enumerate(runs)
            if run.info.config_sha256 == one["config_sha256"]
            and run.content == (one.get("ids_sha256"), one.get("maps_sha256"))
        ]
        numbers[str(one["label"])] = min(alike, key=lambda number: not _lies_at(runs[number], one), default=None)
    return numbers


def _changed(
    evaluated: Sequence[Mapping[str, Any]], runs: Sequence[ReportRun], numbers: Mapping[str, int | None]
) -> str:
    """Why a run of the report is not what was evaluated under its path or from the same settings; "" if none is so."""
    for number, run in enumerate(runs):
        if number in numbers.values():
            continue
        left = [one for one in evaluated if numbers[str(one["label"])] is None]
        alike = [one for one in left if run.info.config_sha256 == one["config_sha256"]]
        for one in (*(one for one in left if _lies_at(run, one)), *alike):
            if run.info.config_sha256 != one["config_sha256"]:
                return f"the run {run.label} was made anew with other settings"
            if "ids_sha256" not in one or "maps_sha256" not in one:
                return f"an older mmel wrote it, which did not say what the run {run.label} held"
            if run.content[0] != one["ids_sha256"]:
                return f"the run {run.label} has other records now"
            return f"the run {run.label} has other maps now"
    return ""


def _lies_at(run: ReportRun, evaluated: Mapping[str, Any]) -> bool:
    return str(run.path.resolve()) == evaluated.get("path")


def _read_table(
    path: Path, names: Sequence[str], numbers: Mapping[str, int | None], runs: Sequence[ReportRun]
) -> tuple[dict[tuple[str, str], np.ndarray], int]:
    """per_record.csv by label and metric, and how many rows were of another image or caption than the record has."""
    labels = {as_text(label): label for label, number in numbers.items() if number is not None}
    expected = _Expected.of(runs[0])
    table: dict[tuple[str, str], np.ndarray] = {}
    other = 0
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                label, number = labels.get(row["run"]), expected.index.number(row["id"])
                if label is None or number is None:
                    continue
                if expected.pairs[number] != digest(_pair(row["image"], row["caption"])):
                    other += 1
                    continue
                for name in names:
                    if row.get(name):
                        values = table.setdefault((label, name), np.full(len(runs[0].rows), np.nan))
                        values[number] = float(row[name])
    finally:
        csv.field_size_limit(before)
    return table, other


@dataclass(frozen=True)
class _Expected:
    """What cells say of the records of a report: their numbers by id, and digests of image and caption, (n,) uint64."""

    index: IdIndex
    pairs: np.ndarray

    @classmethod
    def of(cls, run: ReportRun) -> "_Expected":
        ids, pairs = array("Q"), array("Q")
        for start in range(0, len(run.rows) if run.archive else 0, _BLOCK):
            assert run.archive is not None  # noqa: S101 - it has records
            read = run.archive.take(["id", "image", "caption"], run.places[start : start + _BLOCK])
            ids.extend(digest(as_text(str(name))) for name in read["id"])
            both = zip(read["image"], read["caption"], strict=True)
            pairs.extend(digest(_pair(as_text(str(image)), as_text(str(caption)))) for image, caption in both)
        return cls(IdIndex.of(np.array(ids, np.uint64)), np.array(pairs, np.uint64))


def _pair(image: str, caption: str) -> str:
    return f"{image}\0{caption}"
