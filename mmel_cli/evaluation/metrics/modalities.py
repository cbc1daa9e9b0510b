"""How much of the score is the image's, and how much both sides' together: of the model and the pair, not of a map."""

from collections.abc import Sequence

import numpy as np
import torch

from mmel_cli.data.paths import record_seed
from mmel_cli.evaluation.altered import at_pixels, embed_said, embed_shown
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.metric import MODEL, Metric, Name, Outcome
from mmel_cli.evaluation.modalities import Members, ModalityOptions, interaction_share, permutations, shapley, share


class ImageShare(Metric):
    """Undefined for a caption without words."""

    names = (
        Name("image-share", "neither", (0, 1),
             "magnitudes of the Shapley values of the image's regions over those of regions and words together, of "
             "the cosine, by permutations; regions become the mean colour, words are left out",
             "Parcalabescu and Frank 2023, MM-SHAP"),
    )  # fmt: skip
    group = "words"
    source = "one a name"
    needs = MODEL | {"score"}
    settings = ("modalities",)

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        return [self._one(bench, subject) for subject in subjects]

    def _one(self, bench: Bench, subject: Subject) -> Outcome:
        options, words = bench.option(ModalityOptions), len(subject.record.words)
        if not words:
            return Outcome()
        regions = _regions(bench.adapter.spec.grid, options.regions)
        first = int(regions.max()) + 1
        rng = np.random.default_rng([options.seed, record_seed(subject.record.id)])

        def worth(parts: Members, said: Members) -> np.ndarray:
            images, image = np.unique(parts, axis=0, return_inverse=True)
            texts, text = np.unique(said, axis=0, return_inverse=True)
            return _scores(bench, subject, images[:, regions], texts)[image.ravel(), text.ravel()]

        values = shapley(permutations(first + words, options.permutations, rng), first, worth)
        return Outcome({"image-share": share(values[:first], values[first:])})


class InteractionShare(Metric):
    """From four scores."""

    names = (
        Name("interaction-share", "neither", (0, 1),
             "|s(x, c) - s(x, nothing) - s(nothing, c) + s(nothing, nothing)| over the sum of it, |s(x, nothing) - "
             "s(nothing, nothing)| and |s(nothing, c) - s(nothing, nothing)|; no image is the mean colour, no caption "
             "the empty one"),
    )  # fmt: skip
    group = "words"
    source = "Wenderoth et al. 2025, InterSHAP"
    needs = MODEL | {"score"}

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        grid = bench.adapter.spec.grid
        there = np.array([np.zeros(grid, bool), np.ones(grid, bool)])
        return [_interaction(bench, subject, there) for subject in subjects]


def _interaction(bench: Bench, subject: Subject, there: np.ndarray) -> Outcome:
    words = len(subject.record.words)
    if not words:
        return Outcome()
    said = np.array([[False] * words, [True] * words])
    return Outcome({"interaction-share": interaction_share(_scores(bench, subject, there, said))})


def _regions(grid: tuple[int, int], most: int) -> np.ndarray:
    """Which region each patch is of, (rows, columns), from 0: `most` x `most` of them, or fewer on a smaller grid."""
    rows, columns = (np.arange(side) * min(most, side) // side for side in grid)
    return rows[:, None] * (columns.max() + 1) + columns


def _scores(bench: Bench, subject: Subject, patches: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Cosines of each version of the image, (versions, rows, columns), with each of the caption, (versions, words)."""
    shown = at_pixels(bench.adapter, torch.from_numpy(patches))
    images = embed_shown(bench, subject, shown, mean=True)
    return (images @ embed_said(bench, subject, said.tolist()).T).double().cpu().numpy()
