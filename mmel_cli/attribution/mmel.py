"""MMEL, our formulation: evidence of all layers fused by the Hierarchical Semantic Relationship Module (METHOD 3)."""

from dataclasses import dataclass
from pathlib import Path

import torch

from mmel_cli.attribution import hsrm, ops
from mmel_cli.attribution.base import LayerParams, Method, Target
from mmel_cli.attribution.weights import DEFAULT_MIX, DEFAULT_NEGATIVE, HsrmWeights, load_weights, untrained
from mmel_cli.tensors import Attribution, Capture, TokenRow, Tower


@dataclass(frozen=True)
class Params(LayerParams):
    """`scales` in patches a region side, `temperature` of the semantic relation (tau), `weights` a safetensors file."""

    scales: tuple[int, ...] = (1, 2, 4)
    temperature: float = 0.1
    weights: Path | None = None


def prepare(params: Params, target: Target) -> HsrmWeights:
    """The weights file, or the untrained defaults."""
    if params.weights is not None:
        return load_weights(params.weights, target, params.scales)
    return untrained(len(target.layers), params.scales)


def explain(capture: Capture, params: Params, state: HsrmWeights) -> Attribution:
    """The fused map, every raw map it was made of, and a token map with the untrained mix."""
    evidence = hsrm.extract(capture, params.scales, params.temperature)
    return Attribution(
        map=hsrm.fuse(evidence, state.to(capture.score.device)),
        tokens=_tokens(capture.text),
        layers={
            "loosened": evidence.loosened,
            "flow": evidence.flow,
            "alignment": evidence.alignment,
            "attention": evidence.attention,
            "lambda": evidence.looseness,
        },
        shared=evidence.shared,
    )


def _tokens(tower: Tower) -> TokenRow:
    """Step 1 on the caption, summed over layers: tokens have no grid, so steps 2-5 do not apply."""
    total = torch.zeros_like(tower.keys, dtype=torch.float32)
    for layer in range(len(tower.numbers)):
        loosened = ops.loosened(tower, layer, ops.looseness(tower, layer))
        for share, evidence in ((1 - DEFAULT_MIX, loosened), (DEFAULT_MIX, ops.flow(tower, layer))):
            total = total + share * (evidence.clamp_min(0) + DEFAULT_NEGATIVE * evidence.clamp_max(0))
    return total


METHOD = Method(
    name="mmel",
    summary="evidence of all layers, fused over scales, look-alike regions, text alignment and layers",
    source="our formulation of MMEL (arXiv 2509.15243), METHOD 3",
    params=Params,
    explain=explain,
    needs=frozenset({"hidden", "alignment"}),
    prepare=prepare,
)
