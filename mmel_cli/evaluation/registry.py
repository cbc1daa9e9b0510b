"""The metrics by name: what each measures, its range, which direction is better, its source, and what it needs.

No computation and no heavy import here, so that `mmel eval --help` can tell about all of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mmel_cli.errors import UsageError
from mmel_cli.names import hint, match

Need = Literal["truth", "images", "model", "captions", "method"]
"""truth: masks or boxes; images: the input's images; model: forwards of the same weights; captions: a set of captions
to tell the right one from; method: new maps from the run's own method."""

MODEL: frozenset[Need] = frozenset({"images", "model"})
CHOICE: frozenset[Need] = MODEL | {"captions"}
AGAIN: frozenset[Need] = MODEL | {"method"}
TRUTH: frozenset[Need] = frozenset({"truth"})


@dataclass(frozen=True)
class Metric:
    """One number a record."""

    name: str
    group: str
    better: Literal["up", "down"]
    span: tuple[float, float]  # smallest and largest possible value
    needs: frozenset[Need]
    definition: str
    source: str

    def line(self) -> str:
        """For --help and the table of metrics."""
        low, high = self.span
        return f"{self.name} ({low:g} to {high:g}, {self.better} is better): {self.definition} [{self.source}]"


_RISE = "Petsiuk et al. 2018, RISE"
_CAM = "Chattopadhay et al. 2018, Grad-CAM++"
_ECLIP = "Zhao et al. 2024, Grad-ECLIP, its released code"
_POINT = "Zhang et al. 2018, excitation backprop"
_TOPS = (1, 5, 10)


def _zero_shot(top: int) -> tuple[Metric, Metric]:
    many = f"the caption is among the best {top}" if top > 1 else "the caption is the best"
    return (
        Metric(f"grad-eclip-insertion-top{top}", "grad-eclip", "up", (0, 1), CHOICE,
               f"part of the points at which {many} of the set (which should hold the captions word for word): the "
               "highest 5, 10 ... 50 % of the original's pixels on black, then all; area over the fraction", _ECLIP),
        Metric(f"grad-eclip-deletion-top{top}", "grad-eclip", "down", (0, 1), CHOICE,
               f"the same, {many}, when the highest 0, 5 ... 50 % become random colours", _ECLIP),
    )  # fmt: skip


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("insertion", "faithfulness", "up", (-1, 1), MODEL,
               "area under the cosine as the highest pixels come back onto the baseline", _RISE),
        Metric("deletion", "faithfulness", "down", (-1, 1), MODEL,
               "area under the cosine as the highest pixels become the baseline", _RISE),
        Metric("insertion-deletion", "faithfulness", "up", (-2, 2), MODEL,
               "insertion minus deletion, the area between the curves; 0 for a random map",
               "Bluecher et al. 2024, symmetric relevance gain, with this insertion"),
        Metric("insertion-probability", "faithfulness", "up", (0, 1), CHOICE,
               "insertion on the softmax probability of the caption in the set", _RISE),
        Metric("deletion-probability", "faithfulness", "down", (0, 1), CHOICE,
               "deletion on the softmax probability of the caption in the set", _RISE),
        Metric("insertion-deletion-probability", "faithfulness", "up", (-1, 1), CHOICE,
               "the area between the two on probability", _RISE),
        Metric("average-drop", "faithfulness", "down", (0, 1), CHOICE,
               "max(0, p - p') / p, p' with the image faded to the baseline by the map scaled to 0..1", _CAM),
        Metric("average-increase", "faithfulness", "up", (0, 1), CHOICE,
               "1 if that raises the probability", _CAM),
        *_zero_shot(_TOPS[0]), *_zero_shot(_TOPS[1]), *_zero_shot(_TOPS[2]),
        Metric("aid", "aid", "up", (float("-inf"), float("inf")), MODEL,
               "mean difference of the logit, scaled to 0..1 between nothing and all, when patches and tokens go least "
               "important first against most important first; "
               "undefined where that range is below 1", "FIxLIP 2025, area between insertion and deletion"),
        Metric("pointing-game", "localisation", "up", (0, 1), TRUTH,
               "1 if the highest pixel is in the mask (or within the tolerance); tied pixels share the hit", _POINT),
        Metric("energy-inside", "localisation", "up", (0, 1), TRUTH,
               "positive evidence inside the mask over all positive evidence; 0 if there is none",
               "Wang et al. 2020, Score-CAM, energy-based pointing game"),
        Metric("pixel-ap", "localisation", "up", (0, 1), TRUTH,
               "average precision of the signed map as a score of the mask's pixels", "as scikit-learn defines it"),
        Metric("iou-best", "localisation", "up", (0, 1), TRUTH,
               "intersection over union at the best threshold of the record", "upper bound over thresholds"),
        Metric("iou-area", "localisation", "up", (0, 1), TRUTH,
               "intersection over union with as many of the highest pixels as the mask has", "threshold-free"),
        Metric("quadrant-recognition", "quadrants", "up", (0, 1), AGAIN,
               "on a 2 x 2 mosaic with three images of other captions: positive evidence in the caption's own quadrant "
               "and negative evidence elsewhere over all evidence; one caption, where the source also joins up to four",
               "FIxLIP 2025, pointing game recognition, of one object"),
        Metric("sparseness", "sanity", "up", (0, 1), frozenset(),
               "Gini coefficient of the map's magnitudes; 0 for a constant map", "Chalasani et al. 2020"),
        Metric("max-sensitivity", "stability", "down", (0, float("inf")), AGAIN,
               "largest relative change of the map under small uniform noise on the input", "Yeh et al. 2019"),
        Metric("randomisation", "stability", "down", (-1, 1), AGAIN,
               "mean rank correlation with the maps of the model whose top 1, 2 ... all layers are re-initialised",
               "Adebayo et al. 2018, cascading"),
        Metric("caption-change", "sanity", "up", (0, 2), frozenset(),
               "1 minus the rank correlation with the map of another caption of the same image", "this project"),
        Metric("caption-contrast", "sanity", "up", (-1, 1), TRUTH,
               "energy in the caption's own mask minus the energy there of the map of another caption of the image "
               "whose mask is elsewhere", "this project"),
        Metric("token-deletion", "caption", "down", (-1, 1), MODEL,
               "area under the cosine as the caption's highest tokens are masked out of attention", "RISE, on tokens"),
        Metric("token-insertion-deletion", "caption", "up", (-2, 2), MODEL,
               "the same lowest tokens first, minus highest first; 0 for a random map", "RISE, on tokens"),
    )
}  # fmt: skip

GROUPS = tuple(dict.fromkeys(metric.group for metric in METRICS.values()))
STANDARD = ("faithfulness", "localisation", "sanity", "caption")
"""What `standard` means: neither new maps nor another protocol."""


def select(names: Iterable[str]) -> tuple[Metric, ...]:
    """Metrics by name or group in any case, `standard` or `all`, in the registry's order.

    Raises:
        UsageError: naming what there is.
    """
    wanted: set[str] = set()
    known = ("all", "standard", *GROUPS, *METRICS)
    for typed in names:
        name = match(typed, known)
        if name is None:
            raise UsageError(
                f"no metric or group {typed!r}{hint(typed, known)}; groups are all, standard, {', '.join(GROUPS)}; "
                "mmel eval --help lists the metrics"
            )
        groups = {"all": GROUPS, "standard": STANDARD}.get(name, (name,) if name in GROUPS else ())
        wanted |= {metric.name for metric in METRICS.values() if metric.group in groups or metric.name == name}
    return tuple(metric for metric in METRICS.values() if metric.name in wanted)
