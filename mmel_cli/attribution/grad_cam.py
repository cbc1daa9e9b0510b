"""Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391) in the form that pytorch-grad-cam gives it for ViTs."""

from dataclasses import dataclass

import torch

from mmel_cli.attribution.base import GradientParams, Layers, Method
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture


@dataclass(frozen=True)
class Params(GradientParams):
    """The last layer as published."""

    layers: Layers = "last"
    text_layers: Layers = "last"


def explain(capture: Capture, _params: Params, _state: None) -> Attribution:
    """Map = ReLU(sum_c m_c x[i, c]), m_c the mean over patches of ds/dx[i, c]; summed over layers if there are several.

    x is what the layer's attention reads, the output of its first LayerNorm, at the patches; the gradient goes through
    q, k and v of that layer (by balanced gradients through v alone), and not past the attention.
    """
    maps = []
    for layer in capture.entering:
        assert layer.gradient is not None  # noqa: S101 - it is there in every method with a backward
        weights = layer.gradient.mean(1, keepdim=True)
        maps.append((weights * layer.values).sum(-1).relu())
    return Attribution({MAP.name: torch.stack(maps).sum(0).unflatten(-1, capture.grid)})


METHOD = Method(
    name="grad-cam",
    summary="channels of what the last attention reads, weighted by their mean gradient, ReLU",
    source="Selvaraju et al., ICCV 2017, arXiv 1610.02391; pytorch-grad-cam's form for ViTs",
    cost="1 forward, and 1 backward of the explained layers",
    on_probe="by default what the probe reads: patches behind the last norm",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"entering"}),
)
