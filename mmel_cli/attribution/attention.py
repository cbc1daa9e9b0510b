"""Raw attention: how much the query attends to each token, the plain baseline (METHOD 2)."""

import torch

from mmel_cli.attribution import ops
from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.fields import MAP, TOKEN_MAP
from mmel_cli.tensors import Attribution, Capture, KeyRow, Tower


def explain(capture: Capture, _params: LastLayerParams, _state: None) -> Attribution:
    """The query's attention, mean over heads and layers; it does not depend on the other half of the pair."""
    image = ops.patches([attended(capture.image)], capture.grid)[:, 0]
    return Attribution({MAP.name: image, TOKEN_MAP.name: attended(capture.text)})


def attended(tower: Tower) -> KeyRow:
    """Attention at the keys, mean over heads, over layers, and over the rows where every row asks."""
    return torch.stack([ops.attended(tower, layer) for layer in range(len(tower.numbers))]).mean(0)


METHOD = Method(
    name="attention",
    summary="the query's attention, mean over heads, last layer by default; it does not look at the pair",
    source="baseline",
    cost="1 forward",
    on_probe="by default the probe's attention in the pooling layer; in an encoder layer the mean over all rows",
    params=LastLayerParams,
    explain=explain,
    caption_blind=True,
)
