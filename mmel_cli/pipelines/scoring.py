"""One run to score: what of it can be had, with which model and method, then batch by batch."""

from collections.abc import Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from mmel_cli.attribution import find_method
from mmel_cli.config import EvalConfig, settings_of, words_of
from mmel_cli.errors import MmelError, UsageError
from mmel_cli.evaluation import METRICS, Metric, named
from mmel_cli.evaluation.bench import Bench
from mmel_cli.evaluation.metrics.residuals import RESIDUAL
from mmel_cli.evaluation.phrases import kind_of
from mmel_cli.fields import PHRASE_MAP, TOKEN_MAP, WORD_MAP, WORD_REST, WORD_SHARE
from mmel_cli.model import Adapter
from mmel_cli.pipelines import provenance, scores
from mmel_cli.pipelines.batches import Loader
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.measure import EngineExplainer, Measured, Measurer, tolerance
from mmel_cli.pipelines.models import Models
from mmel_cli.pipelines.origin import Input, find_input, find_model, find_weights
from mmel_cli.pipelines.regions import Words
from mmel_cli.pipelines.rivals import RivalTexts, find_partners
from mmel_cli.pipelines.subjects import Siblings, Stream
from mmel_cli.runs import Events
from mmel_cli.runs.together import Common, Opened
from mmel_cli.types import RunInfo


class Scorer(Protocol):
    """Scores one run, here (`Scoring`) or in other processes (`rank_scoring`)."""

    def refusals(self) -> dict[str, str]:
        """By number that cannot be had: why. To be asked first."""
        ...

    def batches(self, done: Mapping[str, Container[str]]) -> Iterator[Measured]:
        """Every wanted record that is not done in all metric families, batch by batch, in the order of the input.

        Args:
            done: the records that each family has scored before; the keys are the families to measure.
        """
        ...


