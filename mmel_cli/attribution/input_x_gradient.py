"""Input x gradient (Shrikumar et al. 2016, arXiv 1605.01713): each pixel times the gradient of the score there."""

import torch

from mmel_cli.attribution.base import Method
from mmel_cli.attribution.pixels import PixelParams, by_patch, pixels_of, probe_of
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture


def explain(capture: Capture, params: PixelParams, _state: None) -> Attribution:
    """Map = sum over channels and pixels of a patch of x ds/dx, x the normalised pixels; signed.

    With `gradient: balanced-norms` it sums to the score less what biases, position embeddings and class token give.
    """
    probe = probe_of(capture)
    values = pixels_of(probe)
    gradient = probe.gradient_at(torch.arange(len(values), device=values.device), values, params.gradient)
    return Attribution({MAP.name: by_patch(values * gradient, capture.grid)})


METHOD = Method(
    name="input-x-gradient",
    summary="normalised pixels times the gradient of the score at them, summed over each patch, signed",
    source="Shrikumar et al., 2016, arXiv 1605.01713",
    cost="1 forward, and 1 forward and 1 backward of the image tower down to the pixels",
    on_probe="the same: it looks at pixels alone",
    params=PixelParams,
    explain=explain,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"probe"}),
)
