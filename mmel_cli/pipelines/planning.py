"""The plan of a run: made, or found again, by the process that is alone in its folder; others join."""

import json
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import cast

from mmel_cli.archive import load_archive
from mmel_cli.archive.writer import shard_files
from mmel_cli.config import RunConfig
from mmel_cli.data import Source
from mmel_cli.errors import UsageError
from mmel_cli.idsets import IdSet
from mmel_cli.names import count
from mmel_cli.pipelines.lane import Run
from mmel_cli.pipelines.pictures import PICTURES, drawn_as, read_drawn
from mmel_cli.runs import CommittedRecords, Events, committed_records, differences, fingerprint, settings
from mmel_cli.runs import shards as notes
from mmel_cli.runs.folder import ARCHIVE, DRAWN, HALF_FILES, THUMBNAILS
from mmel_cli.runs.leases import ENDING
from mmel_cli.runs.plan import PLAN, Head, Plan, Shard, digest, read_plan, shard_entries, unfinished, write_plan
from mmel_cli.types import Failure, Sample


@dataclass(frozen=True)
class Rank:
    """One process among several that explain into one folder; its number decides no record."""

    number: int
    of: int
    job: str | None = None  # what tells the processes of one start from those of another; None: not known
    driven: bool = False  # whether what it says goes to a process that listens to all ranks
    began: float | None = None  # when the one that listens began, seconds since 1970
    local: int | None = None  # its number among those of this machine, where they share its GPUs by number

    def begins(self, state: notes.State) -> bool:
        """Whether failures of a run that has ended are tried again, as by every new call."""
        return self.number == 0 if self.job is None else self.job != state.job


@dataclass(frozen=True)
class Job:
    """What there is to do in a run folder, and what was done before the plan."""

    plan: Plan
    state: notes.State
    before: IdSet
    warnings: tuple[str, ...] = ()


def head_of(run: Run, before: tuple[str, ...] = ()) -> Head:
    """What a run's plan is made from."""
    config = run.config
    batch_size = cast("int", config.batch_size)  # `sized` has seen to auto
    size = shard_entries(config.archive.shard_size, batch_size)  # type: ignore[attr-defined] # pydantic's class
    pictures = fingerprint(settings(config.plain(), "pictures"))
    return Head(run.info.config_sha256, batch_size, size, config.limit, pictures, before)


def open_alone(run: Run, source: Source, rank: Rank | None, events: Events, label: str = "") -> Job:
    """Check what a folder holds, make its plan or find that it still holds, and see which shards are open.

    Raises:
        UsageError: if the folder holds another run, or a finished record stands for something else in the input now.
        ArchiveError: if a shard cannot be opened.
    """
    folder, archive = run.folder.path, run.folder.path / ARCHIVE
    _clear(run)
    done, damaged = committed_records(folder, archive, run.info.identity)
    warnings = tuple(f"{name}: damaged, set aside; its records are explained again" for name in damaged)
    for warning in warnings:
        events.message(f"{label}Warning: {warning}")
    if len(done):
        events.message(f"{label}Going on: {count(len(done), 'record')} done")
    was, files = read_plan(folder / PLAN), tuple(path.name for path in shard_files(archive))
    temporary = unfinished(folder / PLAN)
    plan = write_plan(temporary, head_of(run, files), checked_parts(source, done))
    same = was is not None and was.sha256 == plan.sha256 and set(was.head.before) <= set(files)
    if same and was is not None:
        plan = replace(plan, head=replace(plan.head, before=was.head.before))
        _replace_head(temporary, plan)
    redraw = run.config.heatmaps and _redraw(run, len(done), events)
    if not same or redraw or notes.read_state(folder) is None:
        notes.drop_all_notes(folder)
    temporary.rename(folder / PLAN)
    if rank is not None and len(plan.shards) < rank.of and len(done) < plan.entries:
        events.message(
            f"{label}{count(len(plan.shards), 'shard')} for {rank.of} ranks; a smaller archive.shard_size makes more"
        )
    return Job(plan, _begun(folder, plan, rank, len(done), files), _before(archive, plan), warnings)


def _clear(run: Run) -> None:
    """Take away what processes that are gone have left: this one is alone."""
    folder = run.folder.path
    for pattern in (f"{ARCHIVE}/part-*.tmp", f"{notes.FOLDER}/*.tmp", f"{notes.FOLDER}/*{ENDING}*", *HALF_FILES):
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)
    run.folder.remove_half_pictures()


