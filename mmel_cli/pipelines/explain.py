"""`mmel explain`: stream pairs, explain them in batches, write heatmaps and archive shards, resume where it stopped."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from mmel_cli.archive.schema import check_fields
from mmel_cli.attribution import find_method
from mmel_cli.config import RunConfig
from mmel_cli.data import Source, open_source
from mmel_cli.errors import UsageError
from mmel_cli.model import BUILTIN, Adapter, LeftOut, fetch_model, find_family, load_model
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.pipelines.batch_size import sized
from mmel_cli.pipelines.ending import Ending
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.lane import Run
from mmel_cli.pipelines.matching import Matched, as_begun
from mmel_cli.pipelines.planning import Job, Rank, entries, join, open_alone
from mmel_cli.pipelines.provenance import notes, run_info
from mmel_cli.pipelines.ranks import explain_by_ranks
from mmel_cli.pipelines.regions import Words
from mmel_cli.pipelines.stream import run_shards
from mmel_cli.runs import EXPLAINED, Events, RunFolder, Stop
from mmel_cli.runs.summary import Summary
from mmel_cli.types import Failure


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
    source_path: Path,
    out: Path,
    config: RunConfig,
    *,
    overwrite: bool = False,
    events: Events | None = None,
    rank: Rank | None = None,
) -> tuple[Summary, int | None]:
    """Explain every pair of `source_path` into the run folder `out`; as a rank, what others leave of them.

    Returns:
        The summary, and the signal that ended the run early (None if it is complete).

    Raises:
        UsageError: wrong input, configuration, or a folder that holds another run.
        ModelError, ArchiveError: see errors.py.
    """
    summaries, stopped = explain_folders(
        source_path, {out: config}, overwrite=overwrite, events=events or Events(), rank=rank
    )
    return summaries[0], stopped


def explain_several(
    source_path: Path,
    out: Path,
    configs: Sequence[RunConfig],
    *,
    overwrite: bool = False,
    events: Events | None = None,
    rank: Rank | None = None,
) -> tuple[dict[str, Summary], int | None]:
    """The same with several methods in one pass: each into a run folder of its own, `out`/METHOD.

    Every folder is what `explain` makes with its configuration alone; images are decoded once, and forwards shared.

    Args:
        source_path: INPUT.
        out: the folder of the run folders.
        configs: alike but for the method (config.load_configs).
        overwrite: start anew in each.
        events: what to tell meanwhile; pairs are counted once, whatever the number of methods.
        rank: as `explain`.

    Returns:
        The summaries by method, and the signal that ended the run early.
    """
    places = dict(zip(folders_of(out, configs), configs, strict=True))
    summaries, stopped = explain_folders(source_path, places, overwrite=overwrite, events=events or Events(), rank=rank)
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


def explain_folders(
    source_path: Path,
    places: Mapping[Path, RunConfig],
    *,
    overwrite: bool,
    events: Events,
    rank: Rank | None = None,
    stop: Stop | None = None,
) -> tuple[list[Summary], int | None]:
    """One pass over the input for all run folders, or what a rank takes of it; by ranks, if the settings say so.

    Args:
        source_path: INPUT.
        places: the run folders with their configurations, alike but for the method.
        overwrite: start anew in each.
        events: what to tell meanwhile.
        rank: which of several processes this is; None: the only one.
        stop: asked after each batch; its own by default.

    Raises:
        UsageError: also for a rank that is to overwrite what the others write.
    """
    if rank is None and next(iter(places.values())).ranks.several:
        return explain_by_ranks(source_path, places, overwrite=overwrite, events=events)
    if rank is not None and overwrite:
        raise UsageError("--overwrite: a rank would remove what the others write; remove the folder first")
    started, stop = time.monotonic(), stop or Stop()
    first = next(iter(places.values()))
    source = open_input(source_path, first)
    events.message(f"Input: {source.layout}")
    number = rank.number if rank else None
    folders = [
        RunFolder(out, EXPLAINED, overwrite=overwrite, rank=number, stop=stop, say=events.message) for out in places
    ]
    for folder in folders:
        folder.check()  # all, before anything is written
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(folder)
        device = _device_of(rank, first.device)
        model = load_model(first.model.name, device, first.dtype, first.model.image_size)
        alone = [folder.join() for folder in folders]
        runs = _runs(folders, list(places.values()), (model, source), events)
        labels = [f"{run.info.method}: " if len(runs) > 1 else "" for run in runs]
        jobs = [
            _job(run, source, rank, events, label) if mine else join(run)
            for run, mine, label in zip(runs, alone, labels, strict=True)
        ]
        _check_alike(runs, jobs)
        whole = run_shards(runs, jobs, source, stop, events, rank)
        ending = Ending(source, events, rank, whole, time.monotonic() - started)
        return ending.write(runs, jobs), stop.signal


def _check_alike(runs: Sequence[Run], jobs: Sequence[Job]) -> None:
    """Several folders are explained in one pass only if their plans are of the same shards.

    Raises:
        UsageError: if other ranks have planned one with another input or another size of shards.
    """
    for run, job in zip(runs, jobs, strict=True):
        if job.plan.shards != jobs[0].plan.shards:
            raise UsageError(
                f"--out {run.folder.path}: other ranks work there with other shards than in {runs[0].folder.path}; "
                "wait for them, or explain the methods one by one"
            )


def _device_of(rank: Rank | None, asked: str) -> str:
    """The device that was asked for; of ranks that see all GPUs of a machine each takes its own."""
    if rank is None or rank.local is None or asked not in ("auto", "cuda") or not torch.cuda.is_available():
        return asked
    return f"cuda:{rank.local % torch.cuda.device_count()}"


def _job(run: Run, source: Source, rank: Rank | None, events: Events, label: str) -> Job:
    """What there is to do in a run folder in which this process is alone."""
    job = open_alone(run, source, rank, events, label)
    run.folder.note(notes(run.engine, run.info, source))  # only now: a run that is refused changes nothing
    run.folder.share()
    return job


def _runs(
    folders: Sequence[RunFolder], configs: Sequence[RunConfig], given: tuple[Adapter, Source], events: Events
) -> list[Run]:
    """The model, loaded once, with each method.

    Raises:
        ArchiveError: for a declared field that has the name of a column.
    """
    model, source = given
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
    runs = [
        Run(folder, config, engine, run_info(engine, config, source))
        for folder, (config, engine) in zip(folders, sized(engines, folders, events.message), strict=True)
    ]
    for run in runs:
        check_fields(run.info.fields, run.info)
    return runs


def open_input(path: Path, config: RunConfig) -> Source:
    """The source of a run, with the settings of the groups `input` and `against`."""
    against = config.against
    return open_source(path, **config.input.model_dump(), against=against.text, against_other=against.other)
