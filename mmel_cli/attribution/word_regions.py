"""Words x regions: where in the image each word's share of the score comes from (METHOD 9)."""

from dataclasses import dataclass
from typing import Literal

import torch

from mmel_cli.attribution import ops
from mmel_cli.attribution.base import Layers
from mmel_cli.tensors import KeyRow, Tower


@dataclass(frozen=True)
class WordOptions:
    """Words x regions, whatever the method.

    `regions`: whether they are wanted (--words); `texts`: the most texts that are read of a distinct caption, exact for
    captions of n words if 2^n are no more; `seed` of the parts of longer captions; `gradient` and vision `layers`.
    """

    regions: bool = False
    texts: int = 256
    seed: int = 0
    gradient: Literal["plain", "balanced", "balanced-norms"] = "balanced"
    layers: Layers = "all"

    def __post_init__(self) -> None:
        if self.texts < 2:
            raise ValueError("words.texts must be at least 2")
        if not 0 <= self.seed < 2**63:
            raise ValueError("words.seed must lie in 0..2^63 - 1")


def sent(tower: Tower) -> KeyRow:
    """What each patch sends along a direction, summed over layers: `flow` with the gradient along that direction."""
    return torch.stack([ops.flow(tower, layer) for layer in range(len(tower.numbers))]).sum(0)
