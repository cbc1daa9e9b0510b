"""Does the map of a phrase find what the phrase names? Phrases of the input that have a mask or boxes."""

from collections.abc import Sequence

import numpy as np

from mmel_cli.evaluation import localisation
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.localisation import LocalisationOptions
from mmel_cli.evaluation.metric import PHRASES, Metric, Name, Outcome
from mmel_cli.evaluation.phrases import choice, map_of
from mmel_cli.geometry import Mask, PixelMap, to_pixels


class Phrases(Metric):
    """Mean over the phrases of a record; one whose covered mask is empty, or that the model does not read, is none."""

    names = (
        Name("phrase-pointing", "up", (0, 1),
             "mean over the record's phrases with truth: the part of the highest pixels of the phrase's map (more than "
             "one only in a tie) that lie in its own mask, or within the tolerance"),
        Name("phrase-energy", "up", (0, 1),
             "mean over the same phrases: positive evidence of the phrase's map inside its own mask over all of it; 0 "
             "if there is none"),
        Name("phrase-choice", "up", (0, 1),
             "mean over the same phrases: 1 if, of the objects that the record's phrases name, the phrase's own has "
             "the highest value of its map within it; tied objects share it; undefined with one object",
             "this project"),
    )  # fmt: skip
    group = "words"
    source = "exCLIP 2025, PGA and PGE"
    needs = PHRASES
    settings = ("localisation",)
    by_phrase = True

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        tolerance = bench.option(LocalisationOptions).tolerance
        return [_outcome(laid_phrases(subject), tolerance) for subject in subjects]


def laid_phrases(subject: Subject) -> list[tuple[PixelMap, Mask]]:
    """The map and the mask of each phrase that is scored, at the pixels of the original that the grid covers."""
    record, laid = subject.record, []
    for phrase in subject.phrases:
        values = map_of(record, phrase.start, phrase.end)
        if values is not None:
            pixels, part = to_pixels(values, record.box, record.image_size)
            if phrase.truth[part].any():
                laid.append((pixels, phrase.truth[part]))
    return laid


def _outcome(laid: Sequence[tuple[PixelMap, Mask]], tolerance: float) -> Outcome:
    if not laid:
        return Outcome()
    masks = [mask for _, mask in laid]
    chosen = [value for values, mask in laid if (value := choice(values, mask, masks)) is not None]
    return Outcome({
        "phrase-pointing": float(np.mean([localisation.pointing_game(*one, tolerance) for one in laid])),
        "phrase-energy": float(np.mean([localisation.energy_inside(*one) for one in laid])),
        "phrase-choice": float(np.mean(chosen)) if chosen else None,
    })  # fmt: skip
