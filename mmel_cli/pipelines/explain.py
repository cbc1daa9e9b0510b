"""`mmel explain`: stream pairs, explain them in batches, write heatmaps and archive shards, resume where it stopped."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

from mmel_cli.attribution import find_method
from mmel_cli.config import RunConfig
from mmel_cli.data import Source, open_source
from mmel_cli.errors import UsageError
from mmel_cli.model import BUILTIN, LeftOut, fetch_model, find_family, load_model
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.names import count
from mmel_cli.pipelines.batch_size import sized
from mmel_cli.pipelines.batches import Batch, Loader, by_count
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.lane import Lane, Run
from mmel_cli.pipelines.matching import Matched, as_begun
from mmel_cli.pipelines.provenance import notes, run_info
from mmel_cli.pipelines.regions import Words
from mmel_cli.pipelines.sharing import SharedCaptures
from mmel_cli.report.make import attempted, report_run
from mmel_cli.runs import EXPLAINED, Events, RunFolder, Stop, committed_records
from mmel_cli.runs.folder import ARCHIVE
from mmel_cli.runs.summary import Summary, with_marks, write_summary
from mmel_cli.types import Failure, RunInfo, Sample


@dataclass(frozen=True)
class Plan:
    """What --dry-run says."""

    layout: str
    pairs: int
    failures: int
    without_caption: int
    config: dict[str, Any]


def plan(source_path: Path, config: RunConfig) -> Plan:
    """Read the whole input without decoding an image or loading the model; the model must be there, though.

    Raises:
        UsageError, ModelError: for an input that cannot be read, a model that there is not or that is not explained.
    """
    find_family(config.model.name)
    source = open_input(source_path, config)
    pairs = failures = captionless = 0
    for entry in entries(source, config):
        if isinstance(entry, Failure):
            failures += 1
            captionless += entry.error.startswith("no caption")
        else:
            pairs += 1
    return Plan(source.layout, pairs, failures, captionless, config.plain())


def fetch(
    source_path: Path, outs: Sequence[Path], config: RunConfig, say: Callable[[str], None], *, overwrite: bool
) -> None:
    """Download a model of the hub that is not here yet, once input and run folders are as they must be.

    Raises:
        UsageError, ModelError: as `explain`.
    """
    if config.model.name != BUILTIN and not Path(config.model.name).exists():
        open_input(source_path, config)
        for out in outs:
            RunFolder(out, EXPLAINED, overwrite=overwrite).check()
        fetch_model(config.model.name, say)


def explain(
    source_path: Path, out: Path, config: RunConfig, *, overwrite: bool = False, events: Events | None = None
) -> tuple[Summary, int | None]:
    """Explain every pair of `source_path` into the run folder `out`.

    Returns:
        The summary, and the signal that ended the run early (None if it is complete).

    Raises:
        UsageError: wrong input, configuration, or a folder that holds another run.
        ModelError, ArchiveError: see errors.py.
    """
    summaries, stopped = _explain(source_path, {out: config}, overwrite=overwrite, events=events or Events())
    return summaries[0], stopped


def explain_several(
    source_path: Path, out: Path, configs: Sequence[RunConfig], *, overwrite: bool = False, events: Events | None = None
) -> tuple[dict[str, Summary], int | None]:
    """The same with several methods in one pass: each into a run folder of its own, `out`/METHOD.

    Every folder is what `explain` makes with its configuration alone; images are decoded once, and forwards shared.

    Args:
        source_path: INPUT.
        out: the folder of the run folders.
        configs: alike but for the method (config.load_configs).
        overwrite: start anew in each.
        events: what to tell meanwhile; pairs are counted once, whatever the number of methods.

    Returns:
        The summaries by method, and the signal that ended the run early.
    """
    places = dict(zip(folders_of(out, configs), configs, strict=True))
    summaries, stopped = _explain(source_path, places, overwrite=overwrite, events=events or Events())
    return {summary.method: summary for summary in summaries}, stopped


def folders_of(out: Path, configs: Sequence[RunConfig]) -> list[Path]:
    """Where several methods write.

    Raises:
        UsageError: if `out` is a file, or a run folder itself.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; give a folder")
    if (out / EXPLAINED.marker).exists():
        raise UsageError(f"--out {out}: is the run folder of one method; several write OUT/METHOD each, give another")
    return [out / config.method.name for config in configs]


def _explain(
    source_path: Path, places: Mapping[Path, RunConfig], *, overwrite: bool, events: Events
) -> tuple[list[Summary], int | None]:
    """One pass over the input for all run folders."""
    started, stop = time.monotonic(), Stop()
    first = next(iter(places.values()))
    source = open_input(source_path, first)
    events.message(f"Input: {source.layout}")
    folders = [RunFolder(out, EXPLAINED, overwrite=overwrite, stop=stop) for out in places]
    for folder in folders:
        folder.check()  # all, before anything is written
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(folder)
        runs = _runs(folders, list(places.values()), source, events)
        for run in runs:
            run.folder.note(notes(run.engine, run.info, source))
            label = f"{run.info.method}: " if len(runs) > 1 else ""
            for warning in run.warnings:
                events.message(f"{label}Warning: {warning}")
            if len(run.done):
                events.message(f"{label}Going on: {count(len(run.done), 'record')} done")
        lanes = _Pass(runs, source, stop, events).to_the_end()
        seconds = round(time.monotonic() - started, 3)
        shared = [run.info.method for run in runs] if len(runs) > 1 else []
        summaries = [replace(_summary(lane, source, seconds), methods=shared) for lane in lanes]
        for run, done in zip(runs, summaries, strict=True):
            write_summary(run.folder, done)  # of all, before anything that may fail or take long
        whole = [
            finish(run.folder, run.info, done, events, wanted=run.config.report)
            for run, done in zip(runs, summaries, strict=True)
        ]
    return whole, stop.signal


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


