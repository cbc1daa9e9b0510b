"""Does the map find what the caption names? The final map, and each layer's evidence."""

from collections.abc import Sequence

from mmel_cli.evaluation import localisation
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.localisation import LocalisationOptions
from mmel_cli.evaluation.metric import TRUTH, Metric, Name, Outcome
from mmel_cli.geometry import to_pixels


class Localisation(Metric):
    """Undefined where the covered part of the mask is empty."""

    names = (
        Name("pointing-game", "up", (0, 1),
             "1 if the highest pixel is in the mask (or within the tolerance); tied pixels share the hit",
             "Zhang et al. 2018, excitation backprop"),
        Name("energy-inside", "up", (0, 1),
             "positive evidence inside the mask over all positive evidence; 0 if there is none",
             "Wang et al. 2020, Score-CAM, energy-based pointing game"),
        Name("pixel-ap", "up", (0, 1), "average precision of the signed map as a score of the mask's pixels",
             "as scikit-learn defines it"),
        Name("iou-best", "up", (0, 1), "intersection over union at the best threshold of the record",
             "upper bound over thresholds"),
        Name("iou-area", "up", (0, 1), "intersection over union with as many of the highest pixels as the mask has",
             "threshold-free"),
    )  # fmt: skip
    group = "localisation"
    source = "one a name"
    needs = TRUTH
    settings = ("localisation",)

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        return [_one(subject, bench.option(LocalisationOptions)) for subject in subjects]


def _one(subject: Subject, options: LocalisationOptions) -> Outcome:
    if subject.truth is None:
        return Outcome()
    record = subject.record
    values, part = to_pixels(record.map, record.box, record.image_size)
    mask = subject.truth[part]
    outcome = Outcome(localisation.localise(values, mask, options))
    if not mask.any():
        return outcome
    outcome.size = localisation.size_class(mask, options)
    for name, layers in subject.layer_maps.items():
        laid = [to_pixels(layer, record.box, record.image_size)[0] for layer in layers]
        outcome.layers[f"{name}/pointing-game"] = [
            localisation.pointing_game(values, mask, options.tolerance) for values in laid
        ]
        outcome.layers[f"{name}/energy-inside"] = [localisation.energy_inside(values, mask) for values in laid]
    return outcome
