"""A batch of subjects through the metrics of one run, and its maps made anew for those that ask."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mmel_cli.evaluation import Metric, Outcome
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.summary import Scores
from mmel_cli.fields import MAP, PHRASE_MAP, TOKEN_MAP, WORD_MAP
from mmel_cli.model.exhaustion import in_halves
from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.engine import Engine
from mmel_cli.tensors import Decoded
from mmel_cli.types import Explanation, Failure, Sample

_SAME_SCORE = 0.02  # cosines of another device differ less; most other images, not all, differ more
_SAME_HALF_SCORE = 0.06  # of a run in half precision


def tolerance(dtype: str, *, one_head: bool) -> float | None:
    """How far a cosine may be from that of a run in this dtype; the score of a modified tower cannot be checked."""
    if one_head:
        return None
    return _SAME_SCORE if dtype == "float32" else _SAME_HALF_SCORE


@dataclass(frozen=True)
class EngineExplainer:
    """The run's own method and model (evaluation.bench.Explainer)."""

    engine: Engine  # with words x regions if the run has them

    @property
    def layers(self) -> int:
        """See Explainer."""
        return self.engine.model.spec.layers

    def maps(self, samples: Sequence[Sample], images: Mapping[str, Decoded]) -> dict[str, np.ndarray]:
        """See Explainer."""
        bare = replace(self.engine, regions=None)
        return {record.id: record.map for record in bare.explain(Batch(list(samples), dict(images)))[0]}

    def explanations(self, samples: Sequence[Sample], images: Mapping[str, Decoded]) -> dict[str, Explanation]:
        """See Explainer."""
        return {record.id: record for record in self.engine.explain(Batch(list(samples), dict(images)))[0]}

    def randomised(self, layers: int, seed: int) -> "EngineExplainer":
        """See Explainer."""
        engine = self.engine
        other = Engine.build(engine.model.randomised(layers, seed=seed), engine.method, engine.params, engine.limits)
        return EngineExplainer(other)


@dataclass(frozen=True)
class Measured:
    """Of a batch: the scores by metric family, what failed, and how many records did not."""

    scores: dict[str, list[Scores]]
    failures: list[Failure]
    passed: int

    def plain(self) -> dict[str, Any]:
        """As a JSON object, which keeps every bit."""
        families = {family: [asdict(score) for score in scores] for family, scores in self.scores.items()}
        failures = [[failure.id, failure.stage, failure.error] for failure in self.failures]
        return {"scores": families, "failures": failures, "passed": self.passed}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Measured":
        """What `plain` gave."""
        families = {family: [Scores(**score) for score in scores] for family, scores in plain["scores"].items()}
        return cls(families, [Failure(*said) for said in plain["failures"]], plain["passed"])


@dataclass(frozen=True)
class Measurer:
    """The metrics of one run that can be had, by family, and the records that each has scored before."""

    metrics: Mapping[str, Metric]
    done: Mapping[str, Container[str]]
    bench: Bench
    check_score: float | None  # how far the cosine may be from that of the run; None: any

    def measure(self, subjects: Sequence[Subject], unusable: Sequence[Failure]) -> Measured:
        """Score a batch, of which some are unusable; a map that is not finite has every metric undefined."""
        self.bench.begin()
        finite = {s.record.id for s in subjects if _finite(s)}
        failures = self._other_images([s for s in subjects if s.record.id in finite])
        scores: dict[str, list[Scores]] = {}
        for family, metric in self.metrics.items():
            done, gone = self.done[family], {failure.id for failure in failures}
            todo = [s for s in subjects if s.record.id not in done and s.record.id not in gone]
            outcomes, unsound = self._outcomes(metric, [s for s in todo if s.record.id in finite])
            failures += unsound
            outcomes |= {s.record.id: Outcome() for s in todo if s.record.id not in finite}
            scores[family] = [_scores(metric, s, outcomes[s.record.id]) for s in todo if s.record.id in outcomes]
        return Measured(scores, [*unusable, *failures], len(subjects) - len(failures))

    def _outcomes(self, metric: Metric, subjects: list[Subject]) -> tuple[dict[str, Outcome], list[Failure]]:
        """What a metric finds, by record id; where memory runs out it measures halves."""
        if not subjects:
            return {}, []
        failures: list[Failure] = []

        def work(part: Sequence[Subject]) -> dict[str, Outcome]:
            return dict(zip([s.record.id for s in part], metric.measure(self.bench, part), strict=True))

        def alone(subject: Subject, _error: Exception) -> dict[str, Outcome]:
            failures.append(_too_large(subject, metric.names[0].name))
            return {}

        parts = in_halves(work, subjects, alone)
        return {name: outcome for part in parts for name, outcome in part.items()}, failures

    def _other_images(self, subjects: list[Subject]) -> list[Failure]:
        """Records whose image is another one than was explained, by the cosine that it has now."""
        if self.bench.model is None or self.check_score is None or not subjects:
            return []

        def alone(subject: Subject, _error: Exception) -> list[Failure]:
            return [_too_large(subject, "embedding its image")]

        return [failure for part in in_halves(self._check_scores, subjects, alone) for failure in part]

    def _check_scores(self, subjects: Sequence[Subject]) -> list[Failure]:
        cosines = (self.bench.images(subjects) * self.bench.texts(subjects)).sum(-1).tolist()
        return [
            Failure(
                s.record.id, "image", f"cosine is {now:.3f} now, {s.record.score:.3f} when explained: another image"
            )
            for s, now in zip(subjects, cosines, strict=True)
            if self.check_score is not None and not abs(now - s.record.score) <= self.check_score
        ]


def _too_large(subject: Subject, what: str) -> Failure:
    reason = f"{what} exhausts the device's memory on this record alone; try another --device"
    return Failure(subject.record.id, "model", reason)


def _finite(subject: Subject) -> bool:
    record = subject.record
    read = [
        record.fields[field.name] for field in (MAP, TOKEN_MAP, WORD_MAP, PHRASE_MAP) if field.name in record.fields
    ]
    return all(bool(np.isfinite(values).all()) for values in read)


def _scores(metric: Metric, subject: Subject, outcome: Outcome) -> Scores:
    values = {name.name: outcome.values.get(name.name) for name in metric.names}
    record = subject.record
    return Scores(record.id, record.image, values, outcome.size, outcome.curves, outcome.layers, outcome.draws)
