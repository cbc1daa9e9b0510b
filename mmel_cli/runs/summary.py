"""What a run did, as summary.json says it."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mmel_cli.archive import load_archive
from mmel_cli.runs.folder import SUMMARY, RunFolder
from mmel_cli.trust import of_records, of_run
from mmel_cli.types import RunInfo


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
    report: str = ""  # index.html; empty if there is none
    warnings: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)  # that shared the call, if there were several
    run_marks: list[str] = field(default_factory=list)  # names of the run's marks (trust.MARKS)
    marks: dict[str, int] = field(default_factory=dict)  # how many records have each mark, by its name

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def write_summary(folder: RunFolder, summary: Summary) -> Summary:
    """summary.json, as far as it is known; the summary as it was given."""
    folder.write_json(SUMMARY, summary.plain())
    return summary


def with_marks(folder: RunFolder, info: RunInfo, summary: Summary) -> Summary:
    """The summary with what the run and its records are marked with."""
    marked = replace(summary, run_marks=[mark.name for mark in of_run(info)])
    if summary.done:
        with load_archive(folder.path) as archive:
            marked = replace(marked, marks=of_records(archive).counts())
    return marked
