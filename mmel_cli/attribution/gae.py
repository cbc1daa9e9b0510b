"""Generic attention explainability (Chefer, Gur and Wolf, ICCV 2021, arXiv 2103.15679) for both towers."""

import torch

from mmel_cli.attribution import ops
from mmel_cli.attribution.base import GradientParams, Method, Target
from mmel_cli.fields import MAP, TOKEN_MAP
from mmel_cli.tensors import Attribution, Capture, KeyRow, Tower


def explain(capture: Capture, _params: GradientParams, logit_scale: float) -> Attribution:
    """The query's row of R over the patches and over the tokens; never negative."""
    image = relevance(capture.image, logit_scale)
    tokens = relevance(capture.text, logit_scale)
    return Attribution({MAP.name: ops.patches([image], capture.grid)[:, 0], TOKEN_MAP.name: tokens})


def relevance(tower: Tower, logit_scale: float) -> KeyRow:
    """R = I at first; layer by layer R <- R + mean_h ReLU(dy/da_h * a_h) R (equations 5 and 6).

    A pooling layer, whose probe is no token of its own input, gives that probe's row alone: mean_h ReLU(...) R
    (equation 10). Then the row of the last layer's query at the keys; where every row asks, the mean of the rows. y is
    the logit, not the cosine: the products of several layers depend on the scale.
    """
    pairs, tokens = tower.visible.shape
    total = torch.eye(tokens, device=tower.visible.device).expand(pairs, -1, -1)
    for layer in range(len(tower.numbers)):
        gradient = logit_scale * ops.attention_matrix_gradient(tower, layer)
        step = (gradient * ops.attention_matrix(tower, layer)).clamp_min(0).mean(1) @ total
        total = step if step.shape[1] < tokens else total + step
    return tower.gather(ops.rows(total, tower, -1).mean(1))


def prepare(_params: GradientParams, target: Target) -> float:
    """The model's temperature."""
    return target.scoring.scale


METHOD = Method(
    name="gae",
    summary="positive attention times attention gradient, propagated through the layers",
    source="Chefer et al., ICCV 2021, arXiv 2103.15679",
    cost="1 forward and 1 backward",
    on_probe="propagated through the encoder layers, then the probe's row of the pooling layer",
    params=GradientParams,
    explain=explain,
    prepare=prepare,
)
