"""What the methods that look again at the pixels share: parameters, gradients at many copies, sums over patches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.attribution.base import GradientParams, Layers
from mmel_cli.tensors import Capture, Probe
from mmel_cli.types import Gradient

_AT_ONCE = 64  # copies of an image held at once


@dataclass(frozen=True)
class PixelParams(GradientParams):
    """Those of methods that take gradients at the pixels: layers have no meaning there, one is the cheapest."""

    layers: Layers = "last"
    text_layers: Layers = "last"


def probe_of(capture: Capture) -> Probe:
    """The pairs to look at again, which the engine gives a method that needs them."""
    assert capture.probe is not None  # noqa: S101 - the engine gives what `needs` names
    return capture.probe


def pixels_of(probe: Probe) -> Float[Tensor, "pairs 3 height width"]:
    """The normalised pixels of each pair's image."""
    return probe.values[probe.images]


def gradients_over(
    probe: Probe, copies: int, altered: Callable[[range], Tensor], gradient: Gradient
) -> Iterator[tuple[range, Float[Tensor, "copies pairs 3 height width"]]]:
    """The gradients of each pair's cosine at altered copies of its image, some copies at a time, in order.

    Args:
        probe: the pairs.
        copies: how many of each image.
        altered: the pixels of copies with these numbers, (copies, pairs, 3, height, width).
        gradient: how the backward goes.
    """
    pairs = len(probe.images)
    at_once = max(1, _AT_ONCE // pairs)
    for first in range(0, copies, at_once):
        numbers = range(first, min(first + at_once, copies))
        values = altered(numbers)
        of_pair = torch.arange(pairs, device=values.device).repeat(len(numbers))
        gradients = probe.gradient_at(of_pair, values.flatten(0, 1), gradient)
        yield numbers, gradients.unflatten(0, (len(numbers), pairs))


def by_patch(
    values: Float[Tensor, "pairs 3 height width"], grid: tuple[int, int]
) -> Float[Tensor, "pairs rows columns"]:
    """The sum over channels and over the pixels of each patch."""
    rows, columns = grid
    return values.sum(1).unflatten(2, (columns, -1)).unflatten(1, (rows, -1)).sum((2, 4))
