"""Does the map stay when the input hardly changes, and go when the model is destroyed? By maps made anew."""

from collections.abc import Sequence

import numpy as np
import torch

from mmel_cli.data.paths import record_seed
from mmel_cli.evaluation import sanity
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.metric import AGAIN, Metric, Name, Outcome
from mmel_cli.evaluation.sanity import SanityOptions
from mmel_cli.tensors import Decoded, Pixels


class MaxSensitivity(Metric):
    """Undefined where any of the maps is not finite."""

    names = (
        Name("max-sensitivity", "down", (0, float("inf")),
             "largest relative change of the map under small uniform noise on the input"),
    )  # fmt: skip
    group = "stability"
    source = "Yeh et al. 2019"
    needs = AGAIN
    settings = ("sanity.samples", "sanity.radius")

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        options, clean = bench.option(SanityOptions), bench.clean_maps(subjects)
        samples = [subject.sample for subject in subjects]
        changes: dict[str, list[float]] = {subject.record.id: [] for subject in subjects}
        for number in range(options.samples):
            images = {s.sample.ref.key: _noisy(s, number, options.radius) for s in subjects}
            for name, values in bench.again.maps(samples, images).items():
                if name in clean:
                    changes[name].append(sanity.relative_change(clean[name], values))
        return [
            Outcome({"max-sensitivity": max(of_record)} if len(of_record) == options.samples else {})
            for of_record in changes.values()
        ]


class Randomisation(Metric):
    """Several draws of the network, each re-initialised from the top, layer by layer."""

    names = (
        Name("randomisation", "down", (-1, 1),
             "mean rank correlation with the maps of the model whose top 1, 2 ... all layers are re-initialised, over "
             "several draws; its intervals count the draw of the network too"),
    )  # fmt: skip
    group = "stability"
    source = "Adebayo et al. 2018, cascading"
    needs = AGAIN
    settings = ("sanity.depths", "sanity.draws")

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        options, clean = bench.option(SanityOptions), bench.clean_maps(subjects)
        depths = sanity.depths(bench.again.layers, options.depths)
        samples = [subject.sample for subject in subjects]
        images = {subject.sample.ref.key: subject.decoded for subject in subjects}
        likeness = {subject.record.id: np.full((options.draws, len(depths)), np.nan) for subject in subjects}
        for draw in range(options.draws):
            for column, depth in enumerate(depths):
                for name, values in bench.again.randomised(depth, seed=draw).maps(samples, images).items():
                    if name in clean:
                        likeness[name][draw, column] = sanity.rank_correlation(clean[name], values)
        return [_summed(of_record) for of_record in likeness.values()]


def _summed(likeness: np.ndarray) -> Outcome:
    """Over depths and draws; undefined where a map was not finite."""
    if np.isnan(likeness).any():
        return Outcome()
    draws = likeness.mean(1)
    curve = {"randomisation": likeness.mean(0).tolist()}
    return Outcome({"randomisation": float(draws.mean())}, curve, draws={"randomisation": draws.tolist()})


def _noisy(subject: Subject, number: int, radius: float) -> Decoded:
    """The image with uniform noise on its normalised input, the same for all captions of the image."""
    image = subject.decoded
    generator = torch.Generator().manual_seed((record_seed(subject.record.image) + number) % 2**62)
    noise = torch.rand(image.pixels.values.shape, generator=generator) * 2 - 1
    return Decoded(Pixels(image.pixels.values + radius * noise, image.pixels.box), image.size)
