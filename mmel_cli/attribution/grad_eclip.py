"""Grad-ECLIP (Zhao et al., ICML 2024, arXiv 2502.18816), METHOD 2."""

from dataclasses import dataclass
from typing import Literal

import torch

from mmel_cli.attribution import ops
from mmel_cli.attribution.base import GradientParams, Layers, Method
from mmel_cli.fields import MAP, TOKEN_MAP, Field
from mmel_cli.tensors import Attribution, Capture, KeyRow, Tower

LOOSENED = Field("layers/loosened", ("layers", "rows", "columns"), "G_l: lambda_l times gradient", evidence=True)
LAMBDA = Field("layers/lambda", ("layers", "rows", "columns"), "lambda_l: min-max cosine of query and keys, 0..1")


@dataclass(frozen=True)
class Params(GradientParams):
    """`heads`: "multi" explains the model as it runs, "single" reproduces the published code.

    Published (generate_emap.py) is: attention of one head; cosines of projected q and k; their min-max over the patches
    on the image side, but over all tokens on the text side: start, words, end, and padding of token 0 up to the model's
    context, which is not masked and which the words do not see. So then every caption is padded to the context,
    whatever its batch.
    """

    layers: Layers = "last"
    text_layers: Layers = 8
    heads: Literal["multi", "single"] = "multi"


def explain(capture: Capture, params: Params, _state: None) -> Attribution:
    """ReLU of the loosened evidence summed over layers: map = ReLU(sum_l G_l)."""
    single = params.heads == "single"
    weights, evidence = _evidence(capture.image, projected=single)
    loosened = ops.patches(evidence, capture.grid)
    tokens = torch.stack(_evidence(capture.text, projected=single, over_tokens=single)[1]).sum(0)
    return Attribution(
        {
            MAP.name: loosened.sum(1).relu(),
            TOKEN_MAP.name: tokens.relu(),
            LOOSENED.name: loosened,
            LAMBDA.name: ops.patches(weights, capture.grid),
        }
    )


def _evidence(tower: Tower, **how: bool) -> tuple[list[KeyRow], list[KeyRow]]:
    """lambda_l and G_l for each captured layer."""
    both = [ops.loosened(tower, layer, **how) for layer in range(len(tower.numbers))]
    return [weight for weight, _ in both], [evidence for _, evidence in both]


METHOD = Method(
    name="grad-eclip",
    summary="attention gradient times loosened attention, last layer by default",
    source="Zhao et al., ICML 2024, arXiv 2502.18816",
    cost="1 forward, and 1 backward of the explained layers",
    on_probe="by default the probe's attention in the pooling layer; in an encoder layer the sum over all rows",
    version="2",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP, TOKEN_MAP, LOOSENED, LAMBDA),
    one_head=lambda params: params.heads == "single",
)
