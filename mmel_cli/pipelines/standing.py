"""Where a run stands, from the notes on its shards and its archive, whoever worked on it."""

import time
from collections import Counter

from mmel_cli.archive import load_archive
from mmel_cli.archive.writer import shard_files
from mmel_cli.data import Source
from mmel_cli.data.captions import NO_CAPTION
from mmel_cli.pipelines.lane import Run
from mmel_cli.pipelines.planning import Job
from mmel_cli.runs.folder import ARCHIVE
from mmel_cli.runs.shards import read_note
from mmel_cli.runs.summary import Summary
from mmel_cli.types import Failure


def summarised(run: Run, job: Job, source: Source, *, complete: bool, seconds: float) -> Summary:
    """What is known of a run so far, whoever did it."""
    failures, plan = failures_of(run, job), job.plan
    stages = Counter(failure.stage for failure in failures)
    mine = [note for shard in plan.shards if (note := read_note(run.folder.path, shard.name, plan.sha256))]
    archive = run.folder.path / ARCHIVE
    done = 0
    if shard_files(archive):
        with load_archive(archive) as records:
            done = len(records)
    return Summary(
        out=str(run.folder.path),
        layout=source.layout,
        model=run.info.model,
        method=run.info.method,
        done=done,
        failed=stages.total(),
        failed_by_stage=dict(stages),
        without_caption=sum(failure.error.startswith(NO_CAPTION) for failure in failures),
        truncated_captions=sum(note.truncated for note in mine if note.call == job.state.call),
        resumed=job.state.resumed,
        seconds=round(time.time() - job.state.started if run.folder.rank is not None else seconds, 3),
        complete=complete,
        warnings=list(job.warnings),
    )


def failures_of(run: Run, job: Job) -> list[Failure]:
    """In the order of the input."""
    every = (read_note(run.folder.path, shard.name, job.plan.sha256) for shard in job.plan.shards)
    return [failure for note in every if note for failure in note.failures]
