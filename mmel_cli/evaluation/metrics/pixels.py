"""Insertion, deletion and the area between them: on the cosine, in equal or fine steps, and on the probability.

Where a run explains the difference of two cosines, that is what its curves are of: it lies in -2 to 2.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.faithfulness import EVEN_SETTINGS, FINE_SETTINGS
from mmel_cli.evaluation.metric import CHOICE, MODEL, Metric, Name, Outcome
from mmel_cli.evaluation.ranking import area, log_area

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
    settings = EVEN_SETTINGS

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        texts = bench.explained(subjects)
        return _outcomes(bench, subjects, "", lambda points: torch.einsum("bpd,bd->bp", points, texts))


class FineCurves(Metric):
    """On the cosine at chosen fractions: objects are 5 to 10 % of the pixels, which equal steps pass in one.

    All six numbers are of the same forwards.
    """

    names = (
        Name("insertion-fine", "up", (-1, 1),
             "insertion at 0, 1, 2, 3, 5, 8, 12, 20, 35, 60, 100 % (faithfulness.fractions), area over the fraction"),
        Name("deletion-fine", "down", (-1, 1), "deletion at these fractions, area over the fraction"),
        Name("insertion-deletion-fine", "up", (-2, 2), "the area between the two over the fraction"),
        Name("insertion-log", "up", (-1, 1),
             "insertion at these fractions, area over the logarithm of the fraction from the least above 0 (1 %) to "
             "100 %: each doubling counts alike; 0 %, the same for every map, is left out"),
        Name("deletion-log", "down", (-1, 1), "deletion, area over the logarithm in the same way"),
        Name("insertion-deletion-log", "up", (-2, 2), "the area between the two over the logarithm"),
    )  # fmt: skip
    group = "faithfulness"
    source = "Petsiuk et al. 2018, RISE, with points of this project"
    needs = MODEL
    settings = FINE_SETTINGS

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        outcomes = [Outcome() for _ in subjects]
        embeds, texts = bench.fine_curves(subjects), bench.explained(subjects)
        for kind in _KINDS:
            curves = torch.einsum("bpd,bd->bp", getattr(embeds, kind), texts)
            _add(outcomes, f"{kind}-fine", area(curves, embeds.at), curves)
            _add(outcomes, f"{kind}-log", log_area(curves, embeds.at))
        return _between(outcomes, ("-fine", "-log"))


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
    settings = (*EVEN_SETTINGS, "rivals")

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        return _outcomes(bench, subjects, "-probability", bench.choice(subjects).probability)


def _outcomes(bench: Bench, subjects: Sequence[Subject], end: str, score: Callable[[Tensor], Tensor]) -> list[Outcome]:
    """Areas and curves of both kinds in equal steps."""
    outcomes = [Outcome() for _ in subjects]
    embeds = bench.curves(subjects)
    for kind in _KINDS:
        curves = score(getattr(embeds, kind))
        _add(outcomes, f"{kind}{end}", area(curves), curves)
    return _between(outcomes, (end,))


def _add(outcomes: list[Outcome], name: str, areas: Tensor, curves: Tensor | None = None) -> None:
    """Each record's area, and its curve; one that is not finite is undefined."""
    points: list[list[float]] | list[None] = [None] * len(outcomes) if curves is None else curves.tolist()
    for outcome, curve, under in zip(outcomes, points, areas.tolist(), strict=True):
        if under == under:  # noqa: PLR0124 - not NaN
            outcome.values[name] = under
            if curve is not None:
                outcome.curves[name] = curve


def _between(outcomes: list[Outcome], ends: Sequence[str]) -> list[Outcome]:
    """With the area between the curves, where both are defined."""
    for outcome in outcomes:
        for end in ends:
            insertion, deletion = (outcome.values.get(f"{kind}{end}") for kind in _KINDS)
            if insertion is not None and deletion is not None:
                outcome.values[f"insertion-deletion{end}"] = insertion - deletion
    return outcomes
