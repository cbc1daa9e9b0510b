"""Whether the report that a run folder has is the one that would be made of it now."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from mmel_cli import __version__
from mmel_cli.report.head import VERSION
from mmel_cli.report.layout import (
    DETAILS,
    EVALUATION_FILE,
    HEAD_FILE,
    MAPS,
    RECORDS,
    details_file,
    maps_file,
    records_file,
)
from mmel_cli.report.page import assets
from mmel_cli.report.run import ReportRun
from mmel_cli.runs.folder import DRAWN, EVAL_FOLDER, METRICS_FILE, PHOTOS, REPORT, TABLE, THUMBNAILS

_LONGEST_HEAD = 1 << 24  # bytes


def made_from(run: ReportRun) -> str:
    """A digest of all that the report of a run folder shows: archive, failures, pictures, evaluation, and the page.

    Files are told by name, size and time; one that was copied makes another report, which is as good.
    """
    folder = run.path
    files = run.archive.files if run.archive is not None else []
    files = [*files, *(folder / EVAL_FOLDER / name for name in (METRICS_FILE, TABLE))]
    content = {
        "mmel": [__version__, VERSION, sha256("".join(assets().values()).encode()).hexdigest()],
        "label": run.label,
        "config": run.info.config,
        "records": len(run.rows),
        "files": [[path.name, *_size_and_time(path)] for path in files],
        "drawn": _text(folder / DRAWN),  # every call writes it
        "failures": [[failure.id, failure.stage, failure.error] for failure in run.failures],
        "failed": run.failed,
        "pictures": [sum(path.is_file() for path in (folder / kind).rglob("*")) for kind in (PHOTOS, THUMBNAILS)],
    }
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()  # ASCII, whatever a name holds


def is_current(run: ReportRun, digest: str) -> bool:
    """Whether the report in a run folder is whole, and made from what `made_from` says."""
    head = _head(run.path / HEAD_FILE)
    if not (run.path / REPORT).is_file() or head.get("made_from") != digest:
        return False
    parts = ((RECORDS, records_file), (MAPS, lambda k: maps_file(0, k)), (DETAILS, lambda k: details_file(0, k)))
    names = {name(k) for records, name in parts for k in range(-(-len(run.rows) // records))} | assets().keys()
    names |= {EVALUATION_FILE} if head.get("metrics") else set()
    return all((run.path / name).is_file() for name in names)


def _head(path: Path) -> dict[str, Any]:
    """The head of a report; empty for what is none."""
    try:
        if path.stat().st_size > _LONGEST_HEAD:
            return {}
        text = path.read_text("utf-8").strip()
        head = json.loads(text.removeprefix("mmel.head(").removesuffix(");"))
    except (OSError, ValueError, RecursionError):
        return {}
    return head if isinstance(head, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return -1, -1
    return about.st_size, about.st_mtime_ns
