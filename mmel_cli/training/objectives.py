"""What fused maps are trained for, METHOD 4: to lie where the caption's object is, or to find what the score needs."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from mmel_cli.attribution.hsrm import Evidence
from mmel_cli.attribution.weights import HsrmWeights, untrained

Maps = Float[Tensor, "records height width"]
Number = Float[Tensor, "records"]
_PEAK_SHARPNESS, _ENERGY_SHARE = 8.0, 2.0
FINER = 2  # cells of the truth a patch side: maps are read between their cells


@dataclass(frozen=True)
class Examples:
    """B records: their evidence, and what the objectives need of them."""

    evidence: Evidence
    truth: Maps | None = None  # the part of each cell inside the mask, 0..1; FINER than the maps
    images: Float[Tensor, "records 3 rows columns"] | None = None  # the model's normalised input
    texts: Float[Tensor, "records width"] | None = None  # unit embeddings of the captions

    def __len__(self) -> int:
        return len(self.evidence.flow)

    def rows(self, start: int, stop: int) -> "Examples":
        """Of some of the records."""
        rows = slice(start, stop)
        others = (None if values is None else values[rows] for values in (self.truth, self.images, self.texts))
        return Examples(self.evidence.rows(rows), *others)


@dataclass(frozen=True)
class Objective:
    """A weighted sum of both objectives and of the distance from the untrained defaults; lower is better.

    `embed` gives unit embeddings of images in the graph, `fill` what takes the place of pixels; both are needed for
    faithfulness alone.
    """

    localization: float
    faithfulness: float
    regularisation: float
    fractions: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)
    softness: float = 0.05
    embed: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    fill: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)

    def measure(self, maps: Maps, examples: Examples) -> dict[str, Number]:
        """The parts of the objective of each record."""
        parts: dict[str, Number] = {}
        if self.localization:
            assert examples.truth is not None  # noqa: S101 - the pipeline stores what the objective needs
            large, truth = enlarged(maps, (examples.truth.shape[1], examples.truth.shape[2])), examples.truth
            energy, likeness, peak = energy_inside(large, truth), mask_cosine(large, truth), peak_inside(large, truth)
            parts |= {"energy": energy, "cosine": likeness, "peak": peak}
            parts["localization"] = _ENERGY_SHARE * (1 - energy) + (1 - likeness) + (1 - peak)
        if self.faithfulness:
            assert examples.images is not None  # noqa: S101
            assert examples.texts is not None  # noqa: S101
            assert self.embed is not None  # noqa: S101
            assert self.fill is not None  # noqa: S101
            pair = (examples.images, self.fill(examples.images))
            kept, removed = soft_scores(maps, pair, examples.texts, self)
            parts |= {"kept": kept, "removed": removed, "faithfulness": removed - kept}
        return parts

    def loss(self, parts: dict[str, Number], weights: HsrmWeights) -> Tensor:
        """The number to make small, from `measure`."""
        total = self.regularisation * distance(weights)
        for name in ("localization", "faithfulness"):
            if name in parts:
                total = total + getattr(self, name) * parts[name].mean()
        return total


def energy_inside(maps: Maps, truth: Maps) -> Number:
    """Positive evidence inside the mask over all positive evidence; 0 where there is none."""
    positive = maps.clamp_min(0)
    return (positive * truth).sum((1, 2)) / positive.sum((1, 2)).clamp_min(torch.finfo(maps.dtype).tiny)


def mask_cosine(maps: Maps, truth: Maps) -> Number:
    """Cosine of the signed map and the mask, cell by cell."""
    return cosine_similarity(maps.flatten(1), truth.flatten(1))


def peak_inside(maps: Maps, truth: Maps) -> Number:
    """A soft pointing game: the truth under a softmax of the map, 8 times its maximum apart."""
    flat = maps.flatten(1)
    scaled = flat / flat.amax(1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    return ((_PEAK_SHARPNESS * scaled).softmax(1) * truth.flatten(1)).sum(1)


def enlarged(maps: Maps, size: tuple[int, int]) -> Maps:
    """Maps read bilinearly at `size` points, as metrics read them at pixels."""
    return interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def soft_scores(
    maps: Maps, images: tuple[Tensor, Tensor], texts: Float[Tensor, "records width"], objective: Objective
) -> tuple[Number, Number]:
    """Mean score over the fractions with the map's top part kept, and with it removed, through a soft threshold.

    The map, enlarged to the model's input, passes a sigmoid around its (1 - p) quantile that takes `softness` of the
    pixels on either side from 0.12 to 0.88: by rank, since values far below the peak lie close together. Kept:
    image * m + fill * (1 - m); removed: the reverse.

    Args:
        maps: signed.
        images: the model's input and what takes its place, (B, 3, H, W) each.
        texts: unit embeddings.
        objective: gives fractions, softness and the model.
    """
    whole, fill = images
    large = enlarged(maps, (whole.shape[2], whole.shape[3]))[:, None]
    values = large.detach().flatten(1)
    variants = []
    for part in objective.fractions:
        ranks = torch.tensor([1 - part - objective.softness, 1 - part, 1 - part + objective.softness]).clamp(0, 1)
        low, edge, high = values.quantile(ranks.to(values), dim=1).view(3, -1, 1, 1, 1)
        width = ((high - low) / 4).clamp_min(torch.finfo(maps.dtype).tiny)
        soft = ((large - edge) / width).sigmoid()
        variants += [fill + soft * (whole - fill), whole - soft * (whole - fill)]
    assert objective.embed is not None  # noqa: S101
    embeds = objective.embed(torch.cat(variants)).view(len(objective.fractions), 2, *texts.shape)
    scores = torch.einsum("fkbd,bd->fkb", embeds, texts).mean(0)
    return scores[0], scores[1]


def distance(weights: HsrmWeights) -> Tensor:
    """Mean squared distance of the unconstrained parameters from the untrained defaults."""
    default = untrained(len(weights.layer), weights.scales).to(weights.layer.device)
    gaps = [(mine - theirs).flatten() for mine, theirs in zip(weights.tensors(), default.tensors(), strict=True)]
    return torch.cat(gaps).square().mean()
