"""Eigen-CAM (Muhammad and Yeasin, IJCNN 2020, arXiv 2008.00299) in the form that pytorch-grad-cam gives it."""

import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture


def explain(capture: Capture, _params: LastLayerParams, _state: None) -> Attribution:
    """First principal component over the patches of what the layer's attention reads; summed over layers.

    It does not depend on the caption.
    """
    maps = [component(layer.values) for layer in capture.entering]
    return Attribution({MAP.name: torch.stack(maps).sum(0).unflatten(-1, capture.grid)})


def component(values: Float[Tensor, "pairs patches width"]) -> Float[Tensor, "pairs patches"]:
    """Values, centred over the patches, projected on their first right singular vector; signed.

    The patch that is farthest from the mean is positive. A component has no sign of its own: positive are the patches
    on one side of the mean, be they objects or background. pytorch-grad-cam leaves the sign to the linear algebra
    library that is installed (two of them were seen to differ), and cuts what is negative, as pictures here do.
    """
    centred = values - values.mean(1, keepdim=True)
    squares, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2))
    first = vectors[..., -1]
    farthest = first.gather(1, first.abs().argmax(1, keepdim=True))
    return first * farthest.sign() * squares[:, -1:].clamp_min(0).sqrt()


METHOD = Method(
    name="eigen-cam",
    summary="first principal component of what the last attention reads; it does not look at the pair",
    source="Muhammad and Yeasin, IJCNN 2020, arXiv 2008.00299; pytorch-grad-cam's form for ViTs",
    cost="1 forward, and the eigenvectors of a matrix of patches x patches",
    on_probe="by default of what the probe reads: patches behind the last norm",
    params=LastLayerParams,
    explain=explain,
    caption_blind=True,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"entering"}),
)
