"""Flow: exact multi-head attention times its gradient, summed over layers, signed (METHOD 2)."""

import torch
from torch import Tensor

from mmel_cli.attribution import ops
from mmel_cli.attribution.base import BalancedParams, Method
from mmel_cli.fields import MAP, TOKEN_MAP, Field
from mmel_cli.tensors import Attribution, Capture, ImageSide, PatchMaps

FLOW = Field("layers/flow", ("layers", "rows", "columns"), "C_l: exact attention times its gradient", evidence=True)


def explain(capture: Capture, _params: BalancedParams, _state: None) -> Attribution:
    """Map = sum_l C_l, signed."""
    text, layers = capture.text, _by_layer(capture)
    tokens = torch.stack([ops.flow(text, layer) for layer in range(len(text.numbers))]).sum(0)
    return Attribution({MAP.name: layers.sum(1), TOKEN_MAP.name: tokens, FLOW.name: layers})


def along(side: ImageSide, _params: object = None, _state: None = None) -> Tensor:
    """The same of the image alone, for each direction: linear in it."""
    return _by_layer(side).sum(1)


def _by_layer(side: Capture | ImageSide) -> PatchMaps:
    tower = side.image
    return ops.patches([ops.flow(tower, layer) for layer in range(len(tower.numbers))], side.grid)


METHOD = Method(
    name="flow",
    summary="exact attention times attention gradient, signed sum over layers",
    source="METHOD 2 (gradient times attention, per head)",
    cost="1 forward and 1 backward",
    on_probe="what every patch sends in the encoder layers, and what the probe takes in the pooling layer",
    params=BalancedParams,
    explain=explain,
    along=along,
    fields=lambda _params, _target: (MAP, TOKEN_MAP, FLOW),
)
