"""`mmel explain`: stream pairs, explain them in batches, write heatmaps and archive shards, resume where it stopped."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, cast

from mmel_cli import __version__
from mmel_cli.archive import ArchiveOptions, ShardWriter, committed_ids, fingerprint, load_archive, lock
from mmel_cli.attribution import find_method
from mmel_cli.config import RunConfig
from mmel_cli.data import Source, open_source
from mmel_cli.errors import UsageError
from mmel_cli.model import Adapter, load_model
from mmel_cli.pipelines import folder
from mmel_cli.pipelines.batches import Loader, by_count
from mmel_cli.pipelines.control import Events, Stop
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.pictures import Painter
from mmel_cli.types import Explanation, Failure, RunInfo, Sample, Trained


@dataclass(frozen=True)
class Plan:
    """What --dry-run says."""

    layout: str
    pairs: int
    failures: int
    without_caption: int
    config: dict[str, Any]


def plan(source_path: Path, config: RunConfig) -> Plan:
    """Read the whole input without decoding an image or loading the model."""
    source = _open(source_path, config)
    pairs = failures = captionless = 0
    for entry in _entries(source, config):
        if isinstance(entry, Failure):
            failures += 1
            captionless += entry.error.startswith("no caption")
        else:
            pairs += 1
    return Plan(source.layout, pairs, failures, captionless, config.plain())


def explain(
    source_path: Path, out: Path, config: RunConfig, *, overwrite: bool = False, events: Events | None = None
) -> tuple[folder.Summary, int | None]:
    """Explain every pair of `source_path` into the run folder `out`.

    Returns:
        The summary, and the signal that ended the run early (None if it is complete).

    Raises:
        UsageError: wrong input, configuration, or a folder that holds another run.
        ModelError, ArchiveError: see errors.py.
    """
    events, stop = events or Events(), Stop()
    started = time.monotonic()
    source = _open(source_path, config)
    events.message(f"Input: {source.layout}")
    with ExitStack() as stack:
        folder.prepare(out, folder.EXPLAINED, overwrite=False)
        stack.enter_context(lock(out))
        folder.prepare(out, folder.EXPLAINED, overwrite=overwrite)
        stack.enter_context(stop.watch())
        model = load_model(config.model, config.device, config.dtype)
        engine = Engine.build(model, find_method(config.method.name), config.method.params, config.image.limits)
        if "weights" in engine.described:
            events.message(f"Weights of {config.method.name}: {engine.described['weights']}")
        identity = config.identity() | {"source": str(source_path.resolve())} | engine.described
        done, damaged = committed_ids(out / folder.ARCHIVE, fingerprint(identity))
        warnings = [f"{name}: damaged, set aside; its records are explained again" for name in damaged]
        info = _info(model, engine, config, identity)
        _check_model(out, info)
        folder.write_run(out, _run_content(engine, info, config, source))
        warnings += _scale_warnings(config, model.spec.grid)
        for warning in warnings:
            events.message(f"Warning: {warning}")
        if len(done):
            events.message(f"Going on: {len(done)} records are done")
        log = stack.enter_context(folder.FailureLog(out))
        run = _Run(out, config, engine, info, log, events, stop)
        tally = run.go(source, done)
    summary = folder.Summary(
        out=str(out),
        layout=source.layout,
        model=info.model,
        method=info.method,
        done=len(done) + tally.explained,
        failed=log.stages.total(),
        failed_by_stage=dict(log.stages),
        without_caption=log.without_caption,
        truncated_captions=tally.truncated,
        resumed=len(done),
        seconds=round(time.monotonic() - started, 3),
        complete=stop.signal is None,
        report=str(out / folder.REPORT),
        warnings=warnings,
    )
    folder.write_gallery(out, info, summary)
    folder.write_summary(out, summary)
    return summary, stop.signal


@dataclass
class _Tally:
    explained: int = 0
    truncated: int = 0


@dataclass(frozen=True)
class _Run:
    """The loop: explain batch k while threads decode k+1 and draw k-1; add a batch once its pictures are on disk."""

    out: Path
    config: RunConfig
    engine: Engine
    info: RunInfo
    log: folder.FailureLog
    events: Events
    stop: Stop

    def go(self, source: Source, done: Any) -> _Tally:
        """Run to the end, or to the end of the batch in which a signal came."""
        config, tally = self.config, _Tally()
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(config.workers))
            writer = stack.enter_context(ShardWriter(self.out / folder.ARCHIVE, self.info, config.archive))
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            counter = threading.Thread(target=self._count, args=(source,), daemon=True)
            counter.start()
            painter = Painter(self.out, config.heatmap, pool) if config.heatmaps else None
            preprocess = partial(self.engine.model.preprocess, geometry=config.image.geometry)
            loader = Loader(pool, config.image.limits, preprocess, painter.keep if painter else {})
            chunks = by_count(_entries(source, config), config.batch_size)
            pending: tuple[list[Explanation], list[Future[None]]] = ([], [])
            for batch in loader.batches(chunks, done):
                explanations, failures = self.engine.explain(batch)
                drawn = painter.start(explanations, batch) if painter else []
                self._keep(writer, pending, tally)
                pending = (explanations, drawn)
                self.log.add([*batch.failures, *failures])
                self.events.progress(len(explanations) + batch.skipped, len(batch.failures) + len(failures))
                if self.stop.signal is not None:
                    break
            self._keep(writer, pending, tally)
        return tally

    def _keep(self, writer: ShardWriter, pending: tuple[list[Explanation], list[Future[None]]], tally: _Tally) -> None:
        """Wait for a batch's pictures, then give its records to the archive."""
        explanations, drawn = pending
        for future in drawn:
            future.result()
        for explanation in explanations:
            writer.add(explanation)
            tally.truncated += explanation.truncated
        tally.explained += len(explanations)

    def _count(self, source: Source) -> None:
        """Tell the total once it is known; a second pass over the names, for the ETA only."""
        count = 0
        for _ in _entries(source, self.config):
            count += 1
            if self.stop.signal is not None:
                return
        self.events.total(count)


