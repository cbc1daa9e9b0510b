"""`mmel eval`: score saved maps record by record, resume where it stopped, compare runs, write tables and plots."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mmel_cli import __version__
from mmel_cli.archive import Archive, load_archive
from mmel_cli.attribution import find_method
from mmel_cli.config import EvalConfig
from mmel_cli.errors import MmelError, UsageError
from mmel_cli.evaluation import Metric, select
from mmel_cli.evaluation.summary import Columns, join, summarise
from mmel_cli.fields import MAP, TOKEN_MAP
from mmel_cli.model import Adapter, load_model
from mmel_cli.pipelines import scores
from mmel_cli.pipelines.batches import Decoded, Loader, by_image
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.measure import Measurer, Partner, Rivals, partner_pool
from mmel_cli.pipelines.origin import Input, find_input, find_model, find_weights
from mmel_cli.pipelines.plots import draw
from mmel_cli.pipelines.subjects import Stream
from mmel_cli.runs import EVALUATED, Events, RunFolder, Stop, fingerprint, run_identity
from mmel_cli.types import Failure

_PARTNERS = 32  # images that mosaics are filled up from


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; `report` is the content of metrics.json."""

    out: str
    report: dict[str, Any]
    failed: int
    refused: dict[str, dict[str, str]]  # by run, by metric: why
    signal: int | None = None  # that ended it early; the report then covers what was scored

    @property
    def refused_names(self) -> set[str]:
        """Metrics that some run could not give."""
        return {name for reasons in self.refused.values() for name in reasons}


@dataclass(frozen=True)
class _Run:
    """One archive to score."""

    label: str
    path: Path
    archive: Archive


@dataclass
class _Tally:
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)  # by run: where its scores lie


def evaluate(
    paths: Sequence[Path],
    config: EvalConfig,
    out: Path | None = None,
    *,
    overwrite: bool = False,
    events: Events | None = None,
) -> Evaluation:
    """Score the records that all runs have, and compare each run with the first.

    Args:
        paths: run folders, shards or merged files.
        config: see EvalConfig.
        out: where to write; None for the folder `eval` in the first run.
        overwrite: start anew there.
        events: what to tell meanwhile.

    Raises:
        UsageError: wrong settings, runs without a common record, or a folder that holds another evaluation.
        ArchiveError: an archive that cannot be read.
    """
    events = events or Events()
    metrics = select(config.metrics)
    out = out or _beside(paths[0])
    with ExitStack() as stack:
        runs = [
            _Run(label, path, stack.enter_context(load_archive(path)))
            for label, path in zip(_labels(paths), paths, strict=True)
        ]
        wanted = _common(runs, config, events)
        folder = stack.enter_context(RunFolder(out, EVALUATED, overwrite=overwrite))
        texts = _rival_texts(runs[0].archive, config)
        scores.begin(folder, _identity(config, texts, wanted), _content(runs, config))
        events.total(len(wanted) * len(runs))
        tally = _Tally()
        for run in runs:
            if not folder.stop.asked():
                _score(_Job(run, wanted, metrics, texts, config, out, events, folder.stop), tally)
        failed = scores.write_failures(folder, tally.failures)
        report = _report(folder, runs, metrics, config, tally)
    return Evaluation(str(out), report, failed, tally.refused, folder.stop.signal)


@dataclass(frozen=True)
class _Job:
    """One run, with all that scoring it takes."""

    run: _Run
    wanted: frozenset[str]
    metrics: tuple[Metric, ...]
    texts: "_Texts"
    config: EvalConfig
    out: Path
    events: Events
    stop: Stop


@dataclass(frozen=True)
class _Texts:
    """Captions to tell the right one from, and the images of the run that they belong to."""

    texts: tuple[str, ...]
    images: tuple[frozenset[str], ...]


def _score(job: _Job, tally: _Tally) -> None:
    """Score one run: find out what it can give, then batch by batch."""
    run, config = job.run, job.config
    source = find_input(run.path, run.archive.info, config.data)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(config.workers))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        measurer, refused = _prepare(job, source)
        tally.logs[run.label] = _log_path(job.out, run, measurer.wanted)
        log = stack.enter_context(scores.ScoreLog(tally.logs[run.label]))
        if refused:
            tally.refused[run.label] = refused
        for reason in dict.fromkeys(refused.values()):
            names = ", ".join(name for name, why in refused.items() if why == reason)
            job.events.message(f"{run.label}: refused {names}: {reason}")
        stream = _stream(job, source, measurer, pool)
        if len(log.done):
            job.events.message(f"{run.label}: {len(log.done)} records are scored")
            job.events.progress(len(log.done), 0)
        if "quadrant-recognition" in measurer.wanted:
            measurer = measurer.with_partners(_partners(stream))
        failures = tally.failures.setdefault(run.label, [])
        for subjects, unusable in stream.batches(log.done):
            found, unsound = measurer.measure(subjects)
            log.add(found)
            failures += [*unusable, *unsound]
            job.events.progress(len(found), len(unusable) + len(unsound))
            if job.stop.signal is not None:
                break


