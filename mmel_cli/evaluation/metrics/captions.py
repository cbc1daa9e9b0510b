"""Does the map change with the caption? Against all other captions of the same image in the run."""

from collections.abc import Sequence

import numpy as np

from mmel_cli.evaluation import localisation, sanity
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.metric import TRUTH, Metric, Name, Outcome
from mmel_cli.geometry import covered, to_pixels

_DISJOINT = 0.1  # masks that share more than this part of their union are of the same thing


class CaptionChange(Metric):
    """Mean over the other captions of the image, wherever they stand in the archive."""

    names = (
        Name("caption-change", "up", (0, 2),
             "1 minus the rank correlation with the map of another caption of the same image"),
    )  # fmt: skip
    group = "sanity"
    source = "this project"

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        outcomes = []
        for subject in subjects:
            changes = [1 - sanity.rank_correlation(subject.record.map, other.record.map)
                       for other in _others(bench, subject)]  # fmt: skip
            outcomes.append(Outcome({"caption-change": float(np.mean(changes)) if changes else None}))
        return outcomes


class CaptionContrast(Metric):
    """Mean over the other captions of the image whose mask is elsewhere."""

    names = (
        Name("caption-contrast", "up", (-1, 1),
             "energy in the caption's own mask minus the energy there of the map of another caption of the image "
             "whose mask is elsewhere"),
    )  # fmt: skip
    group = "sanity"
    source = "this project"
    needs = TRUTH

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        outcomes = []
        for subject in subjects:
            all_contrasts = [_contrast(subject, other) for other in _others(bench, subject)]
            contrasts = [value for value in all_contrasts if value is not None]
            outcomes.append(Outcome({"caption-contrast": float(np.mean(contrasts)) if contrasts else None}))
        return outcomes


def _others(bench: Bench, subject: Subject) -> list[Subject]:
    """Records of other captions of the same image whose maps are finite."""
    own = subject.record
    return [
        other
        for other in bench.siblings(own)
        if other.record.caption != own.caption and np.isfinite(other.record.map).all()
    ]


def _contrast(own: Subject, other: Subject) -> float | None:
    """Energy in the own mask minus that of the other caption's map there; None unless the masks are of two things."""
    if own.truth is None or other.truth is None:
        return None
    part = covered(own.record.box, own.record.image_size)
    mask, elsewhere = own.truth[part], other.truth[part]
    if not mask.any() or not elsewhere.any() or (mask & elsewhere).sum() > _DISJOINT * (mask | elsewhere).sum():
        return None
    energies = [
        localisation.energy_inside(to_pixels(s.record.map, s.record.box, s.record.image_size)[0], mask)
        for s in (own, other)
    ]
    return energies[0] - energies[1]
