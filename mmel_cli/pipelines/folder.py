"""The run folder: run.yaml, failures.jsonl, summary.json and the report."""

import json
import os
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any, Self

import yaml

from mmel_cli.archive import load_archive
from mmel_cli.errors import UsageError
from mmel_cli.render import ReportRecord, ReportSummary, picture_name, write_report
from mmel_cli.types import Failure, RunInfo

ARCHIVE, HEATMAPS, THUMBNAILS = "archive", "heatmaps", "thumbnails"
RUN, FAILURES, SUMMARY, REPORT = "run.yaml", "failures.jsonl", "summary.json", "index.html"


@dataclass(frozen=True)
class Summary:
    """What a run did, as summary.json and `--json` give it."""

    out: str
    layout: str
    model: str
    method: str
    done: int  # records in the archive
    failed: int
    failed_by_stage: dict[str, int]
    without_caption: int
    truncated_captions: int  # among the records of this call
    resumed: int  # records that an earlier call had finished
    seconds: float
    complete: bool  # False after an interruption
    report: str = ""
    warnings: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


class FailureLog:
    """failures.jsonl: one line a failed pair, on disk before the next batch; failures are tried again on every call."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[str] = (folder / FAILURES).open("w", encoding="utf-8")
        self.stages: Counter[str] = Counter()
        self.without_caption = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, failures: list[Failure]) -> None:
        """Write and fsync."""
        for failure in failures:
            self._file.write(json.dumps(asdict(failure), ensure_ascii=True) + "\n")
            self.stages[failure.stage] += 1
            self.without_caption += failure.error.startswith("no caption")
        if failures:
            self._file.flush()
            os.fsync(self._file.fileno())


def read_failures(folder: Path) -> list[Failure]:
    """The failures of the last call."""
    lines = (folder / FAILURES).read_text("utf-8").splitlines()
    return [Failure(**json.loads(line)) for line in lines]


@dataclass(frozen=True)
class Layout:
    """What a command's folder is known by, and all that the command writes there."""

    what: str
    marker: str
    ours: tuple[str, ...]
    kept: tuple[str, ...] = ()  # also its own, but never removed

    def owns(self, folder: Path) -> bool:
        """Whether a folder is of this command: its marker, or a lock beside nothing but its own names."""
        if (folder / self.marker).exists():
            return True
        patterns = (*self.ours, *self.kept, ".lock", "*.tmp")
        return (folder / ".lock").exists() and all(
            any(fnmatch(path.name, pattern) for pattern in patterns) for path in folder.iterdir()
        )


EXPLAINED = Layout("run", RUN, (ARCHIVE, HEATMAPS, THUMBNAILS, RUN, FAILURES, SUMMARY, REPORT, "page-*.html"))


def prepare(folder: Path, layout: Layout, *, overwrite: bool) -> None:
    """Make a command's folder; `overwrite` removes what mmel wrote there, and nothing else.

    Raises:
        UsageError: if the folder is a file, or holds other things and nothing of the layout.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not layout.owns(folder):
        raise UsageError(f"--out {folder}: is not empty and holds no mmel {layout.what}; give a new folder")
    if overwrite and folder.is_dir():
        for path in (found for name in layout.ours for found in folder.glob(name)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def write_run(folder: Path, content: dict[str, Any]) -> None:
    """run.yaml, by rename."""
    write_text(folder / RUN, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def write_summary(folder: Path, summary: Summary) -> None:
    """summary.json, by rename."""
    write_text(folder / SUMMARY, json.dumps(summary.plain(), indent=2) + "\n")


def write_gallery(folder: Path, info: RunInfo, summary: Summary) -> Path:
    """index.html and its further pages, from the archive; returns the first page."""
    head = ReportSummary(
        model=info.model,
        method=info.method,
        done=summary.done,
        failed=summary.failed,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        pictures=(folder / HEATMAPS).is_dir(),
    )
    failures = read_failures(folder)
    if not summary.done:
        write_report(folder, [], head, failures)
        return folder / REPORT
    with load_archive(folder) as archive:
        columns = zip(
            archive.column("id"),
            archive.column("caption"),
            archive.column("score"),
            archive.column("truncated"),
            strict=True,
        )
        records = (
            ReportRecord(
                id=str(id_),
                caption=str(caption),
                score=float(score),
                truncated=bool(truncated),
                picture=HEATMAPS / picture_name(str(id_)),
                thumbnail=(THUMBNAILS / picture_name(str(id_))).with_suffix(".jpg"),
            )
            for id_, caption, score, truncated in columns
        )
        write_report(folder, records, head, failures)
    return folder / REPORT


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, "utf-8")
    temporary.rename(path)
