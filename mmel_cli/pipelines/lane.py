"""One run folder that a stream of batches is explained into: its method, records, failures, pictures and shards."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from mmel_cli.archive import Archive
from mmel_cli.archive.writer import build, files_of, next_file, write_once
from mmel_cli.config import RunConfig
from mmel_cli.errors import ArchiveError
from mmel_cli.idsets import IdSet
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.pipelines.batches import Batch, Keep
from mmel_cli.pipelines.drawing import Drawing, Drawn
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.pictures import Painter, drawn_as, read_drawn
from mmel_cli.pipelines.sharing import SharedCaptures
from mmel_cli.runs import RunFolder
from mmel_cli.runs.clock import Beside, Clock, Part
from mmel_cli.runs.folder import ARCHIVE
from mmel_cli.runs.leases import Lease, Leases
from mmel_cli.runs.plan import Shard
from mmel_cli.runs.shards import FOLDER, Note, read_note, write_note
from mmel_cli.types import Explanation, Failure, RunInfo

if TYPE_CHECKING:
    from mmel_cli.pipelines.planning import Job


@dataclass(frozen=True)
class Run:
    """One method on one input, and where it goes."""

    folder: RunFolder
    config: RunConfig
    engine: Engine
    info: RunInfo


@dataclass
class _Task:
    """A shard that this process holds: what of it is done, and what is made of it meanwhile."""

    shard: Shard
    lease: Lease
    path: Path  # of the file that its records go to
    done: IdSet
    finished: Archive | None  # the done records, if their pictures are drawn anew
    records: list[Explanation] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def close(self) -> None:
        """Close what is read."""
        if self.finished is not None:
            self.finished.close()


@dataclass(frozen=True)
class _Pending:
    """A batch that waits for its pictures before the archive takes it."""

    task: _Task
    explanations: list[Explanation]
    pictures: list[Drawn]
    last: bool  # of its shard


class Lane:
    """Takes batch after batch of the shards that it claims; a batch enters the archive once its pictures are on disk.

    A batch of which some records are done is explained whole, as it was the first time, so that the others come out
    equal to the bit. As a context manager it commits what it has however the block ends, unless the archive itself
    cannot be written.

    Args:
        run: see Run.
        job: the plan, and where the run stands.
        drawing: what draws.
        clock: where the time goes.
    """

    def __init__(self, run: Run, job: "Job", drawing: Drawing, clock: Clock) -> None:
        self.run, self.job = run, job
        self.finished: set[int] = set()  # shards that are known to be complete
        path, config = run.folder.path, run.config
        (path / ARCHIVE).mkdir(exist_ok=True)
        words = cast("WordOptions", config.words)
        self._clock = clock
        self._painter = Painter(path, config.heatmap, drawing, words.phrase) if config.heatmaps else None
        self._leases = Leases(path / FOLDER, config.ranks.lease)
        self._tasks: dict[int, _Task] = {}
        self._pending: _Pending | None = None
        self._writer = ThreadPoolExecutor(1)  # compresses and writes a shard while the next is explained
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        self._leases.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait()
            if kind is None or not issubclass(kind, ArchiveError):
                for number in list(self._tasks):
                    self._commit(self._tasks.pop(number), complete=False)
        finally:
            self._writer.shutdown()
            self._leases.__exit__(kind, error, trace)

    @property
    def keep(self) -> dict[str, Keep]:
        """What a Loader must keep of each image."""
        return self._painter.keep if self._painter else {}

    @property
    def complete(self) -> bool:
        """Whether every shard of the plan is finished, by whomever."""
        for shard in self.job.plan.shards:
            if shard.number not in self.finished and self._is_complete(shard):
                self.finished.add(shard.number)
        return len(self.finished) == len(self.job.plan.shards)

    def finished_earlier(self, shard: Shard) -> bool:
        """Whether a shard was finished by an earlier call."""
        note = read_note(self.run.folder.path, shard.name, self.job.plan.sha256)
        return note is not None and note.complete and note.call < self.job.state.call

    def claim(self, shard: Shard) -> bool:
        """Take a shard that nobody has finished or holds."""
        if shard.number in self.finished or shard.number in self._tasks or self._is_complete(shard):
            return False
        lease = self._leases.claim(shard.name)
        if lease is None:
            return False
        if self._is_complete(shard):  # in the meantime
            self._leases.release(lease)
            return False
        archive = self.run.folder.path / ARCHIVE
        path, files, done = next_file(archive, shard.name), files_of(archive, shard.name), IdSet()
        with Archive(files) as before:
            for (record,) in before.rows("id"):
                done.add(str(record))
        finished = None
        if self._painter and self._redraws() and (len(done) or self.job.plan.head.before):
            names = [archive / name for name in self.job.plan.head.before]
            finished = Archive(list(dict.fromkeys([*files, *(name for name in names if name.exists())])))
        self._tasks[shard.number] = _Task(shard, lease, path, done, finished)
        return True

    def holds(self, number: int) -> bool:
        """Whether a shard is this process's now."""
        return number in self._tasks

    def passes(self, number: int, record_id: object) -> bool:
        """Whether a batch of such records has nothing for this folder: they are done and their pictures as asked."""
        task = self._tasks.get(number)
        return task is None or (task.finished is None and self._done(task, record_id))

    def lacks(self, number: int, batch: Batch) -> bool:
        """Whether some record of a batch is not done."""
        task = self._tasks[number]
        return any(not self._done(task, sample.id) for sample in batch.samples)

    def take(self, number: int, batch: Batch, shared: SharedCaptures | None, *, last: bool) -> set[str]:
        """Explain a batch, start its pictures, and archive the batch before; the ids of records that failed."""
        task = self._tasks[number]
        explanations, failures = self.run.engine.explain(batch, shared) if self.lacks(number, batch) else ([], [])
        new = [explanation for explanation in explanations if not self._done(task, explanation.id)]
        failures = [failure for failure in failures if not self._done(task, failure.id)]
        finished = task.finished
        shown = new + ([finished[s.id] for s in batch.samples if self._done(task, s.id)] if finished else [])
        with self._clock.part(Part.PICTURES):
            pictures = self._painter.start(shown, batch) if self._painter else []
        self._archive()
        self._pending = _Pending(task, new, pictures, last)
        told = [*(f for f in batch.failures if not (f.stage == "image" and self._done(task, f.id))), *failures]
        task.failures += told
        if self.run.folder.rank is None:  # those of ranks are put together at the end
            self.run.folder.failures.add(told)
        return {failure.id for failure in failures}

    def flush(self) -> None:
        """Archive what is pending, and wait until it is written.

        Raises:
            ArchiveError: if a shard cannot be written.
        """
        self._archive()
        self._wait()

    def _wait(self) -> None:
        """For the shard that is being written: one at a time, so that memory holds no more."""
        writing, self._writing = self._writing, None
        if writing is not None:
            with self._clock.part(Part.ARCHIVE):
                writing.result()

    def _done(self, task: _Task, record_id: object) -> bool:
        return record_id in task.done or record_id in self.job.before

    def _is_complete(self, shard: Shard) -> bool:
        note = read_note(self.run.folder.path, shard.name, self.job.plan.sha256)
        return note is not None and note.complete

    def _archive(self) -> None:
        """Wait for the pending batch's pictures, then give its records to their shard; its last writes it."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        with self._clock.part(Part.PICTURES):
            for picture in pending.pictures:
                picture.result()
        pending.task.records += pending.explanations
        if pending.last:
            self._wait()
            self._writing = self._writer.submit(self._commit, self._tasks.pop(pending.task.shard.number), complete=True)

    def _commit(self, task: _Task, *, complete: bool) -> None:
        """Write a shard and its note, and give it back; what another process has taken over meanwhile is that one's."""
        with self._clock.aside(Beside.ARCHIVE):
            self._write(task, complete=complete)
        self._leases.release(task.lease)

    def _write(self, task: _Task, *, complete: bool) -> None:
        task.close()
        folder, plan = self.run.folder.path, self.job.plan.sha256
        written = task.lease.mine() and (
            not task.records or write_once(task.path, build(task.records, self.run.info, self.run.config.archive))
        )
        if written and (complete or task.records or task.failures):
            cut = sum(record.truncated for record in task.records)
            before = read_note(folder, task.shard.name, plan)
            cut += before.truncated if before and before.call == self.job.state.call else 0
            files = tuple(path.name for path in files_of(folder / ARCHIVE, task.shard.name))
            note = Note(task.shard.number, plan, self.job.state.call, complete, cut, tuple(task.failures), files)
            write_note(folder, task.shard.name, note)

    def _redraws(self) -> bool:
        return read_drawn(self.run.folder.path) != drawn_as(self.run.config)
