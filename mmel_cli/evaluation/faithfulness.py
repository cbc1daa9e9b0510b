"""Insertion, deletion and fading of the model's input by pixel rank, and masking of the caption's tokens, in batches.

All scores are cosines of unit embeddings, or probabilities among a set of captions as the model itself scores them.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import conv2d, pad

from mmel_cli.evaluation.ranking import area, enlarge, pixel_ranks, ranks
from mmel_cli.model import Adapter, Captions
from mmel_cli.model.forwards import in_parts
from mmel_cli.scoring import Scoring

Images = Float[Tensor, "records 3 height width"]
Curve = Float[Tensor, "records points"]
Number = Float[Tensor, "records"]
EVEN_SETTINGS = tuple(f"faithfulness.{name}" for name in ("steps", "baseline", "blur", "region"))
"""What decides the curves of equal steps."""
FINE_SETTINGS = tuple(f"faithfulness.{name}" for name in ("fractions", "baseline", "blur", "region"))
"""What decides the fine curves."""
_EMPTY = 1e-12
_NOISE = 1e-6  # a smaller rise of the probability is rounding


@dataclass(frozen=True)
class FaithfulnessOptions:
    """How pixels are taken away and put back.

    `steps` equal steps from none to all, so steps + 1 points; `fractions` are the points of the fine curves, which lie
    close together where objects end; `baseline` is what takes the place of pixels: the blurred image (standard
    deviation `blur` of the input's side), the processor's mean colour, or black; `region` is the side in pixels of the
    squares that move together; `batch` is how many masked images go through the model at once.
    """

    steps: int = 10
    fractions: tuple[float, ...] = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.6, 1.0)
    baseline: Literal["blur", "mean", "black"] = "blur"
    blur: float = 0.1
    region: int = 1
    batch: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise ValueError("faithfulness.steps must lie in 1..1000")
        rising = all(low < high for low, high in pairwise(self.fractions))
        if not (3 <= len(self.fractions) <= 1001 and rising and self.fractions[0] == 0 and self.fractions[-1] == 1):
            raise ValueError(
                "faithfulness.fractions must rise from 0 to 1 with at least one between, for example [0, 0.05, 1]"
            )
        if not 0 < self.blur <= 1:
            raise ValueError("faithfulness.blur must lie in 0..1")
        if self.region < 1 or self.batch < 1:
            raise ValueError("faithfulness.region and faithfulness.batch must be at least 1")


@dataclass(frozen=True)
class CaptionSet:
    """What each record's caption is told from: unit embeddings, scored as the model scores them.

    A record whose rivals are all excluded has no place (`alone`) and no softmax probability (NaN).
    """

    own: Float[Tensor, "records width"]
    others: Float[Tensor, "captions width"]
    excluded: Bool[Tensor, "records captions"]  # its own text, and other captions of its image, are no rivals
    scoring: Scoring

    @property
    def alone(self) -> Bool[Tensor, "records"]:
        """Where no rival is left."""
        return self.excluded.all(1)

    def probability(self, images: Float[Tensor, "records points width"]) -> Curve:
        """The probability of each record's own caption."""
        return self.scoring.probability(*self._cosines(images))

    def place(self, images: Float[Tensor, "records points width"]) -> Int[Tensor, "records points"]:
        """How many rivals score higher than the record's own caption."""
        own, rivals = self._cosines(images)
        return (rivals > own[..., None]).sum(-1)

    def _cosines(self, images: Tensor) -> tuple[Tensor, Tensor]:
        own = torch.einsum("bpd,bd->bp", images, self.own)
        rivals = (images @ self.others.T).masked_fill(self.excluded[:, None], -torch.inf)
        return own, rivals


@dataclass(frozen=True)
class PixelEmbeds:
    """Image embeddings (B, points, D) as the highest pixels come back (insertion) and as they go (deletion)."""

    insertion: Tensor
    deletion: Tensor
    at: Float[Tensor, "points"]  # the part of the pixels that has come or gone, from 0 to 1, float64


@torch.no_grad()
def baseline_images(model: Adapter, images: Images, options: FaithfulnessOptions) -> Images:
    """What takes the place of pixels, in the model's normalised input."""
    if options.baseline == "mean":
        return torch.zeros_like(images)
    if options.baseline == "black":
        mean, spread = (torch.tensor(model.spec.processor[name]) for name in ("image_mean", "image_std"))
        return (-mean / spread).to(images).view(1, 3, 1, 1).expand_as(images)
    return blurred(images, options.blur * images.shape[-1])


def blurred(images: Images, sigma: float) -> Images:
    """Gaussian blur with mirrored borders, cut off at three standard deviations."""
    radius = min(int(3 * sigma + 0.5), *(side - 1 for side in images.shape[2:]))
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    wide = conv2d(pad(images, (radius, radius, 0, 0), "reflect"), kernel, groups=3)
    return conv2d(pad(wide, (0, 0, radius, radius), "reflect"), kernel.transpose(2, 3), groups=3)


@torch.no_grad()
def embed_pixels(
    model: Adapter, images: Images, maps: Tensor, options: FaithfulnessOptions, *, fine: bool = False
) -> PixelEmbeds:
    """Embed every point of both curves; the two ends, image and baseline, are embedded once.

    Args:
        model: gives unit embeddings.
        images: the model's normalised input.
        maps: (records, h, w), signed.
        options: see FaithfulnessOptions.
        fine: at its fractions, each rounded to whole pixels (regions) and at least one, instead of equal steps.
    """
    places = pixel_ranks(maps.to(images), (images.shape[2], images.shape[3]), options.region)
    total = int(places.max()) + 1
    if fine:
        inner = [max(1, round(total * fraction)) for fraction in options.fractions[1:-1]]
    else:
        inner = [round(total * step / options.steps) for step in range(1, options.steps)]
    cuts = torch.tensor([total, 0, *inner, *inner], device=images.device)
    keep_low = torch.tensor([True, True] + [True] * len(inner) + [False] * len(inner), device=images.device)
    embeds = _embed_mixtures(
        model, (images, baseline_images(model, images, options)), places, (cuts, keep_low), options
    )
    whole, nothing, middle = embeds[:, :1], embeds[:, 1:2], embeds[:, 2:]
    return PixelEmbeds(
        insertion=torch.cat([nothing, middle[:, : len(inner)], whole], 1),
        deletion=torch.cat([whole, middle[:, len(inner) :], nothing], 1),
        at=torch.tensor([0, *inner, total], dtype=torch.float64) / total,
    )


def _embed_mixtures(
    model: Adapter,
    sources: tuple[Images, Images],
    places: Tensor,
    cuts: tuple[Tensor, Tensor],
    options: FaithfulnessOptions,
) -> Tensor:
    """(records, variants, D): variant v keeps the image where rank < cut (or >=, where `cuts[1]` is False)."""
    images, fills = sources
    limit, keep_low = cuts

    def embed(numbers: Tensor) -> Tensor:
        rows, which = numbers // len(limit), numbers % len(limit)
        low = places[rows] < limit[which][:, None, None]
        kept = (low == keep_low[which][:, None, None])[:, None]
        return model.embed_images(torch.where(kept, images[rows], fills[rows]))

    embeds = in_parts(embed, len(images) * len(limit), options.batch, images.device)
    return embeds.view(len(images), len(limit), -1)


@torch.no_grad()
def fade(model: Adapter, images: Images, maps: Tensor, options: FaithfulnessOptions) -> Tensor:
    """(records, 1, D): embeddings of the images faded to the baseline by the map scaled to 0..1.

    A constant map is scaled to 1 everywhere: it says nothing, so nothing is taken away.
    """
    large = enlarge(unit_size(maps.to(images)), (images.shape[2], images.shape[3]))[:, None]
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    strength = torch.where(high > low, (large - low) / (high - low).clamp_min(_EMPTY), 1.0)
    fills = baseline_images(model, images, options)
    return model.embed_images(fills + strength * (images - fills))[:, None]


def unit_size(maps: Float[Tensor, "records h w"]) -> Float[Tensor, "records h w"]:
    """Each map divided by its largest magnitude, in float64, so that what follows does not depend on its scale."""
    size = maps.double().abs().amax((1, 2), keepdim=True)
    return torch.where(size > 0, maps.double() / size, 0.0).to(maps.dtype)


def drop_and_increase(before: Number, after: Number) -> tuple[Number, Number]:
    """Average drop, a part of the probability before, and whether it increased (1) or not (0)."""
    return ((before - after).clamp_min(0) / before.clamp_min(_EMPTY)), (after - before > _NOISE).float()


@torch.no_grad()
def token_curves(
    model: Adapter, captions: Captions, images: Float[Tensor, "records width"], maps: list[Tensor]
) -> Tensor:
    """(records, 2): areas under the cosine as tokens are masked out of attention, highest first and lowest first.

    From all tokens to none, one at a time; BOS and EOS stay. A caption without tokens has the areas of a flat curve.

    Args:
        model: gives unit embeddings.
        captions: one a record.
        images: unit embeddings.
        maps: the token map of each record, (tokens,).
    """
    areas = []
    for row, (values, image) in enumerate(zip(maps, images, strict=True)):
        places = ranks(values[None].float())[0].to(captions.ids.device)
        gone = torch.arange(len(values) + 1, device=places.device)[:, None]
        kept = torch.cat([places >= gone, places < len(values) - gone])
        cosines = model.embed_texts(captions.covered(row, kept)) @ image
        curves = cosines.view(2, -1)
        areas.append(area(curves) if len(values) else curves[:, 0])
    return torch.stack(areas)
