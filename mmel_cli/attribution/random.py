"""Random maps: the floor of every table. A pair's numbers depend on its record id and the seed, not on its batch."""

from dataclasses import dataclass

import torch

from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.fields import MAP, TOKEN_MAP
from mmel_cli.tensors import Attribution, Capture


@dataclass(frozen=True)
class Params(LastLayerParams):
    """`seed` of all maps; layers have no meaning here, one is the cheapest."""

    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError("method.seed must lie in 0..2^63 - 1")


def explain(capture: Capture, params: Params, _state: None) -> Attribution:
    """Independent uniform numbers in -1..1 for every patch and every token."""
    maps = []
    tokens = torch.zeros(capture.text.keys.shape)
    for row, (seed, keys) in enumerate(zip(capture.seeds, capture.text.keys.sum(1).tolist(), strict=True)):
        generator = torch.Generator().manual_seed((seed + params.seed) % 2**63)
        maps.append(torch.rand(capture.grid, generator=generator) * 2 - 1)
        tokens[row, :keys] = torch.rand(keys, generator=generator) * 2 - 1
    device = capture.score.device
    return Attribution({MAP.name: torch.stack(maps).to(device), TOKEN_MAP.name: tokens.to(device)})


METHOD = Method(
    name="random",
    summary="uniform random numbers, the floor of a comparison",
    source="control",
    cost="none beside the forward",
    on_probe="the same: it does not look at the model",
    version="2",
    params=Params,
    explain=explain,
    caption_blind=True,
    needs=frozenset({"seeds"}),
)
