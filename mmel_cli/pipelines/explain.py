"""`mmel explain`: stream pairs, explain them in batches, write heatmaps and archive shards, resume where it stopped."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mmel_cli.archive import Archive, ShardWriter, load_archive
from mmel_cli.attribution import find_method
from mmel_cli.config import RunConfig
from mmel_cli.data import Source, open_source
from mmel_cli.model import BUILTIN, fetch_model, find_family, load_model
from mmel_cli.names import count
from mmel_cli.pipelines.batches import Batch, Loader, by_count
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.pictures import Painter
from mmel_cli.pipelines.provenance import notes, run_info
from mmel_cli.runs import (
    EXPLAINED,
    CommittedRecords,
    Events,
    RunFolder,
    committed_records,
    fingerprint,
    settings,
)
from mmel_cli.runs.folder import ARCHIVE, DRAWN, REPORT
from mmel_cli.runs.summary import Summary, write_results
from mmel_cli.types import Explanation, Failure, RunInfo, Sample


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


def fetch(source_path: Path, out: Path, config: RunConfig, say: Callable[[str], None], *, overwrite: bool) -> None:
    """Download a model of the hub that is not here yet, once input and run folder are as they must be.

    Raises:
        UsageError, ModelError: as `explain`.
    """
    if config.model.name != BUILTIN and not Path(config.model.name).exists():
        open_input(source_path, config)
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
    events, started = events or Events(), time.monotonic()
    source = open_input(source_path, config)
    events.message(f"Input: {source.layout}")
    with RunFolder(out, EXPLAINED, overwrite=overwrite) as folder:
        model = load_model(config.model.name, config.device, config.dtype, config.model.image_size)
        method, limits = find_method(config.method.name), config.image.limits
        engine = Engine.build(model, method, config.method.params, limits, word_values=config.word_values)
        if "weights" in engine.described:
            events.message(f"Weights of {config.method.name}: {engine.described['weights']}")
        info = run_info(engine, config)
        done, damaged = committed_records(out, out / ARCHIVE, info.identity)
        warnings = [f"{name}: damaged, set aside; its records are explained again" for name in damaged]
        folder.note(notes(engine, info, source))
        for warning in warnings:
            events.message(f"Warning: {warning}")
        if len(done):
            events.message(f"Going on: {count(len(done), 'record')} done")
        counts = _Run(folder, config, engine, info, source, done, events).to_the_end()
        summary = Summary(
            out=str(out),
            layout=source.layout,
            model=info.model,
            method=info.method,
            done=len(done) + counts.explained,
            failed=folder.failures.stages.total(),
            failed_by_stage=dict(folder.failures.stages),
            without_caption=folder.failures.without_caption,
            truncated_captions=counts.truncated,
            resumed=len(done),
            seconds=round(time.monotonic() - started, 3),
            complete=not folder.stop.asked(),
            report=str(out / REPORT),
            warnings=warnings,
        )
        write_results(folder, info, summary)
    return summary, folder.stop.signal


@dataclass
class _Counts:
    """Of this call."""

    explained: int = 0
    truncated: int = 0


@dataclass(frozen=True)
class _Pending:
    """A batch that waits for its pictures before the archive takes it."""

    explanations: list[Explanation] = field(default_factory=list)
    pictures: list[Future[None]] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    """The loop: explain batch k while threads decode k+1 and draw k-1; add a batch once its pictures are on disk.

    A batch of which some records are done is explained whole, as it was the first time, so that the others come out
    equal to the bit.
    """

    folder: RunFolder
    config: RunConfig
    engine: Engine
    info: RunInfo
    source: Source
    done: CommittedRecords
    events: Events

    def to_the_end(self) -> _Counts:
        """Run to the end, or to the end of the batch in which a signal came."""
        counts, pending = _Counts(), _Pending()
        with ExitStack() as stack:
            pool = self.folder.pool(self.config.workers)
            finished = self._archive_to_redraw(stack)
            writer = stack.enter_context(ShardWriter(self.folder.path / ARCHIVE, self.info, self.config.archive))
            threading.Thread(target=self._count, daemon=True).start()
            painter = Painter(self.folder.path, self.config.heatmap, pool) if self.config.heatmaps else None
            for batch in self._batches(pool, painter, redraw=finished is not None):
                new, failures = self._explain(batch)
                shown = new + ([finished[s.id] for s in batch.samples if s.id in self.done] if finished else [])
                pictures = painter.start(shown, batch) if painter else []
                _finish(pending, writer, counts)
                pending = _Pending(new, pictures)
                self.folder.failures.add([*batch.failures, *failures])
                passed = len(batch.samples) - len(failures) + batch.skipped
                self.events.progress(passed, len(batch.failures) + len(failures))
                if self.folder.stop.asked():
                    break
            _finish(pending, writer, counts)
        if painter and not self.folder.stop.asked():
            self.folder.write_json(DRAWN, self._drawn)
        return counts

    def _explain(self, batch: Batch) -> tuple[list[Explanation], list[Failure]]:
        """The records of a batch that are not done."""
        if all(sample.id in self.done for sample in batch.samples):
            return [], []
        explanations, failures = self.engine.explain(batch)
        return [e for e in explanations if e.id not in self.done], [f for f in failures if f.id not in self.done]

    def _batches(self, pool: ThreadPoolExecutor, painter: Painter | None, *, redraw: bool) -> Iterator[Batch]:
        preprocess = partial(self.engine.model.preprocess, geometry=self.config.image.geometry)
        loader = Loader(pool, self.config.image.limits, preprocess, painter.keep if painter else {}, whole=True)
        chunks = by_count(self._checked(), self.config.batch_size)
        return loader.batches(chunks, () if redraw else self.done)

    def _checked(self) -> Iterator[Sample | Failure]:
        """The entries; a record that is done must still stand for the same image and caption."""
        for entry in entries(self.source, self.config):
            if isinstance(entry, Sample):
                self.done.check(entry)
            yield entry

    @property
    def _drawn(self) -> dict[str, str]:
        return {"settings_sha256": fingerprint(settings(self.config.plain(), "pictures"))}

    def _archive_to_redraw(self, stack: ExitStack) -> Archive | None:
        """The finished records, if their pictures are missing or of other settings: they are drawn anew.

        The note of what pictures look like goes before the first is drawn and comes back when all are.
        """
        noted = self.folder.path / DRAWN
        if not self.config.heatmaps or not len(self.done):
            if self.config.heatmaps:
                self.folder.write_json(DRAWN, self._drawn)
            return None
        try:
            same = json.loads(noted.read_text("utf-8")) == self._drawn
        except (OSError, ValueError):
            same = False
        if same:
            return None
        noted.unlink(missing_ok=True)
        self.events.message(f"Drawing the pictures of {count(len(self.done), 'finished record')} anew")
        return stack.enter_context(load_archive(self.folder.path))

    def _count(self) -> None:
        """Tell the total once it is known; a second pass over the names, for the ETA only."""
        total = 0
        for _ in entries(self.source, self.config):
            total += 1
            if self.folder.stop.asked():
                return
        self.events.total(total)


def _finish(pending: _Pending, writer: ShardWriter, counts: _Counts) -> None:
    """Wait for a batch's pictures, then give its records to the archive."""
    for picture in pending.pictures:
        picture.result()
    writer.extend(pending.explanations)
    counts.explained += len(pending.explanations)
    counts.truncated += sum(explanation.truncated for explanation in pending.explanations)


def open_input(path: Path, config: RunConfig) -> Source:
    """The source of a run, with the settings of the group `input`."""
    return open_source(path, **config.input.model_dump())


def entries(source: Source, config: RunConfig) -> Iterator[Sample | Failure]:
    """What a run reads of its input, in order."""
    return islice(iter(source), config.limit)
