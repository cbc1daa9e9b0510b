"""Whether the parts of the score sum to it."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mmel_cli.evaluation.altered import embed_said
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.metric import Metric, Name, Outcome
from mmel_cli.fields import WORD_MAP, WORD_REST, WORD_SHARE

RESIDUAL = "interaction/residual"
"""The field in which a method of interactions archives how far it is from complete."""


class WordsResidual(Metric):
    """Of --words."""

    names = (
        Name("words-residual", "down", (0, float("inf")),
             "the larger of |sum of words/share - (score - score of no words)| and, over words, |words/share - sum of "
             "words/map - words/rest|, as cosines"),
    )  # fmt: skip
    group = "words"
    source = "this project"
    needs = frozenset({"images", "model", "shares"})

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        images = bench.images(subjects)
        return [_one(bench, subject, image) for subject, image in zip(subjects, images, strict=True)]


def _one(bench: Bench, subject: Subject, image: Tensor) -> Outcome:
    record = subject.record
    share, rest = (record.fields[field.name].astype(np.float64) for field in (WORD_SHARE, WORD_REST))
    if not len(share):
        return Outcome()
    nothing = float(embed_said(bench, subject, [[False] * len(share)])[0] @ image)
    regions = record.fields[WORD_MAP.name].sum((1, 2), dtype=np.float64)
    whole = abs(share.sum() - (record.score - nothing))
    return Outcome({"words-residual": float(max(whole, np.abs(share - regions - rest).max()))})


class InteractionResidual(Metric):
    """As the run archived it."""

    names = (
        Name("interaction-residual", "down", (0, float("inf")),
             "|sum of the interactions of all tokens and positions - what it should sum to|, as the method archived "
             "it, as cosines; words/map holds those of words and patches alone"),
    )  # fmt: skip
    group = "words"
    source = "exCLIP 2025"
    needs = frozenset({"residual"})

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        del bench
        values = [float(np.abs(subject.record.fields[RESIDUAL]).sum()) for subject in subjects]
        return [Outcome({"interaction-residual": value}) for value in values]
