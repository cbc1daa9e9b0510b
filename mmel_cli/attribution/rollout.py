"""Attention rollout (Abnar and Zuidema, ACL 2020, arXiv 2005.00928) for both towers."""

import torch

from mmel_cli.attribution import ops
from mmel_cli.attribution.base import LayerParams, Method
from mmel_cli.fields import MAP, TOKEN_MAP
from mmel_cli.tensors import Attribution, Capture, KeyRow, Tower


def explain(capture: Capture, _params: LayerParams, _state: None) -> Attribution:
    """The query's row of the rolled out attention; it does not depend on the other half of the pair."""
    image = ops.patches([rolled_out(capture.image)], capture.grid)[:, 0]
    return Attribution({MAP.name: image, TOKEN_MAP.name: rolled_out(capture.text)})


def rolled_out(tower: Tower) -> KeyRow:
    """R = I at first; layer by layer R <- (mean_h a_h + I) / 2 R, as residual connections halve what attention moves.

    A pooling layer, whose probe is no token of its own input, gives that probe's row alone: mean_h a_h R. Then the row
    of the last layer's query at the keys; where every row asks, the mean of the rows.
    """
    pairs, tokens = tower.visible.shape
    total = same = torch.eye(tokens, device=tower.visible.device).expand(pairs, -1, -1)
    for layer in range(len(tower.numbers)):
        step = ops.attention_matrix(tower, layer).mean(1)
        total = step @ total if step.shape[1] < tokens else (step + same) / 2 @ total
    return tower.gather(ops.rows(total, tower, -1).mean(1))


METHOD = Method(
    name="rollout",
    summary="attention with residual connections, multiplied through the layers; it does not look at the pair",
    source="Abnar and Zuidema, ACL 2020, arXiv 2005.00928",
    cost="1 forward",
    on_probe="multiplied through the encoder layers, then the probe's row of the pooling layer",
    params=LayerParams,
    explain=explain,
    caption_blind=True,
)