def _runs(folders: Sequence[RunFolder], configs: Sequence[RunConfig], source: Source, events: Events) -> list[Run]:
    """The model, loaded once, with each method, and what is done."""
    model = load_model(configs[0].model.name, configs[0].device, configs[0].dtype, configs[0].model.image_size)
    words = cast("WordOptions", configs[0].words)
    left_out = LeftOut(model) if configs[0].word_values else None
    parts = Words.of(model, words) if words.regions else None
    engines: list[tuple[RunConfig, Engine]] = []
    matched = Matched(model, source, left_out)
    for folder, asked in zip(folders, configs, strict=True):
        config = as_begun(asked, folder)
        if config != asked:
            events.message(f"{folder.path}: goes on without what marks are made from, as an older mmel began it")
        method, limits = find_method(config.method.name), config.image.limits
        signs = matched.signs(config, folder)
        engine = Engine.build(model, method, config.method.params, limits, left_out=left_out, words=parts, signs=signs)
        engines.append((config, engine.timed(events.clock)))
        if "weights" in engine.described:
            events.message(f"Weights of {config.method.name}: {engine.described['weights']}")
    runs = []
    for folder, (config, engine) in zip(folders, sized(engines, folders, events.message), strict=True):
        info = run_info(engine, config, source)
        done, damaged = committed_records(folder.path, folder.path / ARCHIVE, info.identity)
        warnings = [f"{name}: damaged, set aside; its records are explained again" for name in damaged]
        runs.append(Run(folder, config, engine, info, done, warnings))
    return runs


def _summary(lane: Lane, source: Source, seconds: float) -> Summary:
    run, failures = lane.run, lane.run.folder.failures
    return Summary(
        out=str(run.folder.path),
        layout=source.layout,
        model=run.info.model,
        method=run.info.method,
        done=len(run.done) + lane.explained,
        failed=failures.stages.total(),
        failed_by_stage=dict(failures.stages),
        without_caption=failures.without_caption,
        truncated_captions=lane.truncated,
        resumed=len(run.done),
        seconds=seconds,
        complete=not run.folder.stop.asked(),
        warnings=run.warnings,
    )


class _DoneInAll:
    """The records that no lane has anything to do for."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes

    def __contains__(self, record_id: object) -> bool:
        return all(lane.passes(record_id) for lane in self._lanes)


@dataclass(frozen=True)
class _Pass:
    """The loop: explain batch k while threads decode k+1 and draw k-1; every run takes every batch."""

    runs: Sequence[Run]
    source: Source
    stop: Stop
    events: Events

    def to_the_end(self) -> list[Lane]:
        """Run to the end, or to the end of the batch in which a signal came."""
        config = self.runs[0].config
        with ExitStack() as stack:
            pool = self.runs[-1].folder.pool(config.workers)  # the folder that is left first
            lanes = [Lane(run, pool, stack, self.events) for run in self.runs]
            threading.Thread(target=self._count, daemon=True).start()
            shared = SharedCaptures() if len(lanes) > 1 else None
            for batch in self._batches(pool, lanes):
                if shared:
                    shared.begin([ask for lane in lanes if lane.lacks(batch) for ask in lane.run.engine.asks])
                failed = set().union(*(lane.take(batch, shared) for lane in lanes))
                passed = len(batch.samples) - len(failed) + batch.skipped
                self.events.progress(passed, len(batch.failures) + len(failed))
                if self.stop.asked():
                    break
            for lane in lanes:
                lane.end()
        return lanes

    def _batches(self, pool: ThreadPoolExecutor, lanes: Sequence[Lane]) -> Iterator[Batch]:
        config, model = self.runs[0].config, self.runs[0].engine.model
        preprocess = partial(model.preprocess, geometry=config.image.geometry)
        loader = Loader(pool, config.image.limits, preprocess, lanes[0].keep, whole=True, clock=self.events.clock)
        return loader.batches(by_count(self._checked(), cast("int", config.batch_size)), _DoneInAll(lanes))

    def _checked(self) -> Iterator[Sample | Failure]:
        """The entries; a record that is done must still stand for the same image and caption."""
        for entry in entries(self.source, self.runs[0].config):
            if isinstance(entry, Sample):
                for run in self.runs:
                    run.done.check(entry)
            yield entry

    def _count(self) -> None:
        """Tell the total once it is known; a second pass over the names, for the ETA only."""
        total = 0
        for _ in entries(self.source, self.runs[0].config):
            total += 1
            if self.stop.asked():
                return
        self.events.total(total)


def open_input(path: Path, config: RunConfig) -> Source:
    """The source of a run, with the settings of the groups `input` and `against`."""
    against = config.against
    return open_source(path, **config.input.model_dump(), against=against.text, against_other=against.other)


def entries(source: Source, config: RunConfig) -> Iterator[Sample | Failure]:
    """What a run reads of its input, in order."""
    return islice(iter(source), config.limit)
