"""Second-order insertion and deletion: words and patches together, by words x regions."""

from collections.abc import Sequence

import torch

from mmel_cli.evaluation.altered import at_pixels, embed_said, embed_shown
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.both_sides import leaving, left_at, to_patches
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions
from mmel_cli.evaluation.metric import REGIONS, Metric, Name, Outcome
from mmel_cli.evaluation.ranking import area
from mmel_cli.fields import WORD_MAP


class WordCurves(Metric):
    """On the cosine; undefined for a caption without words."""

    names = (
        Name("word-insertion", "up", (-1, 1),
             "area under the cosine as words and patches come back, those last that have least in common with what is "
             "left of the other side by words/map (the order of leaving lowest first, backwards)"),
        Name("word-deletion", "down", (-1, 1),
             "area under the cosine as they leave, those first that have most in common with what is left of the "
             "other side; both sides leave at one pace"),
        Name("word-insertion-deletion", "up", (-2, 2), "the area between the two; 0 on average for random values"),
    )  # fmt: skip
    group = "words"
    source = "this project; first order: Petsiuk et al. 2018, RISE"
    needs = REGIONS
    settings = tuple(f"faithfulness.{name}" for name in ("steps", "baseline", "blur"))

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        return [_one(bench, subject) for subject in subjects]


def _one(bench: Bench, subject: Subject) -> Outcome:
    model, steps = bench.adapter, bench.option(FaithfulnessOptions).steps
    maps = subject.record.fields[WORD_MAP.name]
    if not len(maps):
        return Outcome()
    values = to_patches(maps, model.spec.grid)
    gone = [round(sum(values.shape) * step / steps) for step in range(steps + 1)]
    curves = []
    for highest in (False, True):
        words, patches = left_at(leaving(values, highest=highest), len(maps), gone)
        cells = torch.from_numpy(patches).view(-1, *model.spec.grid)
        images = embed_shown(bench, subject, at_pixels(model, cells))
        curves.append((images * embed_said(bench, subject, words.tolist())).sum(-1))
    insertion, deletion = curves[0].flip(0), curves[1]
    areas = float(area(insertion)), float(area(deletion))
    return Outcome(
        {"word-insertion": areas[0], "word-deletion": areas[1], "word-insertion-deletion": areas[0] - areas[1]},
        {"word-insertion": insertion.tolist(), "word-deletion": deletion.tolist()},
    )
