"""What a run ends with: failures, summary, marks and report, written once however many processes worked on it."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import cast

from mmel_cli.data import Source
from mmel_cli.pipelines.lane import Run
from mmel_cli.pipelines.pictures import drawn_as, read_drawn
from mmel_cli.pipelines.planning import Job, Rank
from mmel_cli.pipelines.standing import failures_of, summarised
from mmel_cli.render import ENDINGS, HeatmapOptions
from mmel_cli.report.make import attempted, report_run
from mmel_cli.runs import Events, RunFolder
from mmel_cli.runs.failures import write_failures
from mmel_cli.runs.folder import DRAWN, HEATMAPS
from mmel_cli.runs.leases import Leases
from mmel_cli.runs.shards import FOLDER, read_state, write_state
from mmel_cli.runs.summary import Summary, with_marks, write_summary
from mmel_cli.types import RunInfo

_POLL, _TELL = 0.2, 5.0  # seconds: between looks at who writes the end, until it is said


@dataclass(frozen=True)
class Ending:
    """How a process comes to its end: whether the run is whole, by whomever, and what it took."""

    source: Source
    events: Events
    rank: Rank | None
    whole: bool
    seconds: float

    def write(self, runs: Sequence[Run], jobs: Sequence[Job]) -> list[Summary]:
        """Failures and summaries of all folders first, then what may fail or take long.

        The first process that comes to the end of a run that is whole does it, and another takes over from one that
        dies there. Ranks that were stopped write what is known so far, the last one all of it.
        """
        with ExitStack() as stack:
            in_order = sorted(zip(runs, jobs, strict=True), key=lambda pair: pair[0].folder.path)  # for all ranks alike
            mine = {run.folder.path for run, job in in_order if self._is_mine(stack, run, job)}
            shared = [run.info.method for run in runs] if len(runs) > 1 else []
            summaries = []
            for run, job in zip(runs, jobs, strict=True):
                known = summarised(run, job, self.source, complete=self.whole, seconds=self.seconds)
                summaries.append(replace(known, methods=shared))
                if run.folder.path in mine:
                    write_failures(run.folder.path, failures_of(run, job))
                    if self.whole and run.config.heatmaps:
                        _note_pictures(run)
                    write_summary(run.folder, summaries[-1])
            if self.rank is None or self.whole:
                summaries = [
                    finish(run.folder, run.info, known, self.events, wanted=run.config.report)
                    if run.folder.path in mine
                    else known
                    for run, known in zip(runs, summaries, strict=True)
                ]
            for run, job in zip(runs, jobs, strict=True):
                if run.folder.path in mine and self.whole:
                    write_state(run.folder.path, replace(job.state, ended=True))
        return summaries

    def _is_mine(self, stack: ExitStack, run: Run, job: Job) -> bool:
        """Whether this process writes the end; another one that does is waited for."""
        path, waited = run.folder.path, 0.0
        leases = stack.enter_context(Leases(path / FOLDER, run.config.ranks.lease))
        while True:
            lease, state = leases.claim("end"), read_state(path)
            ended = state is not None and state.ended and state.call == job.state.call
            if self.rank is not None and ended:
                if lease is not None:
                    leases.release(lease)
                return False
            if lease is not None:
                return True
            time.sleep(_POLL)
            waited += _POLL
            if waited - _POLL < _TELL <= waited:
                self.events.message("Waiting for another rank to write summary and report")


def _note_pictures(run: Run) -> None:
    """Note what the pictures look like, now that all are drawn; those of an earlier look in another format go."""
    if read_drawn(run.folder.path) != drawn_as(run.config):
        looks = cast("HeatmapOptions", run.config.heatmap)
        run.folder.remove_pictures(HEATMAPS, but=ENDINGS[looks.format])
        run.folder.write_json(DRAWN, drawn_as(run.config))


def finish(folder: RunFolder, info: RunInfo, summary: Summary, events: Events, *, wanted: bool) -> Summary:
    """Marks and report of a run whose records and summary are written; the summary with both.

    Args:
        folder: of the run.
        info: of the run.
        summary: without marks and report.
        events: told that the report cannot be written, which is no failure of the run.
        wanted: whether there is a report.
    """
    marked = write_summary(folder, with_marks(folder, info, summary))
    if not wanted:
        return marked
    safe = f"all records are safe: mmel report {folder.path} makes it"
    index = attempted(lambda: report_run(folder.path, info, events.message), safe, events.message)
    return write_summary(folder, replace(marked, report=index))
