"""`mmel eval`: score saved maps record by record, resume where it stopped, compare runs, write tables and plots."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmel_cli import __version__
from mmel_cli.archive import load_archive
from mmel_cli.config import EvalConfig, words_of
from mmel_cli.errors import UsageError
from mmel_cli.evaluation import METRICS, named, select
from mmel_cli.evaluation.phrases import kind_of
from mmel_cli.evaluation.summary import Columns, join, summarise
from mmel_cli.pipelines import scores
from mmel_cli.pipelines.models import Models
from mmel_cli.pipelines.plots import draw
from mmel_cli.pipelines.provenance import versions
from mmel_cli.pipelines.rank_scoring import ScoringRanks
from mmel_cli.pipelines.rivals import RivalTexts
from mmel_cli.pipelines.scoring import Scoring
from mmel_cli.pipelines.tally import Tally
from mmel_cli.report.make import attempted, report_evaluation
from mmel_cli.runs import EVALUATED, Events, RunFolder, settings
from mmel_cli.runs.digests import lines_sha256
from mmel_cli.runs.folder import EVAL_FOLDER
from mmel_cli.runs.together import Common, Opened, common_records, labels_of
from mmel_cli.types import RunInfo


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; `report` is the content of metrics.json."""

    out: str
    report: dict[str, Any]
    failed: int
    refused: dict[str, dict[str, str]]  # by run, by metric: why
    signal: int | None = None  # that ended it early; the report then covers what was scored
    page: str = ""  # index.html, if it is wanted

    @property
    def refused_names(self) -> set[str]:
        """Metrics that some run could not give."""
        return {name for reasons in self.refused.values() for name in reasons}


