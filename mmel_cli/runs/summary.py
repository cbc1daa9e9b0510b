"""What a run did: summary.json, and the gallery made from its archive."""

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mmel_cli.archive import load_archive, words_from
from mmel_cli.archive.schema import WORDS_SPAN, WORDS_TEXT
from mmel_cli.fields import WORD_VALUE
from mmel_cli.render import ReportRecord, ReportSummary, picture_name, write_report
from mmel_cli.runs.failures import read_failures
from mmel_cli.runs.folder import HEATMAPS, REPORT, SUMMARY, THUMBNAILS, RunFolder
from mmel_cli.types import RunInfo

_CARD = ("id", "caption", "score", "truncated")
_CARD_AGAINST = ("against", "against_score")
_CARD_WORDS = (WORDS_TEXT, WORDS_SPAN, WORD_VALUE.name)


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
    seconds: float  # of this call, with all methods that shared it
    complete: bool  # False after an interruption
    remaining: int = 0  # records of a fused archive that were not reached
    report: str = ""
    warnings: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)  # that shared the call, if there were several

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def write_results(folder: RunFolder, info: RunInfo, summary: Summary) -> None:
    """index.html with its further pages, then summary.json."""
    _write_gallery(folder, info, summary)
    folder.write_json(SUMMARY, summary.plain())


def _write_gallery(folder: RunFolder, info: RunInfo, summary: Summary) -> None:
    head = ReportSummary(
        model=info.model,
        method=info.method,
        done=summary.done,
        failed=summary.failed,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        pictures=(folder.path / HEATMAPS).is_dir(),
    )
    failed = read_failures(folder.path)
    if not summary.done:
        write_report(folder.path, [], head, failed)
        return
    with load_archive(folder.path) as archive:
        columns = (*_CARD, *(_CARD_WORDS if info.word_values else ()))
        records = (_card(*row) for row in archive.rows(*columns))
        if info.against:
            rows = archive.rows(*columns, *_CARD_AGAINST)
            records = (replace(_card(*row), against=str(text), against_score=float(s)) for *row, text, s in rows)
        write_report(folder.path, records, replace(head, words=info.word_values, against=info.against), failed)


def _card(  # noqa: PLR0913, PLR0917 - the columns of _CARD and _CARD_WORDS
    record_id: str,
    caption: str,
    score: float,
    truncated: bool,
    texts: np.ndarray | None = None,
    spans: np.ndarray | None = None,
    values: np.ndarray | None = None,
) -> ReportRecord:
    words = () if texts is None or spans is None else words_from(texts, spans)
    return ReportRecord(
        id=str(record_id),
        caption=str(caption),
        score=float(score),
        truncated=bool(truncated),
        picture=PurePosixPath(HEATMAPS) / picture_name(str(record_id)),
        thumbnail=(PurePosixPath(THUMBNAILS) / picture_name(str(record_id))).with_suffix(".jpg"),
        words=words,
        values=None if values is None else values[: len(words)],
    )


__all__ = ["REPORT", "Summary", "write_results"]
