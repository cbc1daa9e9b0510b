"""The loop of a process: claim shard after shard, explain their batches while threads decode ahead and draw behind.

`run_shards` is all that a process does of a run, alone or among many, whatever started it: it takes every shard that is
free, takes over those whose process is gone, and returns when all are finished.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from mmel_cli.data import Source
from mmel_cli.pipelines.batches import Loader, by_count
from mmel_cli.pipelines.drawing import Drawing
from mmel_cli.pipelines.lane import Lane, Run
from mmel_cli.pipelines.planning import Cursor, Job, Rank
from mmel_cli.pipelines.sharing import SharedCaptures
from mmel_cli.runs import Events, Stop
from mmel_cli.runs.plan import Shard
from mmel_cli.types import Failure, Sample

_POLL = 0.2  # seconds between looks at shards that others hold


def run_shards(
    runs: Sequence[Run], jobs: Sequence[Job], source: Source, stop: Stop, events: Events, rank: Rank | None = None
) -> bool:
    """Work on the shards of one plan, for every run folder at once, until all are finished or a signal comes.

    Args:
        runs: one a method, of one model and one input.
        jobs: what there is to do in each.
        source: the input.
        stop: asked after each batch.
        events: told of entries as they pass.
        rank: which of several processes this is.

    Returns:
        Whether every shard of every folder is finished.
    """
    with ExitStack() as stack:
        pool = runs[-1].folder.pool(runs[0].config.workers)  # the folder that is left first
        asked = runs[0].config.draw_processes if runs[0].config.heatmaps else 0
        drawing = stack.enter_context(Drawing(pool, asked, events.message, events.clock))
        lanes = [
            stack.enter_context(Lane(run, job, drawing, events.clock)) for run, job in zip(runs, jobs, strict=True)
        ]
        stream = _Stream(lanes, source, pool, stop, events, rank)
        while not stream.over():
            stream.tell_others()
            if not stream.all_that_is_free():
                time.sleep(_POLL)
        stream.tell_others()
        return all(lane.complete for lane in lanes)


class _Stream:
    """Batches of the shards that are free; the next shard is claimed when its first batch is to be decoded."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        source: Source,
        pool: ThreadPoolExecutor,
        stop: Stop,
        events: Events,
        rank: Rank | None,
    ) -> None:
        run = lanes[0].run
        self._lanes, self._stop, self._events, self._rank = lanes, stop, events, rank
        self._plan = lanes[0].job.plan
        self._cursor = Cursor(source, self._plan, run.folder.path)
        self._loader = Loader(
            pool,
            run.config.image.limits,
            partial(run.engine.model.preprocess, geometry=run.config.image.geometry),
            lanes[0].keep,
            whole=True,
            clock=events.clock,
        )
        self._places = deque[tuple[int, bool]]()  # of batches that are on their way: the shard, and whether it ends it
        self._told, self._own = set[int](), set[int]()  # finished before or by others; worked on here
        events.total(self._plan.entries)

    def over(self) -> bool:
        """Whether there is nothing left to do, or a signal came."""
        return self._stop.asked() or all(lane.complete for lane in self._lanes)

    def all_that_is_free(self) -> bool:
        """Explain every shard that nobody holds; whether there was any."""
        shared, some = SharedCaptures() if len(self._lanes) > 1 else None, False
        self._places.clear()
        for batch in self._loader.batches(self._chunks(), self):
            some, (number, last) = True, self._places.popleft()
            takers = [lane for lane in self._lanes if lane.holds(number)]
            if shared:
                shared.begin([ask for lane in takers if lane.lacks(number, batch) for ask in lane.run.engine.asks])
            failed = set().union(*(lane.take(number, batch, shared, last=last) for lane in takers))
            passed = len(batch.samples) - len(failed) + batch.skipped
            self._events.progress(passed, len(batch.failures) + len(failed))
            if self._stop.asked():
                break
        for lane in self._lanes:
            lane.flush()
        return some

    def tell_others(self) -> None:
        """Pass the entries of shards that others have finished."""
        for shard in self._plan.shards:
            self._tell(shard)

    def _tell(self, shard: Shard) -> None:
        """Pass a shard's entries if others have finished it; where one process listens to all ranks, each once."""
        if shard.number in self._told | self._own or any(shard.number not in lane.finished for lane in self._lanes):
            return
        self._told.add(shard.number)
        if self._rank is None or not self._rank.driven:
            mine = True
        else:
            mine = self._rank.number == 0 and all(lane.finished_earlier(shard) for lane in self._lanes)
        if mine:
            self._events.progress(shard.entries, 0)

    def __contains__(self, record_id: object) -> bool:
        """Whether no lane has anything to do for a record of the batch that is begun now."""
        number = self._places[-1][0]
        return all(lane.passes(number, record_id) for lane in self._lanes)

    def _chunks(self) -> Iterator[list[Sample | Failure]]:
        size = self._plan.head.batch_size
        for shard in self._plan.shards:
            if self._stop.asked():
                return
            claimed = [lane.claim(shard) for lane in self._lanes]  # each its own
            if not any(claimed):
                self._tell(shard)
                continue
            self._own.add(shard.number)
            left = shard.entries
            for chunk in by_count(self._cursor.entries(shard), size):
                left -= len(chunk)
                self._places.append((shard.number, not left))
                yield chunk
