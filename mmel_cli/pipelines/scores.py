"""The folder of an evaluation: eval.yaml, one score log a run, per_record.csv, metrics.json, plots."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.errors import UsageError
from mmel_cli.evaluation import named
from mmel_cli.evaluation.summary import SIZES, Columns, Scores
from mmel_cli.runs import IdSet, RunFolder, differences, fingerprint
from mmel_cli.runs.cells import as_text
from mmel_cli.runs.digests import ids_sha256, maps_sha256
from mmel_cli.runs.failures import NAME as FAILURES
from mmel_cli.runs.folder import METRICS_FILE, PLOTS, SCORES, TABLE
from mmel_cli.types import Failure

__all__ = ["METRICS_FILE", "PLOTS", "SCORES", "TABLE"]


class ScoreLog:
    """The scores of one run: a JSON line a batch, on disk before the next batch; a torn last line is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.done = IdSet()
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = 0
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    sound += len(line)
                    for scores in json.loads(line)["scores"]:
                        self.done.add(scores["id"])
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


def read_scores(path: Path) -> Iterator[Scores]:
    """The scores in a log, in order."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            for entry in json.loads(line)["scores"]:
                yield Scores(**entry)


class DoneInAll:
    """The records that every log has."""

    def __init__(self, sets: Sequence[IdSet]) -> None:
        self._sets = sets

    def __contains__(self, record_id: object) -> bool:
        return bool(self._sets) and all(record_id in ids for ids in self._sets)


def log_path(folder: RunFolder, path: Path, archive: Archive, family: str) -> Path:
    """One log a metric family and run: it stays when the run is compared with others later."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in path.resolve().name)[-80:]
    return folder.path / SCORES / f"{name}-{family}-{fingerprint(describe(path, archive))[:12]}.jsonl"


def describe(path: Path, archive: Archive) -> dict[str, Any]:
    """What tells the maps of one run from those of another."""
    info = archive.info
    return {
        "path": str(path.resolve()),
        "config_sha256": info.config_sha256,
        "model": info.model,
        "model_sha256": info.model_sha256,
        "method": info.method,
        "layers": list(info.layers),
        "records": len(archive),
        "ids_sha256": ids_sha256(archive),
        "maps_sha256": maps_sha256(archive),
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


def write_failures(folder: RunFolder, failures: dict[str, list[Failure]]) -> int:
    """failures.jsonl, one line a run and record; how many."""
    rows = [{"run": run} | asdict(failure) for run, of_run in failures.items() for failure in of_run]
    folder.write_text(FAILURES, "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows))
    return len(rows)


def write_table(path: Path, runs: Mapping[str, Columns], captions: Mapping[str, str], metrics: Sequence[str]) -> None:
    """per_record.csv: a row a run and record; undefined and refused metrics are empty.

    Args:
        path: the file.
        runs: the scores by label.
        captions: by record id.
        metrics: the columns.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "id", "image", "caption", "size", *metrics])
        for run, columns in runs.items():
            for row, (name, image) in enumerate(zip(columns.ids, columns.images, strict=True)):
                texts = [as_text(text) for text in (run, name, image, captions.get(name, ""))]
                size = SIZES[columns.sizes[row]] if columns.sizes[row] >= 0 else ""
                values = [columns.values[metric][row] if metric in columns.values else np.nan for metric in metrics]
                writer.writerow([*texts, size, *("" if np.isnan(value) else repr(float(value)) for value in values)])
    temporary.rename(path)
