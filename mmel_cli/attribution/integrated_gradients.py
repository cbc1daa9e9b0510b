"""Integrated gradients (Sundararajan, Taly and Yan, ICML 2017, arXiv 1703.01365)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmel_cli.attribution.base import Method
from mmel_cli.attribution.pixels import PixelParams, by_patch, gradients_over, pixels_of, probe_of
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture


@dataclass(frozen=True)
class Params(PixelParams):
    """`steps` points of the straight path from an image of the one value `baseline`, in normalised pixels.

    0 is the mean colour of the model's normalisation, as the metrics' and `rise`'s covered pixels have it.
    """

    steps: int = 64
    baseline: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError("method.steps must be at least 1")
        if not math.isfinite(self.baseline):
            raise ValueError(f"method.baseline: {self.baseline} must be a finite number")


def explain(capture: Capture, params: Params, _state: None) -> Attribution:
    """Map = sum over a patch of (x - b) times the integral over t in 0..1 of ds/dx at b + t (x - b); signed.

    The integral is Gauss and Legendre's quadrature of `steps` points: as they grow, the plain gradient's map sums to
    s(x) - s(b) (completeness).
    """
    probe = probe_of(capture)
    values = pixels_of(probe)
    way = values - params.baseline
    nodes, weights = np.polynomial.legendre.leggauss(params.steps)
    places = torch.tensor((nodes + 1) / 2, dtype=torch.float32, device=values.device).view(-1, 1, 1, 1, 1)
    shares = torch.tensor(weights / 2, dtype=torch.float32, device=values.device)

    def altered(steps: range) -> Tensor:
        return params.baseline + places[steps.start : steps.stop] * way

    total = torch.zeros_like(values)
    for steps, gradients in gradients_over(probe, params.steps, altered, params.gradient):
        total += torch.einsum("s,spchw->pchw", shares[steps.start : steps.stop], gradients)
    return Attribution({MAP.name: by_patch(way * total, capture.grid)})


METHOD = Method(
    name="integrated-gradients",
    summary="input x gradient averaged along the straight path from a blank image, summed over each patch, signed",
    source="Sundararajan et al., ICML 2017, arXiv 1703.01365",
    cost="1 forward, and method.steps forwards and backwards of the image tower down to the pixels",
    on_probe="the same: it looks at pixels alone",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"probe"}),
)