def _prepare(job: _Job, source: Input) -> tuple[Measurer, dict[str, str]]:
    """Load what the metrics need; those whose need cannot be met are refused with the reason."""
    run, config = job.run, job.config
    needs = frozenset(need for metric in job.metrics for need in metric.needs)
    reasons: dict[str, str] = {}
    model: Adapter | None = None
    engine: Engine | None = None
    if source.gone:
        reasons |= {"images": source.gone, "truth": source.gone}
    elif "truth" in needs and not source.any_truth(job.wanted):
        reasons["truth"] = "the input has no masks and no boxes for these records"
    if "model" in needs and not source.gone:
        job.events.message(f"{run.label}: input {source.shown}")
        model, engine, failed = _load(job)
        reasons |= failed
    if len(job.texts.texts) < 2:
        reasons["captions"] = "there is only one distinct caption; give --captions FILE"
    refused = {m.name: reasons[need] for m in job.metrics for need in sorted(m.needs) if need in reasons}
    rivals = None
    if model is not None and "captions" in needs and "captions" not in reasons:
        rivals = _embed_rivals(model, job.texts)
    wanted = frozenset(metric.name for metric in job.metrics) - frozenset(refused)
    archive = run.archive
    limit = Measurer.tolerance(archive.info.dtype, one_head=engine is not None and engine.request.one_head)
    if model is not None and model.spec.dtype != "float32":
        limit = limit and Measurer.tolerance(model.spec.dtype, one_head=False)
    measurer = Measurer(wanted, config, archive.info.geometry, model, engine, rivals, check_score=limit)
    return measurer, refused


def _load(job: _Job) -> tuple[Adapter | None, Engine | None, dict[str, str]]:
    """The run's model and method, or why not, by need."""
    run, config = job.run, job.config
    info = run.archive.info
    try:
        name = find_model(run.path, info, config.model)
    except UsageError as error:
        return None, None, {"model": str(error)}
    job.events.message(f"{run.label}: model {name}")
    try:
        model = load_model(name, config.device, config.dtype)
    except UsageError:
        raise
    except MmelError as error:
        return None, None, {"model": str(error)}
    if model.spec.sha256 != info.model_sha256:
        was, now = info.model_sha256[:12], model.spec.sha256[:12]
        return None, None, {"model": f"the model changed: SHA-256 of its weights was {was}, is {now}; give --model"}
    try:
        method = find_weights(run.path, info)
        engine = Engine.build(model, find_method(method.name), method.params, config.image.limits)
    except MmelError as error:
        return model, None, {"method": str(error)}
    changed = [name for name, value in engine.described.items() if info.described.get(name, value) != value]
    if changed:
        return model, None, {"method": f"its {changed[0]} changed since the maps were made; explain again"}
    return model, engine, {}


def _stream(job: _Job, source: Input, measurer: Measurer, pool: ThreadPoolExecutor) -> Stream:
    loader = None
    limits = job.config.image.limits
    if measurer.model is not None:
        preprocess = partial(measurer.model.preprocess, geometry=measurer.geometry)
        loader = Loader(pool, limits, preprocess, measurer.keep)
    truth = not source.gone and any("truth" in m.needs and m.name in measurer.wanted for m in job.metrics)
    return Stream(job.run.archive, source, job.wanted, job.config.batch_size, loader, truth, limits, pool)


def _partners(stream: Stream) -> tuple[Partner, ...]:
    """The first images of the input, whatever has been scored, so that a resumed run has the same."""
    assert stream.images is not None  # noqa: S101 - quadrants need images
    samples = list(islice((s for s in stream.source.samples() if s.id in stream.wanted), _PARTNERS * 8))
    names = list(dict.fromkeys(sample.image for sample in samples))[:_PARTNERS]
    samples = [sample for sample in samples if sample.image in names]
    images: dict[str, Decoded] = {}
    for batch in stream.images.batches(by_image(samples, stream.size), ()):
        images |= batch.images
    return partner_pool(samples, images)


def _embed_rivals(model: Adapter, texts: _Texts) -> Rivals:
    parts = [model.embed_texts(model.tokenize(list(texts.texts[i : i + 64]))) for i in range(0, len(texts.texts), 64)]
    return Rivals(texts.texts, texts.images, torch.cat(parts))


def _rival_texts(archive: Archive, config: EvalConfig) -> _Texts:
    """The captions of --captions, else the first distinct captions of the run.

    Raises:
        UsageError: if the file cannot be read or is empty.
    """
    if config.captions is not None:
        try:
            lines = config.captions.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--captions {config.captions}: cannot be read ({error}); give a UTF-8 file") from error
        kept = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if not kept:
            raise UsageError(f"--captions {config.captions}: is empty; give one caption a line")
    else:
        kept = tuple(islice(dict.fromkeys(str(text) for text in archive.column("caption")), config.rivals))
    of: dict[str, set[str]] = {text: set() for text in kept}
    for text, image in zip(archive.column("caption"), archive.column("image"), strict=True):
        if text in of:
            of[text].add(str(image))
    return _Texts(kept, tuple(frozenset(of[text]) for text in kept))


