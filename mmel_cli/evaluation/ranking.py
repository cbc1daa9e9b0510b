"""Orders of pixels, patches and tokens. Ties are broken by one fixed shuffled order, so they never move together."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

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
    large = enlarge(maps, side)[:, None]
    pooled = avg_pool2d(large, region, ceil_mode=True, count_include_pad=False) if region > 1 else large
    cells = ranks(pooled.flatten(1)).view(len(maps), *pooled.shape[2:])
    full = cells.repeat_interleave(region, 1).repeat_interleave(region, 2)
    return full[:, : side[0], : side[1]]


def enlarge(maps: Float[Tensor, "records h w"], side: tuple[int, int]) -> Float[Tensor, "records height width"]:
    """Bilinear at pixel centres, as torch interpolates, but as a + t (b - a): a constant map stays constant exactly."""
    return _between(_between(maps, side[0]).transpose(1, 2), side[1]).transpose(1, 2)


def _between(maps: Tensor, length: int) -> Tensor:
    """The rows of each map, interpolated to `length` rows."""
    cells = maps.shape[1]
    places = ((torch.arange(length, dtype=torch.float64, device=maps.device) + 0.5) * cells / length - 0.5).clamp(
        0, cells - 1
    )
    low = places.floor().long()
    first, second = maps[:, low], maps[:, (low + 1).clamp_max(cells - 1)]
    return first + (places - low).to(maps.dtype)[:, None] * (second - first)


def area(curve: Tensor, at: Tensor | None = None) -> Tensor:
    """Trapezoidal area under the last dimension over 0..1, or over `at` divided by its extent, float64.

    It is a mean of the curve, so rounding never takes it beyond the curve's own values.
    """
    curve = curve.double()
    if at is None:
        at = torch.linspace(0, 1, curve.shape[-1], dtype=torch.float64)
    at = at.to(curve.device, torch.float64)
    mean = torch.trapezoid(curve, at, dim=-1) / (at[-1] - at[0])
    return mean.clamp(curve.amin(-1), curve.amax(-1))


def log_area(curve: Tensor, at: Tensor) -> Tensor:
    """The same over the logarithm of `at`, from its second point to its last: log 0, the first, is nowhere.

    What is left out is the point at which nothing has come or gone, the same whatever the order.
    """
    return area(curve[..., 1:], at[1:].log())
