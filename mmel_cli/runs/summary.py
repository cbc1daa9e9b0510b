"""What a run did: summary.json, and the gallery made from its archive."""

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from mmel_cli.archive import load_archive, words_from
from mmel_cli.archive.schema import WORDS_SPAN, WORDS_TEXT
from mmel_cli.fields import PHRASE_SHARE, PHRASE_SPAN, WORD_ERROR, WORD_SHARE, WORD_VALUE
from mmel_cli.render import SHARES, ReportRecord, ReportSummary, parts_of, picture_name, write_report
from mmel_cli.runs.failures import read_failures
from mmel_cli.runs.folder import HEATMAPS, REPORT, SUMMARY, THUMBNAILS, RunFolder
from mmel_cli.trust import of_records, of_run
from mmel_cli.types import RunInfo

_CARD = ("id", "caption", "score", "truncated")
_CARD_AGAINST = ("against", "against_score")
_CARD_WORDS = (WORDS_TEXT, WORDS_SPAN)
_CARD_PARTS = tuple(field.name for field in (PHRASE_SPAN, PHRASE_SHARE, WORD_SHARE, WORD_ERROR))


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
    run_marks: list[str] = field(default_factory=list)  # names of the run's marks (trust.MARKS)
    marks: dict[str, int] = field(default_factory=dict)  # how many records have each mark, by its name

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def write_results(folder: RunFolder, info: RunInfo, summary: Summary) -> Summary:
    """index.html with its further pages, then summary.json; the summary, with what its records are marked with."""
    marked = replace(summary, run_marks=[mark.name for mark in of_run(info)])
    if summary.done:
        with load_archive(folder.path) as archive:
            marked = replace(marked, marks=of_records(archive).counts())
    _write_gallery(folder, info, marked)
    folder.write_json(SUMMARY, marked.plain())
    return marked


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
    own = {field.name for field in info.fields}
    names = _CARD + (_CARD_AGAINST if info.against else ())
    names += _CARD_WORDS if info.word_values or info.word_regions else ()
    names += tuple(name for name in (WORD_VALUE.name, *_CARD_PARTS) if name in own)
    phrase = str((info.config.get("words") or {}).get("phrase", "mean"))
    head = replace(head, words=info.word_values, phrases=info.word_regions, share=SHARES[phrase], against=info.against)
    with load_archive(folder.path) as archive:
        records = (_card(dict(zip(names, row, strict=True)), phrase) for row in archive.rows(*names))
        write_report(folder.path, records, head, failed)


def _card(row: dict[str, Any], phrase: str) -> ReportRecord:
    """From the columns of _CARD, and those of words and phrases that the run has."""
    record_id, caption = str(row["id"]), str(row["caption"])
    words = words_from(row[WORDS_TEXT], row[WORDS_SPAN]) if WORDS_TEXT in row else ()
    values = row.get(WORD_VALUE.name)
    return ReportRecord(
        id=record_id,
        caption=caption,
        score=float(row["score"]),
        truncated=bool(row["truncated"]),
        picture=PurePosixPath(HEATMAPS) / picture_name(record_id),
        thumbnail=(PurePosixPath(THUMBNAILS) / picture_name(record_id)).with_suffix(".jpg"),
        words=words,
        values=None if values is None else values[: len(words)],
        parts=parts_of(caption, words, row, phrase),
        against=str(row["against"]) if "against" in row else None,
        against_score=float(row["against_score"]) if "against_score" in row else None,
    )


__all__ = ["REPORT", "Summary", "write_results"]