def _labels(paths: Sequence[Path]) -> list[str]:
    """A short name for each run: its folder, with as many parents as it takes to tell them apart.

    Raises:
        UsageError: if a run is given twice.
    """
    places = [path.resolve() for path in paths]
    if len(set(places)) < len(places):
        raise UsageError(
            f"{next(p for p in paths if places.count(p.resolve()) > 1)}: is given twice; name each run once"
        )
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        labels = [
            "/".join(place.with_suffix("" if place.is_file() else place.suffix).parts[-depth:]) for place in places
        ]
        if len(set(labels)) == len(labels):
            return labels
    return [str(place) for place in places]


def _beside(path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"{path}: does not exist; give a run folder or an archive file")
    if not path.is_dir():
        raise UsageError(f"--out is missing: {path} is a file; give a folder for the results")
    return path / "eval"


def _common(runs: list[_Run], config: EvalConfig, events: Events) -> frozenset[str]:
    """The ids that every run has.

    Raises:
        UsageError: if there is none.
    """
    first = runs[0].archive.ids
    common = set(first).intersection(*(run.archive.ids for run in runs[1:]))
    pairs = _pairs(runs[0])
    for run in runs[1:]:
        other = {name for name, pair in _pairs(run).items() if name in common and pair != pairs[name]}
        if other:
            events.message(f"{run.label}: {len(other)} records have another caption or image size than {runs[0].label}")
        common -= other
    if not common:
        raise UsageError(f"{' and '.join(str(run.path) for run in runs)}: have no record in common")
    for run in runs:
        events.message(f"{run.label}: {len(run.archive)} records, {len(common)} in common")
    return frozenset(islice((name for name in first if name in common), config.limit))


def _pairs(run: _Run) -> dict[str, int]:
    """By record id, a hash of what is explained: two datasets may use the same names."""
    columns = (run.archive.column(name) for name in ("id", "image", "caption", "image_size"))
    return {str(name): hash((image, text, *size)) for name, image, text, size in zip(*columns, strict=True)}


def _identity(config: EvalConfig, texts: _Texts, wanted: frozenset[str]) -> dict[str, str]:
    """What all scores depend on; the definitions of metrics go with the version. Runs may come and go."""
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return run_identity(
        config.plain(),
        {
            "version of mmel": __version__,
            "device type": automatic if config.device == "auto" else config.device.split(":")[0],
            "dtype of the model": "float32" if config.dtype == "auto" else config.dtype,
            "captions (SHA-256)": _digest(texts.texts),
            "records (SHA-256)": _digest(sorted(wanted)),
        },
    )


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _described(run: _Run) -> dict[str, Any]:
    info = run.archive.info
    return {"label": run.label, "path": str(run.path.resolve()), "config_sha256": info.config_sha256} | {
        "model": info.model,
        "model_sha256": info.model_sha256,
        "method": info.method,
        "layers": list(info.layers),
        "records": len(run.archive),
        "ids_sha256": _digest(run.archive.ids),
        "maps_sha256": run.archive.digest(*(f.name for f in info.fields if f in (MAP, TOKEN_MAP))),
    }


def _content(runs: list[_Run], config: EvalConfig) -> dict[str, Any]:
    versions = {"mmel": __version__, "torch": version("torch"), "transformers": version("transformers")}
    return {"config": config.plain(), "runs": [_described(run) for run in runs], "versions": versions}


def _log_path(out: Path, run: _Run, metrics: frozenset[str]) -> Path:
    """One log a run and the metrics that it can give: it stays when the run is compared with others later."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in run.path.resolve().name)[-80:]
    described = {key: value for key, value in _described(run).items() if key != "label"}
    return out / scores.SCORES / f"{name}-{fingerprint(described | {'metrics': sorted(metrics)})[:12]}.jsonl"


def _report(
    folder: RunFolder, runs: list[_Run], metrics: tuple[Metric, ...], config: EvalConfig, tally: _Tally
) -> dict[str, Any]:
    """Join what was scored, and write metrics.json, per_record.csv and the plots."""
    columns = {label: Columns.collect(scores.read_scores(log)) for label, log in tally.logs.items()}
    joined = join(columns)
    names = [metric.name for metric in metrics]
    report = _content(runs, config) | summarise(joined, names, config.comparison)
    report |= {"refused": tally.refused, "failed": {run: len(found) for run, found in tally.failures.items()}}
    folder.write_json(scores.METRICS_FILE, report)
    captions = {str(n): str(c) for n, c in zip(*(runs[0].archive.column(k) for k in ("id", "caption")), strict=True)}
    rows = (
        (run.label, captions.get(score.id, ""), score)
        for run in runs
        if run.label in columns
        for score in scores.read_scores(tally.logs[run.label])
    )
    scores.write_table(folder.path / scores.TABLE, rows, names)
    if config.plots and joined:
        draw(folder.path / scores.PLOTS, report, joined)
    return report
