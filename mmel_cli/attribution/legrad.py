"""LeGrad (Bousselham et al., ICCV 2025, arXiv 2404.03214): what raises each layer's own score if attended to more."""

from dataclasses import dataclass

import torch

from mmel_cli.attribution import ops
from mmel_cli.attribution.base import GradientParams, Layers, Method
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture


@dataclass(frozen=True)
class Params(GradientParams):
    """All layers as in the paper; the published code takes the last two unless told otherwise."""

    text_layers: Layers = "last"


def explain(capture: Capture, _params: Params, _state: None) -> Attribution:
    """Map = sum_l mean over heads h and rows j of ReLU(ds_l/da_{l,h}[j, i]) at the patches i.

    s_l is layer l's own score: the cosine of the text with the projection of the norm of the mean of the layer's
    output tokens, class token included; a is that layer's self-attention, and ds_l/da_l = w_l . v_l is local to it
    (w_l = ds_l/do_l). Where a probe pools, s_l is the cosine with what the model's own pooling, norm included, makes of
    the layer's output, and a is the probe's attention there.

    Left out of the published code: min-max and enlargement, which are display; for SigLIP, that it skips the norm
    before the pooling, and sets to 0 what an English prompt without content finds too.
    """
    own = capture.own
    assert own is not None  # noqa: S101 - the engine gives what `needs` names
    steps = [ops.attention_gradient(own, layer).relu().mean((1, 2)) for layer in range(len(own.numbers))]
    rows = own.gather(torch.stack(steps).sum(0))
    return Attribution({MAP.name: ops.patches([rows], capture.grid)[:, 0]})


METHOD = Method(
    name="legrad",
    summary="positive gradient of each layer's own score at its attention, summed over layers",
    source="Bousselham et al., ICCV 2025, arXiv 2404.03214",
    cost="1 forward, and 1 backward of the second half of each explained layer",
    on_probe="each layer's output is pooled by the probe: the gradients at the probe's attention there",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"own"}),
)
