"""Orders of pixels, patches and tokens. Ties are broken by one fixed shuffled order, so they never move together."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

_SHUFFLE = 20180618  # seed of the order in which equal values are taken


def ranks(values: Float[Tensor, "records items"]) -> Int[Tensor, "records items"]:
    """Each item's place from the highest value, 0, down.

    Equal values come in the fixed shuffled order, whatever the record: a constant map gives a random order, not
    reading order. NaN ranks last.
    """
    shuffle = shuffled(values.shape[1]).to(values.device)
    values = values.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    order = shuffle[values[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def shuffled(count: int) -> Int[Tensor, "items"]:
    """The fixed order of `count` items, made on the CPU so that every device has the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(_SHUFFLE))


def pixel_ranks(maps: Float[Tensor, "records h w"], side: tuple[int, int], region: int = 1) -> Tensor:
    """Rank the pixels of the model's input by a bilinearly enlarged map, in square regions of `region` pixels.

    Returns:
        (records, height, width) ranks of regions, from 0, and so many per record as there are regions.
    """
    large = interpolate(maps[:, None], side, mode="bilinear", align_corners=False)
    pooled = avg_pool2d(large, region, ceil_mode=True, count_include_pad=False) if region > 1 else large
    cells = ranks(pooled.flatten(1)).view(len(maps), *pooled.shape[2:])
    full = cells.repeat_interleave(region, 1).repeat_interleave(region, 2)
    return full[:, : side[0], : side[1]]


def area(curve: Tensor, at: Tensor | None = None) -> Tensor:
    """Trapezoidal area under the last dimension over 0..1, or over `at` divided by its extent."""
    if at is None:
        at = torch.linspace(0, 1, curve.shape[-1], dtype=curve.dtype, device=curve.device)
    return torch.trapezoid(curve, at, dim=-1) / (at[-1] - at[0])
