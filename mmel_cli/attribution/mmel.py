"""MMEL, our formulation: evidence of all layers fused by the Hierarchical Semantic Relationship Module (METHOD 3)."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mmel_cli.attribution import hsrm, ops
from mmel_cli.attribution.base import BalancedParams, Method, Target
from mmel_cli.attribution.weights import (
    DEFAULT_MIX,
    DEFAULT_NEGATIVE,
    METHOD_VERSION,
    EvidenceKind,
    HsrmWeights,
    choose_weights,
)
from mmel_cli.fields import MAP, TOKEN_MAP, Field
from mmel_cli.tensors import Attribution, Capture, ImageSide, KeyRow, Tower
from mmel_cli.types import Trained


@dataclass(frozen=True)
class Params(BalancedParams):
    """`scales` in patches a region side, `temperature` of the semantic relation (tau).

    `weights`: "auto" (those that ship for the model, else untrained), "untrained", or a file of `mmel train-weights`;
    `transfer` lets that be one of another model.
    """

    scales: tuple[int, ...] = (1, 2, 4)
    temperature: float = 0.1
    weights: str = "auto"
    transfer: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales or self.scales[0] < 1 or any(a >= b for a, b in pairwise(self.scales)):
            raise ValueError(f"method.scales: {list(self.scales)} must be whole patches from 1, ascending and distinct")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"method.temperature: {self.temperature} must be greater than 0")


def prepare(params: Params, target: Target) -> HsrmWeights:
    """The weights that the parameters mean for this model."""
    return _choose(params, target)[0]


def _choose(params: Params, target: Target) -> tuple[HsrmWeights, Trained, str]:
    evidence = EvidenceKind(params.gradient, params.temperature)
    return choose_weights(params.weights, target, params.scales, evidence=evidence, transfer=params.transfer)


def decides(params: Params, target: Target) -> dict[str, str]:
    """The content of the weights: a file may change under its name, and the same may lie elsewhere."""
    return {"weights_sha256": _choose(params, target)[0].digest()}


def describe(params: Params, target: Target) -> dict[str, str]:
    """Where the weights come from, and what they make of each layer."""
    weights, trained, origin = _choose(params, target)
    layers = " ".join(f"{weight:.4f}" for weight in weights.layer_weights().tolist())
    return {"weights": origin, "trained": trained, "layer_weights": layers}


def explain(capture: Capture, params: Params, state: HsrmWeights) -> Attribution:
    """The fused map, every raw map it was made of, and a token map with the untrained mix."""
    evidence = hsrm.extract(capture, params.scales, params.temperature)
    fused = hsrm.fuse(evidence, state.to(capture.score.device))
    return Attribution({MAP.name: fused, TOKEN_MAP.name: _tokens(capture.text)} | evidence.fields())


def along(side: ImageSide, params: Params, state: HsrmWeights) -> Tensor:
    """The fused map of each direction."""
    return hsrm.fuse(hsrm.extract(side, params.scales, params.temperature), state.to(side.image.places.device))


def fuse(fields: dict[str, Tensor], params: Params, state: HsrmWeights) -> Tensor:
    """The fused map from the other fields."""
    return hsrm.fuse(hsrm.Evidence.of(fields, params.scales), state.to(next(iter(fields.values())).device))


def declared(params: Params, _target: Target) -> tuple[Field, ...]:
    """The map, the token map, and every raw map that the fusion is made of."""
    return (MAP, TOKEN_MAP, *hsrm.declared(params.scales))


def _tokens(tower: Tower) -> KeyRow:
    """Step 1 on the caption, summed over layers: tokens have no grid, so steps 2-5 do not apply."""
    total = torch.zeros(tower.keys.shape, device=tower.keys.device)
    for layer in range(len(tower.numbers)):
        _, loosened = ops.loosened(tower, layer)
        for share, evidence in ((1 - DEFAULT_MIX, loosened), (DEFAULT_MIX, ops.flow(tower, layer))):
            total = total + share * (evidence.clamp_min(0) + DEFAULT_NEGATIVE * evidence.clamp_max(0))
    return total


METHOD = Method(
    name="mmel",
    summary="evidence of all layers, fused over scales, look-alike regions, text alignment and layers",
    source="our formulation of MMEL (arXiv 2509.15243), METHOD 3",
    cost="1 forward and 1 backward, and the evidence of each layer",
    on_probe="as grad-eclip and flow do; alignment is that of a patch that the probe attends to alone",
    params=Params,
    explain=explain,
    needs=frozenset({"hidden", "alignment"}),
    fields=declared,
    along=along,
    fuse=fuse,
    prepare=prepare,
    decides=decides,
    describe=describe,
    version=METHOD_VERSION,
)
