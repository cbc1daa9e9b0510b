"""Greedy search of regions, after Less is More (ICLR 2024) and Visual Precision Search (CVPR 2025, arXiv 2411.16198).

Regions are the cells of a fixed grid, where the papers cut superpixels or cells of a saliency map. F keeps two of their
terms: the clue (the consistency of Less is More), which is the score of the chosen regions shown alone, and the
collaboration, one minus the score without them, here without that constant. Left out are the other two of Less is More:
the confidence, which needs a classifier that was trained for its own uncertainty, and the effectiveness, which wants
chosen regions unlike each other, whatever the score.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.attribution.pixels import probe_of
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture, Probe

_EQUAL = 1e-6  # a candidate so near the best is as good, and the first is taken: rounding must not choose

Subsets = Bool[Tensor, "pairs subsets regions"]


@dataclass(frozen=True)
class Params(LastLayerParams):
    """`regions` a side of the image, at most one a patch; R is how many there are in all, their square.

    `values`: "falling", as in the code of Visual Precision Search before it divides by the largest: a region's value is
    less than that of the one chosen before it by the magnitude of its own gain, and the last one's is 0; or "gains",
    the signed gains. Layers have no meaning here, one is the cheapest.
    """

    regions: int = 6
    values: Literal["falling", "gains"] = "falling"

    def __post_init__(self) -> None:
        if self.regions < 2:
            raise ValueError("method.regions must be at least 2")


def explain(capture: Capture, params: Params, _state: None) -> Attribution:
    """Map = the value of the region that each patch lies in; chosen greedily by F(S) = s(S alone) - s(all but S)."""
    probe = probe_of(capture)
    region_of = regions_of(capture.grid, params.regions).to(capture.score.device)
    order, gains = greedy(_objective(probe, region_of), len(capture.score), int(region_of.max()) + 1, region_of.device)
    given = gains
    if params.values == "falling":
        given = gains.abs().flip(1).cumsum(1).flip(1) - gains.abs()
    values = torch.zeros_like(gains).scatter(1, order, given)
    return Attribution({MAP.name: values[:, region_of]})


def regions_of(grid: tuple[int, int], regions: int) -> Int[Tensor, "rows columns"]:
    """The number of the region of each patch: as many a side as asked for, or as there are patches, near equal."""
    counts = [min(regions, side) for side in grid]
    down, across = (torch.arange(side) * count // side for side, count in zip(grid, counts, strict=True))
    return down[:, None] * counts[1] + across


def greedy(
    objective: Callable[[Subsets], Float[Tensor, "pairs subsets"]], pairs: int, regions: int, device: torch.device
) -> tuple[Int[Tensor, "pairs regions"], Float[Tensor, "pairs regions"]]:
    """For each pair all regions, each time the one that raises the objective most, and by how much it did.

    Args:
        objective: from subsets of the regions to their value; subsets of all pairs are asked for together.
        pairs: how many.
        regions: how many.
        device: of the subsets.
    """
    chosen = torch.zeros(pairs, regions, dtype=torch.bool, device=device)
    value = objective(chosen[:, None])
    order, gains = [], []
    for step in range(regions):
        left = (~chosen).nonzero()[:, 1].view(pairs, regions - step)
        values = objective(chosen[:, None].repeat(1, regions - step, 1).scatter(2, left[..., None], value=True))
        best = (values >= values.amax(1, keepdim=True) - _EQUAL).int().argmax(1, keepdim=True)
        gains.append(values.gather(1, best) - value)
        order.append(left.gather(1, best))
        chosen, value = chosen.scatter(1, order[-1], value=True), values.gather(1, best)
    return torch.cat(order, 1), torch.cat(gains, 1)


def _objective(probe: Probe, region_of: Tensor) -> Callable[[Subsets], Float[Tensor, "pairs subsets"]]:
    def difference(subsets: Subsets) -> Float[Tensor, "pairs subsets"]:
        pairs, count, _ = subsets.shape
        of_pair = torch.arange(pairs, device=subsets.device).repeat_interleave(count)
        shown = subsets.flatten(0, 1)[:, region_of]
        scores = probe.shown_cells(of_pair.repeat(2), torch.cat([shown, ~shown]).float())
        return (scores[: pairs * count] - scores[pairs * count :]).view(pairs, count)

    return difference


METHOD = Method(
    name="region-search",
    summary="regions in the order in which greedy search chooses them, to be shown alone and to be taken away",
    source="Chen et al., ICLR 2024 (Less is More) and CVPR 2025, arXiv 2411.16198 (Visual Precision Search)",
    cost="1 forward, and R (R + 1) + 2 forwards of the image tower a pair, R the square of method.regions",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"probe"}),
)
