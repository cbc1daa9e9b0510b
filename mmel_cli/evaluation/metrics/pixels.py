"""Insertion, deletion and the area between them, on the cosine and on the probability of the caption."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.metric import CHOICE, MODEL, Metric, Name, Outcome
from mmel_cli.evaluation.ranking import area

_KINDS = ("insertion", "deletion")


class PixelCurves(Metric):
    """On the cosine."""

    names = (
        Name("insertion", "up", (-1, 1), "area under the cosine as the highest pixels come back onto the baseline"),
        Name("deletion", "down", (-1, 1), "area under the cosine as the highest pixels become the baseline"),
        Name("insertion-deletion", "up", (-2, 2),
             "insertion minus deletion, the area between the curves; 0 for a random map",
             "Bluecher et al. 2024, symmetric relevance gain, with this insertion"),
    )  # fmt: skip
    group = "faithfulness"
    source = "Petsiuk et al. 2018, RISE"
    needs = MODEL
    settings = ("faithfulness",)

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        texts = bench.texts(subjects)
        return _outcomes(bench, subjects, "", lambda points: torch.einsum("bpd,bd->bp", points, texts))


class ProbabilityCurves(Metric):
    """On the probability of the caption in a set of captions."""

    names = (
        Name("insertion-probability", "up", (0, 1), "insertion on the probability of the caption in the set"),
        Name("deletion-probability", "down", (0, 1), "deletion on the probability of the caption in the set"),
        Name("insertion-deletion-probability", "up", (-1, 1), "the area between the two on probability"),
    )
    group = "faithfulness"
    source = "Petsiuk et al. 2018, RISE"
    needs = CHOICE
    settings = ("faithfulness", "rivals")

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        return _outcomes(bench, subjects, "-probability", bench.choice(subjects).probability)


def _outcomes(bench: Bench, subjects: Sequence[Subject], end: str, score: Callable[[Tensor], Tensor]) -> list[Outcome]:
    """Areas and curves of both kinds; a curve that is not finite is undefined."""
    outcomes = [Outcome() for _ in subjects]
    embeds = bench.curves(subjects)
    for kind in _KINDS:
        curves = score(getattr(embeds, kind))
        for outcome, curve, under in zip(outcomes, curves.tolist(), area(curves).tolist(), strict=True):
            if under == under:  # noqa: PLR0124 - not NaN
                outcome.values[f"{kind}{end}"] = under
                outcome.curves[f"{kind}{end}"] = curve
    for outcome in outcomes:
        insertion, deletion = (outcome.values.get(f"{kind}{end}") for kind in _KINDS)
        if insertion is not None and deletion is not None:
            outcome.values[f"insertion-deletion{end}"] = insertion - deletion
    return outcomes