def _begun(folder: Path, plan: Plan, rank: Rank | None, done: int, files: Sequence[str]) -> notes.State:
    """Where the run stands as this process begins: shards whose files are gone, or whose failures count anew, are open.

    A call tries again what failed; ranks that work together are one call.
    """
    state = notes.read_state(folder)
    another = rank is None or state is None or (rank.begins(state) and (state.ended or rank.job is not None))
    noted = [(shard.name, notes.read_note(folder, shard.name, plan.sha256)) for shard in plan.shards]
    known = frozenset(files)
    notes.drop_notes(
        folder, [name for name, note in noted if note and (not note.holds(known) or (another and note.failures))]
    )
    same = state is not None and state.plan == plan.sha256
    if state is None or not same or rank is None or not state.ended or rank.begins(state):
        call, job = (state.call if state else 0) + 1, rank.job if rank else None
        began = rank.began if rank and rank.began else time.time()
        state = notes.State(plan.sha256, call, job, done, began)
        notes.write_state(folder, state)
    return state


def join(run: Run) -> Job:
    """The plan that another process of the run has made.

    Raises:
        UsageError: if there is none, or settings are not those that it was made with.
    """
    folder = run.folder.path
    plan, state = read_plan(folder / PLAN), notes.read_state(folder)
    if plan is None or state is None:
        raise UsageError(f"--out {folder}: other ranks work there, but it has no {PLAN}; run the same command again")
    differ = differences(run.folder.notes().get("identity", {}), run.info.identity)
    differ += plan.head.differences(head_of(run))
    if differ:
        raise UsageError(f"--out {folder}: other ranks work there with other settings: {'; '.join(differ)}")
    return Job(plan, state, _before(folder / ARCHIVE, plan))


def entries(source: Source, config: RunConfig) -> Iterator[Sample | Failure]:
    """What a run reads of its input, in order."""
    return islice(iter(source), config.limit)


class Cursor:
    """The entries of shards, as they are asked for: a pass over the input that skips parts, begun anew to go back."""

    def __init__(self, source: Source, plan: Plan, out: Path) -> None:
        self._source, self._plan, self._out = source, plan, out
        self._stream: Iterator[Sample | Failure] = iter(())
        self._at: int | None = None

    def entries(self, shard: Shard) -> list[Sample | Failure]:
        """Those of one shard.

        Raises:
            UsageError: if they are not what the plan was made from.
        """
        part = max(bisect_right(self._plan.parts, shard.first) - 1, 0)
        begin = self._plan.parts[part]
        if self._at is None or not begin <= self._at <= shard.first:
            self._stream = chain.from_iterable(read() for read in self._source.parts[part:])
            self._at = begin
        own = list(islice(self._stream, shard.first - self._at, shard.first - self._at + shard.entries))
        self._at = shard.first + shard.entries
        if digest(own) != shard.sha256:
            raise UsageError(
                f"--out {self._out}: entries {shard.first + 1} to {self._at} of INPUT are not those that the run was "
                "planned with; run the same command again once all ranks have ended"
            )
        return own


def checked_parts(source: Source, done: CommittedRecords) -> Iterator[Iterator[Sample | Failure]]:
    """The parts of an input; a record that is done must still stand for the same image and caption."""
    return (_checked(read(), done) for read in source.parts)


def _checked(stream: Iterable[Sample | Failure], done: CommittedRecords) -> Iterator[Sample | Failure]:
    for entry in stream:
        if isinstance(entry, Sample):
            done.check(entry)
        yield entry


def _replace_head(path: Path, plan: Plan) -> None:
    """Write a plan's first line anew."""
    lines = path.read_text("utf-8").splitlines()
    first = json.loads(lines[0]) | {"before": list(plan.head.before)}
    path.write_text("\n".join([json.dumps(first), *lines[1:], ""]), "utf-8")


def _before(archive: Path, plan: Plan) -> IdSet:
    """The records of files that the plan did not make."""
    ids = IdSet()
    for name in plan.head.before:
        with suppress(FileNotFoundError), load_archive(archive / name) as before:
            for (record,) in before.rows("id"):
                ids.add(str(record))
    return ids


def _redraw(run: Run, done: int, events: Events) -> bool:
    """Whether the pictures of finished records are missing or of other settings.

    The note of what pictures look like goes before the first is drawn anew and comes back when all are.
    """
    before, now = read_drawn(run.folder.path), drawn_as(run.config)
    if before == now:
        return False
    if not done:
        run.folder.write_json(DRAWN, now)
        return False
    (run.folder.path / DRAWN).unlink(missing_ok=True)
    if before and before.get("pictures") != PICTURES:
        run.folder.remove_pictures(THUMBNAILS)  # of records: those of images have other names
    events.message(f"Drawing the pictures of {count(done, 'finished record')} anew")
    return True