def _open(path: Path, config: RunConfig) -> Source:
    return open_source(path, caption=config.input.caption, caption_column=config.input.caption_column)


def _entries(source: Source, config: RunConfig) -> Iterator[Sample | Failure]:
    return islice(iter(source), config.limit)


def _info(model: Adapter, engine: Engine, config: RunConfig, identity: dict[str, Any]) -> RunInfo:
    spec = model.spec
    return RunInfo(
        model=spec.name,
        model_sha256=spec.sha256,
        method=config.method.name,
        layers=engine.request.layers,
        grid=engine.grid,
        patch=spec.patch,
        image_size=spec.image_size,
        geometry=config.image.geometry,
        max_tokens=spec.max_tokens,
        device=spec.device,
        dtype=spec.dtype,
        config=config.plain(),
        config_sha256=fingerprint(identity),
        versions=versions(),
        fields=cast("ArchiveOptions", config.archive).kept(engine.fields),
        gradient=engine.method.gradient,
        trained=cast("Trained", engine.described.get("trained", "untrained")),
        described=engine.described,
    )


def versions() -> dict[str, str]:
    """Of what computed the maps."""
    return {"mmel": __version__} | {name: version(name) for name in ("torch", "transformers")}


def _check_model(out: Path, info: RunInfo) -> None:
    """Refuse to go on with other weights under the same name."""
    if any((out / folder.ARCHIVE).glob("part-*.h5")):
        with load_archive(out) as archive:
            before = archive.info.model_sha256
        if before != info.model_sha256:
            raise UsageError(
                f"--out {out}: holds a run of other weights of {info.model} (SHA-256 {before[:12]}, now "
                f"{info.model_sha256[:12]}); give another folder or --overwrite"
            )


def _scale_warnings(config: RunConfig, grid: tuple[int, int]) -> list[str]:
    """Scales that do not divide the grid are pooled adaptively, and the run says so (METHOD 3)."""
    scales = getattr(config.method.params, "scales", ())
    uneven = [r for r in scales if grid[0] % r or grid[1] % r]
    return [f"scale {r} does not divide the {grid[0]}x{grid[1]} grid: pooled adaptively" for r in uneven]


def _run_content(engine: Engine, info: RunInfo, config: RunConfig, source: Source) -> dict[str, Any]:
    return {
        "config": config.plain(),
        "config_sha256": info.config_sha256,
        "input": source.plain(),
        "model": {
            "name": info.model,
            "sha256": info.model_sha256,
            "device": info.device,
            "dtype": info.dtype,
            "grid": list(info.grid),
            "layers": list(info.layers),
            "image_processor": engine.model.spec.processor,
        },
        "versions": info.versions,
    } | engine.described