def evaluate(
    paths: Sequence[Path],
    config: EvalConfig,
    out: Path | None = None,
    *,
    overwrite: bool = False,
    events: Events | None = None,
) -> Evaluation:
    """Score the records that all runs have, and compare each run with the first.

    An earlier evaluation in the same folder, of the same records, is added to: the report has its metrics too.

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
    events, names = events or Events(), select(config.metrics)
    out = out or _beside(paths[0])
    with ExitStack() as stack:
        runs = [
            Opened(label, path, stack.enter_context(load_archive(path)))
            for label, path in zip(labels_of(paths), paths, strict=True)
        ]
        wanted = common_records(runs, config.limit, events.message)
        folder = stack.enter_context(RunFolder(out, EVALUATED, overwrite=overwrite))
        rivals = RivalTexts.of(runs[0].archive, config)
        identity = _identity(config, rivals, wanted, names).join(folder)
        content = _content(runs, config)
        folder.note(identity.plain() | content)
        _tell_kinds(content["runs"], names, events)
        events.total(len(wanted) * len(runs))
        with scores.Failures(folder.path) as failures:
            tally = Tally(folder, failures, names, events)
            _score(runs, wanted, names, rivals, config, tally)
        report = _report(folder, runs, wanted, identity, config, tally)
        page = _page(out, runs, wanted, events) if config.report else ""
    return Evaluation(str(out), report, sum(failures.counts.values()), tally.refused, folder.stop.signal, page)


def _score(
    runs: Sequence[Opened],
    wanted: Common,
    names: tuple[str, ...],
    rivals: RivalTexts,
    config: EvalConfig,
    tally: Tally,
) -> None:
    """Every run, here or by the ranks that the configuration asks for, until a signal comes."""
    with ExitStack() as stack:
        ranks = stack.enter_context(ScoringRanks(runs, names, config, tally.events)) if config.ranks.several else None
        models = Models(config, [(run.path, run.archive.info) for run in runs])
        for run in runs:
            if tally.folder.stop.asked():
                break
            with ExitStack() as own:
                if ranks is not None:
                    tally.take(run, ranks.of(run, wanted, tally.folder.path))
                else:
                    tally.take(run, Scoring(run, wanted, names, rivals, config, tally.events, models, own))


def _page(out: Path, runs: Sequence[Opened], wanted: Common, events: Events) -> str:
    """index.html, "" if it cannot be written, which is no failure of the evaluation."""
    safe = "all scores are safe: the same command makes it"
    return attempted(lambda: report_evaluation(out, runs, wanted, events.message), safe, events.message)


def _beside(path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"{path}: does not exist; give a run folder or an archive file")
    if not path.is_dir():
        raise UsageError(f"--out is missing: {path} is a file; give a folder for the results")
    return path / EVAL_FOLDER


def _identity(config: EvalConfig, rivals: RivalTexts, wanted: Common, names: tuple[str, ...]) -> scores.Identity:
    """What scores depend on; the definitions of metrics go with the version. Runs may come and go."""
    records = f"{len(wanted)} of SHA-256 {wanted.sha256()[:12]}"
    common = {"version of mmel": __version__, "records": records}
    numbers = settings(config.plain(), "numbers")
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    place = {
        "device type": automatic if config.device == "auto" else config.device.split(":")[0],
        "dtype of the model": "float32" if config.dtype == "auto" else config.dtype,
    }
    families = {}
    for family, metric in METRICS.items():
        if any(name.name in names for name in metric.names):
            own = {
                key: value
                for key, value in numbers.items()
                if any(key == group or key.startswith(f"{group}.") for group in metric.settings)
            }
            own |= place if "model" in metric.needs else {}
            own |= {"captions (SHA-256)": lines_sha256(rivals.texts)} if "captions" in metric.needs else {}
            families[family] = own
    return scores.Identity(common, families, names)


def _content(runs: list[Opened], config: EvalConfig) -> dict[str, Any]:
    described = [
        {"label": run.label} | scores.describe(run) | {"map of a phrase": _map_of_a_phrase(run.archive.info)}
        for run in runs
    ]
    return {"config": config.plain(), "runs": described, "versions": versions()}


def _tell_kinds(runs: list[dict[str, Any]], names: tuple[str, ...], events: Events) -> None:
    """Say it where not the same stands for the map of a phrase in all runs, and metrics of phrases compare it."""
    kinds = {run["label"]: run["map of a phrase"] for run in runs}
    if len(set(kinds.values())) > 1 and any(named()[name][0].by_phrase for name in names):
        events.message("The map of a phrase is " + "; ".join(f"of {label} {kind}" for label, kind in kinds.items()))


def _map_of_a_phrase(info: RunInfo) -> str:
    return kind_of((field.name for field in info.fields), words_of(info.config).phrase)


def _report(
    folder: RunFolder,
    runs: list[Opened],
    wanted: Common,
    identity: scores.Identity,
    config: EvalConfig,
    tally: Tally,
) -> dict[str, Any]:
    """Join what was scored, now and before, and write metrics.json, per_record.csv and the plots."""
    archive, numbers = runs[0].archive, wanted.numbers[0]
    columns = {run.label: _columns(folder, run, wanted, identity) for run in runs}
    scores.write_table(folder.path / scores.TABLE, columns, archive, numbers, identity.names)
    joined = join(columns)
    images = scores.images_of(archive, numbers[joined[runs[0].label].numbers])
    report = _content(runs, config) | summarise(joined, images, list(identity.names), config.comparison)
    report["curves_at"] = _fine_points(identity)
    report |= {"refused": tally.refused, "failed": dict(tally.failures.counts)}
    folder.write_json(scores.METRICS_FILE, report)
    if config.plots and joined:
        draw(folder.path / scores.PLOTS, report, joined)
    return report


def _fine_points(identity: scores.Identity) -> dict[str, list[float]]:
    """Where the points of the fine curves lie, from 0 to 1, as they were scored; the others' lie in equal steps."""
    noted = identity.families.get("fine-curves", {}).get("faithfulness.fractions")
    return {f"{kind}-fine": json.loads(noted) for kind in ("insertion", "deletion")} if noted else {}


def _columns(folder: RunFolder, run: Opened, wanted: Common, identity: scores.Identity) -> Columns:
    """Everything in the logs of one run, the numbers that are reported."""
    paths = [scores.log_path(folder.path, run, family) for family in METRICS if family in identity.families]
    logged = (score for path in paths if path.exists() for score in scores.read_scores(path))
    return Columns.collect(logged, wanted.index).only(identity.names)
