"""The folder of an evaluation: eval.yaml, one score log a run, per_record.csv, metrics.json, plots."""

import csv
import json
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.errors import UsageError
from mmel_cli.evaluation import named
from mmel_cli.evaluation.summary import SIZES, Columns, Scores
from mmel_cli.idsets import IdSet, digests
from mmel_cli.runs import RunFolder, differences, fingerprint
from mmel_cli.runs.cells import as_text
from mmel_cli.runs.failures import NAME as FAILURES
from mmel_cli.runs.files import TEMPORARY
from mmel_cli.runs.folder import METRICS_FILE, PLOTS, SCORES, TABLE
from mmel_cli.runs.together import Opened
from mmel_cli.types import Failure

__all__ = ["METRICS_FILE", "PLOTS", "SCORES", "TABLE"]

_TOGETHER = 1024  # records whose names are in memory at a time
_NAMING = ("id", "image", "caption")


class ScoreLog:
    """The scores of one run: a JSON line a batch, on disk before the next batch; a torn last line is dropped."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done, sound = scored(path)
        self._file: IO[bytes] = path.open("ab")
        self._file.truncate(sound)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, scores: list[Scores]) -> None:
        """Write and fsync a batch."""
        if not scores:
            return
        line = json.dumps({"scores": [asdict(score) for score in scores]}, ensure_ascii=True)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def scored(path: Path) -> tuple[IdSet, int]:
    """The records in a log, and how many bytes of it are whole; none if there is no such file."""
    done, sound = IdSet(), 0
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                sound += len(line)
                done.update(scores["id"] for scores in json.loads(line)["scores"])
    return done, sound


def read_scores(path: Path) -> Iterator[Scores]:
    """The scores in a log, in order."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            for entry in json.loads(line)["scores"]:
                yield Scores(**entry)


class DoneInAll:
    """The records that every log has."""

    def __init__(self, sets: Sequence[Container[str]]) -> None:
        self._sets = sets

    def __contains__(self, record_id: object) -> bool:
        return bool(self._sets) and all(record_id in ids for ids in self._sets)


def log_path(folder: Path, run: Opened, family: str) -> Path:
    """One log a metric family and run: it stays when the run is compared with others later."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in run.path.resolve().name)[-80:]
    return folder / SCORES / f"{name}-{family}-{fingerprint(describe(run))[:12]}.jsonl"


def describe(run: Opened) -> dict[str, Any]:
    """What tells the maps of one run from those of another."""
    info = run.archive.info
    ids, maps = run.content
    return {
        "path": str(run.path.resolve()),
        "config_sha256": info.config_sha256,
        "model": info.model,
        "model_sha256": info.model_sha256,
        "method": info.method,
        "layers": list(info.layers),
        "records": len(run.archive),
        "ids_sha256": ids,
        "maps_sha256": maps,
    }


@dataclass(frozen=True)
class Identity:
    """What scores depend on: all of them, and those of each metric family; and the numbers that are reported."""

    common: dict[str, str]
    families: dict[str, dict[str, str]]
    names: tuple[str, ...]

    def join(self, folder: RunFolder) -> "Identity":
        """The same with what the folder holds already.

        Raises:
            UsageError: if it was scored with other records or settings; what differs is named with both values.
        """
        before = folder.notes()
        if not any(log.stat().st_size for log in (folder.path / SCORES).glob("*.jsonl")):
            return self
        noted, families = before.get("identity"), before.get("families")
        if not isinstance(noted, dict) or not isinstance(families, dict):
            raise _other(folder, ["it is of an older mmel"])
        was = differences(noted, self.common)
        for family, identity in self.families.items():
            was += [f"{text} (of {family})" for text in differences(families.get(family, identity), identity)]
        if was:
            raise _other(folder, was)
        names = [name for name in named() if name in {*self.names, *before.get("names", ())}]
        return Identity(self.common, families | self.families, tuple(names))

    def plain(self) -> dict[str, Any]:
        """For eval.yaml."""
        return {"identity": self.common, "families": self.families, "names": list(self.names)}


def _other(folder: RunFolder, was: list[str]) -> UsageError:
    return UsageError(
        f"--out {folder.path}: holds another evaluation: {'; '.join(was)}; give another folder, or --overwrite to "
        "start anew"
    )


class Failures:
    """failures.jsonl, one line a run and record; it takes the place of an earlier one when this is left."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FAILURES
        self._temporary = folder / (FAILURES + TEMPORARY)
        self._file: IO[str] = self._temporary.open("w", encoding="utf-8")
        self.counts: dict[str, int] = {}  # by run, of those that were scored

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if kind is None:
            self._temporary.rename(self._path)
        else:
            self._temporary.unlink()

    def add(self, run: str, failures: Sequence[Failure]) -> None:
        """Write those of a batch, if there are any; the run is one that was scored."""
        self.counts[run] = self.counts.get(run, 0) + len(failures)
        for failure in failures:
            row = {"run": run, "id": failure.id, "stage": failure.stage, "error": failure.error}
            self._file.write(json.dumps(row, ensure_ascii=True) + "\n")


def images_of(archive: Archive, numbers: np.ndarray) -> np.ndarray:
    """Which image each record is of, (n,) int64: the place of its name among the sorted names of all of them.

    Args:
        archive: that of the records.
        numbers: (n,), of the records in it.
    """
    names = digests(str(image) for (image,) in archive.rows("image"))[numbers]
    _, firsts, inverse = np.unique(names, return_index=True, return_inverse=True)
    distinct = np.empty(len(firsts), np.dtypes.StringDType())
    order = np.argsort(numbers[firsts], kind="stable")
    for start in range(0, len(order), _TOGETHER):
        part = order[start : start + _TOGETHER]
        distinct[part] = archive.take(["image"], archive.places_of(numbers[firsts[part]]))["image"]
    places = np.empty(len(firsts), np.int64)
    places[np.argsort(distinct, kind="stable")] = np.arange(len(firsts))
    return places[inverse]


def write_table(
    path: Path, runs: Mapping[str, Columns], archive: Archive, numbers: np.ndarray, metrics: Sequence[str]
) -> None:
    """per_record.csv: a row a run and record; undefined and refused metrics are empty.

    Args:
        path: the file.
        runs: the scores by label.
        archive: that has the records, of the first run.
        numbers: (n,), where in it those lie that the scores number.
        metrics: the columns.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "id", "image", "caption", "size", *metrics])
        for run, columns in runs.items():
            for start in range(0, len(columns.numbers), _TOGETHER):
                part = slice(start, start + _TOGETHER)
                said = archive.take(_NAMING, archive.places_of(numbers[columns.numbers[part]]))
                for row, names in enumerate(zip(*(said[name] for name in _NAMING), strict=True), start):
                    texts = [as_text(str(text)) for text in (run, *names)]
                    size = SIZES[columns.sizes[row]] if columns.sizes[row] >= 0 else ""
                    values = [columns.values[metric][row] if metric in columns.values else np.nan for metric in metrics]
                    cells = ("" if np.isnan(value) else repr(float(value)) for value in values)
                    writer.writerow([*texts, size, *cells])
    temporary.rename(path)
