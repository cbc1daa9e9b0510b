"""The folder of an evaluation: eval.yaml, one score log a run, per_record.csv, metrics.json, plots."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self

from mmel_cli.errors import UsageError
from mmel_cli.evaluation.summary import Scores
from mmel_cli.runs import IdSet, RunFolder, differences, fingerprint
from mmel_cli.runs.failures import NAME as FAILURES
from mmel_cli.runs.folder import METRICS_FILE, PLOTS, SCORES, TABLE
from mmel_cli.types import Failure

__all__ = ["METRICS_FILE", "PLOTS", "SCORES", "TABLE"]
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # also full-width


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


def begin(folder: RunFolder, identity: dict[str, str], content: dict[str, Any]) -> None:
    """Write eval.yaml, or check that an earlier evaluation there was of the same records and settings.

    Raises:
        UsageError: if it was of others; what differs is named with both values.
    """
    before = folder.notes()
    scored = any(log.stat().st_size for log in (folder.path / SCORES).glob("*.jsonl"))
    if scored and before.get("identity_sha256") != fingerprint(identity):
        noted = before.get("identity")
        was = "; ".join(differences(noted, identity)) if isinstance(noted, dict) else "it is of an older mmel"
        raise UsageError(
            f"--out {folder.path}: holds another evaluation: {was}; give another folder, or --overwrite to start anew"
        )
    folder.note({"identity_sha256": fingerprint(identity), "identity": identity} | content)


def write_failures(folder: RunFolder, failures: dict[str, list[Failure]]) -> int:
    """failures.jsonl, one line a run and record; how many."""
    rows = [{"run": run} | asdict(failure) for run, found in failures.items() for failure in found]
    folder.write_text(FAILURES, "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows))
    return len(rows)


def write_table(path: Path, rows: Iterator[tuple[str, str, Scores]], metrics: list[str]) -> None:
    """per_record.csv: a row a run and record; undefined and refused metrics are empty.

    Args:
        path: the file.
        rows: run, caption and scores.
        metrics: the columns.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "id", "image", "caption", "size", *metrics])
        for run, caption, scores in rows:
            texts = [as_text(text) for text in (run, scores.id, scores.image, caption)]
            numbers = ["" if (value := scores.values.get(name)) is None else repr(value) for name in metrics]
            writer.writerow([*texts, scores.size or "", *numbers])
    temporary.rename(path)


def as_text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe goes before one that could be."""
    return "'" + text if text.startswith(_FORMULA) else text
