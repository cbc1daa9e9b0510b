"""SmoothGrad (Smilkov et al. 2017, arXiv 1706.03825): the gradient at the pixels, averaged over noisy copies.

A pair's noise is drawn from its record id and the seed, so that it depends neither on the batch nor on its order.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmel_cli.attribution.base import Method
from mmel_cli.attribution.pixels import PixelParams, by_patch, gradients_over, pixels_of, probe_of
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture


@dataclass(frozen=True)
class Params(PixelParams):
    """`samples` copies with normal noise, `sigma` as a share of the image's range of values; `seed` of it all.

    `variant`: "magnitude", the absolute mean gradient, as the published pictures show it; "squares", the mean of the
    squared gradients (Hooker et al., NeurIPS 2019); "signed", the mean gradient itself.
    """

    samples: int = 25
    sigma: float = 0.15
    variant: Literal["magnitude", "squares", "signed"] = "magnitude"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise ValueError("method.samples must be at least 1")
        if not 0 < self.sigma <= 1:
            raise ValueError("method.sigma must lie above 0 and be at most 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError("method.seed must lie in 0..2^63 - 1")


def explain(capture: Capture, params: Params, _state: None) -> Attribution:
    """Map = sum over a patch and its channels of |mean_n g_n|, mean_n g_n^2 or mean_n g_n.

    g_n = ds/dx at x + noise_n, noise of standard deviation sigma (max x - min x).
    """
    probe = probe_of(capture)
    values = pixels_of(probe)
    spread = params.sigma * (values.amax((1, 2, 3)) - values.amin((1, 2, 3)))
    generators = [torch.Generator().manual_seed((seed + params.seed) % 2**63) for seed in capture.seeds]

    def altered(samples: range) -> Tensor:
        drawn = [[torch.randn(values.shape[1:], generator=generator) for generator in generators] for _ in samples]
        noise = torch.stack([torch.stack(of_sample) for of_sample in drawn])
        return values + spread.view(-1, 1, 1, 1) * noise.to(values.device)

    total = torch.zeros_like(values)
    for _, gradients in gradients_over(probe, params.samples, altered, params.gradient):
        total += (gradients.square() if params.variant == "squares" else gradients).sum(0)
    mean = total / params.samples
    return Attribution({MAP.name: by_patch(mean.abs() if params.variant == "magnitude" else mean, capture.grid)})


METHOD = Method(
    name="smoothgrad",
    summary="magnitude of the gradient at the pixels, averaged over noisy copies of the image",
    source="Smilkov et al., 2017, arXiv 1706.03825",
    cost="1 forward, and method.samples forwards and backwards of the image tower down to the pixels",
    on_probe="the same: it looks at pixels alone",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"probe", "seeds"}),
)
