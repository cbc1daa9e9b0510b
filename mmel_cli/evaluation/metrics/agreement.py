"""Do words x regions say what happens? Phrases left out and objects covered, both at once."""

from collections.abc import Sequence

import numpy as np
import torch

from mmel_cli.evaluation.altered import embed_said, embed_shown
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.metric import MODEL, PHRASES, Metric, Name, Outcome
from mmel_cli.evaluation.phrases import NamedPhrase, map_of
from mmel_cli.evaluation.sanity import rank_correlation
from mmel_cli.geometry import covered, to_grid


class RegionAgreement(Metric):
    """Both numbers of each record, and of those that name two things or more whether they rank alike."""

    names = (
        Name("region-agreement", "up", (-1, 1),
             "rank correlation over all pairs of a phrase and an object of the record of s(x, c) - s(x without the "
             "object, c) - s(x, c without the phrase) + s(x without the object, c without the phrase) with the sum "
             "of the phrase's map inside the object; undefined with fewer than two phrases"),
        Name("region-effect", "neither", (-4, 4), "mean of that difference over the phrases with their own objects"),
        Name("region-mass", "neither", (float("-inf"), float("inf")), "mean of that sum over the same"),
    )  # fmt: skip
    group = "words"
    source = "this project"
    needs = MODEL | PHRASES | {"score"}
    settings = tuple(f"faithfulness.{name}" for name in ("baseline", "blur"))
    by_phrase = True

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        return [_one(bench, subject) for subject in subjects]


def _one(bench: Bench, subject: Subject) -> Outcome:
    record = subject.record
    part = covered(record.box, record.image_size)
    phrases = [phrase for phrase in subject.phrases if phrase.truth[part].any()]
    if not phrases:
        return Outcome()
    effects, masses = _effects(bench, subject, phrases), _masses(subject, phrases)
    return Outcome({
        "region-agreement": rank_correlation(effects, masses) if len(phrases) > 1 else None,
        "region-effect": float(np.diag(effects).mean()),
        "region-mass": float(np.diag(masses).mean()),
    })  # fmt: skip


def _effects(bench: Bench, subject: Subject, phrases: Sequence[NamedPhrase]) -> np.ndarray:
    """The second difference of the cosine, (phrases, objects)."""
    box, size = subject.decoded.pixels.box, bench.adapter.spec.image_size
    objects = [torch.from_numpy(to_grid(phrase.truth, box, size) > 0) for phrase in phrases]
    images = embed_shown(bench, subject, torch.stack([torch.ones(size, dtype=torch.bool), *(~o for o in objects)]))
    words = subject.record.words
    without = [[not (word.start < p.end and p.start < word.end) for word in words] for p in phrases]
    texts = embed_said(bench, subject, [[True] * len(words), *without])
    scores = (texts @ images.T).double().cpu().numpy()  # (whole and without each phrase, whole and without each object)
    return scores[:1, :1] - scores[:1, 1:] - scores[1:, :1] + scores[1:, 1:]


def _masses(subject: Subject, phrases: Sequence[NamedPhrase]) -> np.ndarray:
    """What of each phrase's map lies in each object, (phrases, objects)."""
    box = subject.record.box
    maps = [map_of(subject.record, phrase.start, phrase.end) for phrase in phrases]
    objects = [phrase.truth for phrase in phrases]
    return np.array([
        [float((values.astype(np.float64) * to_grid(mask, box, values.shape)).sum()) for mask in objects]
        for values in maps
        if values is not None
    ])  # fmt: skip
