"""RISE (Petsiuk, Das and Saenko, BMVC 2018, arXiv 1806.07421): the mean of random masks weighted by the score.

It only looks at scores: `masks` forwards of the image tower an image and as many of the text tower a pair, where the
other methods take one forward and one backward.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.fields import MAP, TOKEN_MAP
from mmel_cli.tensors import Attribution, Capture, Probe

_CHUNK = 64  # masks held at once


@dataclass(frozen=True)
class Params(LastLayerParams):
    """`masks` an image, of `cells` x `cells` random cells each kept with probability `keep`; `seed` of them all.

    Layers have no meaning here, one is the cheapest.
    """

    masks: int = 1000
    cells: int = 7
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.masks < 1 or self.cells < 1:
            raise ValueError("method.masks and method.cells must be at least 1")
        if not 0 < self.keep < 1:
            raise ValueError("method.keep must lie between 0 and 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError("method.seed must lie in 0..2^63 - 1")


def explain(capture: Capture, params: Params, _state: None) -> Attribution:
    """Map = sum_n s(x * m_n) m_n / (N keep), averaged over each patch; the caption alike, with random tokens kept."""
    assert capture.probe is not None  # noqa: S101 - the engine gives what `needs` names
    probe = capture.probe
    total = torch.zeros(len(capture.score), *capture.grid, device=capture.score.device)
    for masks in random_masks(params, probe.image_size):
        masks = masks.to(total.device)  # noqa: PLW2901 - drawn on the CPU, the same for every device
        cells = adaptive_avg_pool2d(masks[None], capture.grid)[0]
        total += torch.einsum("pn,nhw->phw", probe.covered_images(masks), cells)
    image = total / (params.masks * params.keep)
    return Attribution({MAP.name: image, TOKEN_MAP.name: _tokens(capture, probe, params)})


def random_masks(params: Params, size: tuple[int, int]) -> Iterator[Float[Tensor, "masks height width"]]:
    """All masks in chunks: random cells, enlarged by one cell more than the image and cut out at a random place.

    Bilinear, mirrored at the border: skimage.transform.resize(order=1, mode="reflect"), as the published code has it.
    """
    generator = torch.Generator().manual_seed(params.seed)
    cell = [-(-side // params.cells) for side in size]
    rows, columns = (mirrored(params.cells, (params.cells + 1) * side) for side in cell)
    for start in range(0, params.masks, _CHUNK):
        count = min(_CHUNK, params.masks - start)
        coarse = (torch.rand(count, 1, params.cells, params.cells, generator=generator) < params.keep).float()
        large = rows @ coarse @ columns.T
        down, across = (torch.randint(side, (count,), generator=generator).tolist() for side in cell)
        yield torch.stack([m[0, y : y + size[0], x : x + size[1]] for m, y, x in zip(large, down, across, strict=True)])


def mirrored(cells: int, length: int) -> Float[Tensor, "length cells"]:
    """Weights of bilinear enlargement from `cells` to `length` points along one axis, pixel areas aligned.

    Beyond the centre of an outermost cell the row of cells goes on as its mirror image, without repeating that cell
    (numpy.pad's "reflect", scipy.ndimage's "mirror").
    """
    places = ((torch.arange(length, dtype=torch.float64) + 0.5) * cells / length - 0.5).abs()
    places = ((cells - 1) - ((cells - 1) - places).abs()).clamp_min(0)
    low = places.floor().long().clamp_max(max(cells - 2, 0))
    high = places - low
    weights = torch.zeros(length, cells, dtype=torch.float64)
    weights[torch.arange(length), low] = 1 - high
    weights[torch.arange(length), (low + 1).clamp_max(cells - 1)] += high
    return weights.float()


def _tokens(capture: Capture, probe: Probe, params: Params) -> Tensor:
    """The same estimate over the caption's tokens; captions of as many tokens have the same masks in every batch."""
    keys = capture.text.keys
    weighted = torch.zeros(keys.shape, device=capture.score.device)
    for pair, row in enumerate(keys):
        generator = torch.Generator().manual_seed(params.seed)
        count = int(row.sum())
        if count:
            kept = (torch.rand(params.masks, count, generator=generator) < params.keep).to(weighted.device)
            scores = probe.covered_tokens(pair, kept)
            weighted[pair, row] = (scores @ kept.float()) / (params.masks * params.keep)
    return weighted


METHOD = Method(
    name="rise",
    summary="random masks weighted by their score: a thousand forwards an image, and of the caption",
    source="Petsiuk et al., BMVC 2018, arXiv 1806.07421",
    cost="method.masks forwards of the image tower an image, and of the text tower a pair",
    version="2",
    params=Params,
    explain=explain,
    needs=frozenset({"probe"}),
)