@dataclass
class Scoring:
    """One run, with all that scoring it takes; it holds a pool of threads until `stack` is left."""

    run: Opened
    wanted: Common
    names: tuple[str, ...]  # of numbers
    rivals: RivalTexts
    config: EvalConfig
    events: Events
    models: Models
    stack: ExitStack
    share: tuple[int, int] = (0, 1)  # see Stream

    def __post_init__(self) -> None:
        self._source = find_input(self.run.path, self.run.archive.info, self.config.data)
        self._pool = self.stack.enter_context(ThreadPoolExecutor(self.config.workers))
        self.stack.callback(self._pool.shutdown, wait=True, cancel_futures=True)
        self.stack.callback(self.models.leave)
        self._model, self._engine, self._reasons = self._load(self._source)

    def refusals(self) -> dict[str, str]:
        """See Scorer."""
        numbers, reasons = named(), self._reasons
        return {
            name: reasons[need] for name in self.names for need in sorted(numbers[name][0].needs) if need in reasons
        }

    def batches(self, done: Mapping[str, Container[str]]) -> Iterator[Measured]:
        """See Scorer."""
        metrics = {family: METRICS[family] for family in done}
        if self.share[0] == 0:
            self._tell_phrase_maps(metrics)
        bench = self._bench(self._model, self._engine, self._reasons)
        stream = self._stream(self._source, metrics, bench)
        limits = self.config.image.limits
        bench.siblings = Siblings(self.run.archive, self._source, self.wanted, stream.truth, limits, stream.recent)
        bench.find_partners = partial(find_partners, stream)
        measurer = Measurer(metrics, done, bench, self._tolerance(self._model, self._engine))
        for subjects, unusable in stream.batches(scores.DoneInAll(list(done.values()))):
            yield measurer.measure(subjects, unusable)

    def _tell_phrase_maps(self, metrics: Mapping[str, Metric]) -> None:
        """Say it where one map stands for every phrase: a baseline, not what a reader of these numbers expects."""
        fields = {field.name for field in self.run.archive.info.fields}
        asked = [metric for metric in metrics.values() if metric.by_phrase]
        if asked and not fields & {WORD_MAP.name, PHRASE_MAP.name}:
            names = ", ".join(name.name for metric in asked for name in metric.names if name.name in self.names)
            self.events.message(
                f"{self.run.label}: has no maps of words or phrases; in {names} {kind_of(fields, 'mean')}, stands"
            )

    def _load(self, source: Input) -> tuple[Adapter | None, Engine | None, dict[str, str]]:
        """The run's model and method where a metric needs them, and by need why it cannot be met."""
        needs = {need for family in families_of(self.names) for need in METRICS[family].needs}
        reasons: dict[str, str] = {}
        if source.gone:
            reasons |= dict.fromkeys(("images", "truth", "phrases"), source.gone)
        else:
            reasons |= self._no_truth(source, needs)
        info = self.run.archive.info
        reasons |= _not_archived(info)
        if info.against:
            reasons["score"] = "the run explains a difference (--against), and this is of the caption's own score"
        if len(self.rivals.texts) < 2:
            reasons["captions"] = "there is only one distinct caption; give --captions FILE"
        if "model" not in needs or source.gone:
            return None, None, reasons
        self.events.message(f"{self.run.label}: input {source.shown}")
        model, engine, why = self._load_model()
        return model, engine, reasons | why

    def _no_truth(self, source: Input, needs: Container[str]) -> dict[str, str]:
        """By need: why the input does not say where things are."""
        reasons = {}
        if "truth" in needs and not source.any_truth(self.wanted):
            reasons["truth"] = "the input has no masks and no boxes for these records"
        if "phrases" in needs and not source.any_phrases(self.wanted):
            reasons["phrases"] = "the input gives no phrases with masks or boxes for these records"
        return reasons

    def _load_model(self) -> tuple[Adapter | None, Engine | None, dict[str, str]]:
        run, config, info = self.run, self.config, self.run.archive.info
        try:
            name = find_model(run.path, info, config.model)
        except UsageError as error:
            return None, None, {"model": str(error)}
        self.events.message(f"{run.label}: model {name}")
        try:
            model = self.models.load(name, info)
        except UsageError:
            raise
        except MmelError as error:
            return None, None, {"model": str(error)}
        other = provenance.changed(model.spec, info)
        if other:
            return None, None, {"model": f"the model changed: {other}; give --model"}
        try:
            method = find_weights(run.path, info)
            options = words_of(settings_of(info))
            words = Words.of(model, options) if options.regions else None
            engine = Engine.build(model, find_method(method.name), method.params, config.image.limits, words=words)
        except MmelError as error:
            return model, None, {"method": str(error)}
        other = provenance.other_version(engine, info) or next(
            (f"its {name} changed since the maps were made" for name, value in engine.decides.items()
             if info.described.get(name, value) != value), ""
        )  # fmt: skip
        if other:
            return model, None, {"method": f"{other}; explain again"}
        return model, engine, {}

    def _bench(self, model: Adapter | None, engine: Engine | None, reasons: Mapping[str, str]) -> Bench:
        config = self.config
        parts: tuple[Any, ...] = (
            *(config.faithfulness, config.aid, config.localisation, config.sanity),
            config.modalities,
        )
        options = {base: part for part in parts for base in type(part).__mro__[:-1]}
        rivals = self.rivals.embed(model) if model is not None and "captions" not in reasons else None
        return Bench(options, model, EngineExplainer(engine) if engine else None, rivals)

    def _stream(self, source: Input, metrics: Mapping[str, Metric], bench: Bench) -> Stream:
        limits, loader = self.config.image.limits, None
        if bench.model is not None:
            keep = {name: copy for metric in metrics.values() for name, copy in metric.copies(bench).items()}
            preprocess = partial(bench.model.preprocess, geometry=self.run.archive.info.geometry)
            loader = Loader(self._pool, limits, preprocess, keep)
        needs = set() if source.gone else {need for metric in metrics.values() for need in metric.needs}
        truth, phrases = "truth" in needs, "phrases" in needs
        return Stream(
            self.run.archive,
            source,
            self.wanted,
            self.config.batch_size,
            loader,
            truth,
            limits,
            self._pool,
            phrases,
            share=self.share,
        )

    def _tolerance(self, model: Adapter | None, engine: Engine | None) -> float | None:
        limit = tolerance(self.run.archive.info.dtype, one_head=engine is not None and engine.request.one_head)
        if model is not None and model.spec.dtype != "float32":
            limit = limit and tolerance(model.spec.dtype, one_head=False)
        return limit


def families_of(names: Container[str]) -> list[str]:
    """The metric families of numbers."""
    return [family for family, metric in METRICS.items() if any(n.name in names for n in metric.names)]


def _not_archived(info: RunInfo) -> dict[str, str]:
    """By need: why the run has not what it is of."""
    names, reasons = {given.name for given in info.fields}, {}
    if TOKEN_MAP.name not in names:
        reasons["tokens"] = f"{info.method} explains the image alone, so the run has no {TOKEN_MAP.name}"
    for need, fields in (("regions", (WORD_MAP,)), ("shares", (WORD_SHARE, WORD_MAP, WORD_REST))):
        lacking = [field.name for field in fields if field.name not in names]
        if lacking:
            reasons[need] = f"the run has no {', '.join(lacking)}; explain again with --words"
    if RESIDUAL not in names:
        reasons["residual"] = f"{info.method} archives no {RESIDUAL}"
    return reasons
