"""Occlusion (Zeiler and Fergus, ECCV 2014, arXiv 1311.2901): how far the score falls where a square is covered."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.attribution.pixels import probe_of
from mmel_cli.errors import UsageError
from mmel_cli.fields import MAP, TOKEN_MAP
from mmel_cli.tensors import Attribution, Capture, Probe

_CHUNK = 64  # masks held at once


@dataclass(frozen=True)
class Params(LastLayerParams):
    """A square of `window` patches a side, moved by `stride` patches, and to the last row and column.

    Layers have no meaning here, one is the cheapest.
    """

    window: int = 2
    stride: int = 1

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError("method.window must be at least 1")
        if not 1 <= self.stride <= self.window:
            raise ValueError("method.stride must be at least 1 and at most method.window, so that no patch is left out")


def explain(capture: Capture, params: Params, _state: None) -> Attribution:
    """Map = s - s(covered), the mean over the squares that cover a patch; tokens: s - s(without that token); signed.

    Covered pixels are 0 after normalisation, the mean colour; a token that is left out is not attended to. Both terms
    of a difference come from forwards of the same kind, so that rounding cancels.

    Raises:
        UsageError: if the square is larger than the grid.
    """
    probe = probe_of(capture)
    covers = squares(capture.grid, params.window, params.stride).to(capture.score.device)
    patch = [side // cells for side, cells in zip(probe.image_size, capture.grid, strict=True)]
    nothing = torch.zeros_like(covers[:1])
    scores = torch.cat(
        [
            probe.covered_images(1 - part.repeat_interleave(patch[0], 1).repeat_interleave(patch[1], 2))
            for part in torch.cat([nothing, covers]).split(_CHUNK)
        ],
        1,
    )
    falls = torch.einsum("pn,nij->pij", scores[:, :1] - scores[:, 1:], covers)
    return Attribution({MAP.name: falls / covers.sum(0), TOKEN_MAP.name: _tokens(capture, probe)})


def squares(grid: tuple[int, int], window: int, stride: int) -> Float[Tensor, "squares rows columns"]:
    """1 in each square of the grid, row by row of their corners."""
    if window > min(grid):
        raise UsageError(f"method.window: {window} patches do not fit the grid of {grid[0]} x {grid[1]}; take fewer")
    corners = [sorted({*range(0, side - window + 1, stride), side - window}) for side in grid]
    covers = torch.zeros(len(corners[0]) * len(corners[1]), *grid)
    for number, (top, left) in enumerate((top, left) for top in corners[0] for left in corners[1]):
        covers[number, top : top + window, left : left + window] = 1
    return covers


def _tokens(capture: Capture, probe: Probe) -> Float[Tensor, "pairs keys"]:
    keys = capture.text.keys
    falls = torch.zeros(keys.shape, device=keys.device)
    for pair, row in enumerate(keys):
        count = int(row.sum())
        if count:
            kept = torch.cat([torch.ones(1, count), 1 - torch.eye(count)]).bool().to(keys.device)
            scores = probe.covered_tokens(pair, kept)
            falls[pair, row] = scores[0] - scores[1:]
    return falls


METHOD = Method(
    name="occlusion",
    summary="how far the score falls where a square of the image is covered, or a token of the caption left out",
    source="Zeiler and Fergus, ECCV 2014, arXiv 1311.2901",
    cost="1 forward, and forwards: of the image tower 1 for each square of method.window patches (every method.stride "
    "patches down and across) and 2 more, of the text tower 1 for each token and 1 more",
    params=Params,
    explain=explain,
    needs=frozenset({"probe"}),
)
