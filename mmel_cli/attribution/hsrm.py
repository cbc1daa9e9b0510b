"""Hierarchical Semantic Relationship Module, METHOD section 3: evidence of all layers to one map.

`extract` needs the model's activations and has no parameters (steps 1-3); `fuse` is light, differentiable and needs
only what an archive holds (steps 4-6).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize

from mmel_cli.attribution import ops
from mmel_cli.attribution.flow import FLOW
from mmel_cli.attribution.grad_eclip import LAMBDA, LOOSENED
from mmel_cli.attribution.weights import HsrmWeights
from mmel_cli.fields import Field
from mmel_cli.tensors import Capture, ImageSide, PatchMaps, RegionMaps

_LAYERS = ("layers", "rows", "columns")
ALIGNMENT = Field("layers/alignment", _LAYERS, "A_l: cosine of the projected patch and the text embedding")
ATTENTION = Field("layers/attention", _LAYERS, "attention of the query, mean over heads")
CHANNELS = ("loosened+", "loosened-", "flow+", "flow-")
FLOW_CHANNELS = slice(2, 4)
_PATCH_FIELDS = (LOOSENED, FLOW, ALIGNMENT, ATTENTION, LAMBDA)  # in the order of Evidence


def shared_field(scale: int) -> Field:
    """Evidence shared among look-alike regions of `scale` patches (METHOD 3 step 3), by channel."""
    dims = ("layers", f"channels({len(CHANNELS)})", f"regions({scale})")
    return Field(f"layers/shared_{scale}", dims, f"S_l at scale {scale} of {', '.join(CHANNELS)}")


def declared(scales: tuple[int, ...]) -> tuple[Field, ...]:
    """All that fusion needs of a pair: with these fields an archive can be fused again without the model."""
    return (*_PATCH_FIELDS, *(shared_field(scale) for scale in scales))


@dataclass(frozen=True)
class Evidence:
    """What fusion needs of P pairs."""

    loosened: PatchMaps  # G_l
    flow: PatchMaps  # C_l
    alignment: PatchMaps  # A_l, raw cosine
    attention: PatchMaps  # mean over heads of a[0, i]
    looseness: PatchMaps  # lambda_l
    shared: dict[int, RegionMaps]  # S_{l,r} of the four CHANNELS, by scale r

    @classmethod
    def of(cls, fields: dict[str, Tensor], scales: tuple[int, ...]) -> "Evidence":
        """From the fields of an archive or an Attribution, by name."""
        shared = {scale: fields[shared_field(scale).name] for scale in scales}
        loosened, flow, alignment, attention, looseness = (fields[field.name] for field in _PATCH_FIELDS)
        return cls(loosened, flow, alignment, attention, looseness, shared)

    def rows(self, rows: slice) -> "Evidence":
        """Of some of the pairs."""
        return Evidence.of({name: maps[rows] for name, maps in self.fields().items()}, tuple(self.shared))

    def fields(self) -> dict[str, Tensor]:
        """By the names of the declared fields; the reverse of `of`."""
        maps = (self.loosened, self.flow, self.alignment, self.attention, self.looseness)
        by_name = {field.name: maps_of for field, maps_of in zip(_PATCH_FIELDS, maps, strict=True)}
        return by_name | {shared_field(scale).name: maps_of for scale, maps_of in self.shared.items()}


def extract(capture: Capture | ImageSide, scales: tuple[int, ...], temperature: float) -> Evidence:
    """METHOD 2 and 3, steps 1-3 without parameters.

    Raises:
        ValueError: if the capture lacks `hidden` or `alignment`.
    """
    if capture.alignment is None or not capture.hidden:
        raise ValueError("HSRM needs a capture with hidden states and alignment")
    tower, grid = capture.image, capture.grid
    layers = range(len(tower.numbers))
    both = [ops.loosened(tower, layer) for layer in layers]
    loosened = ops.patches([evidence for _, evidence in both], grid)
    exact = [ops.flow_and_attended(tower, layer) for layer in layers]
    flow = ops.patches([evidence for evidence, _ in exact], grid)
    channels = split_signs(loosened, flow)
    shared = {
        scale: torch.stack(
            [
                share(pool(channels[:, layer], scale), region_features(capture.hidden[layer], grid, scale), temperature)
                for layer in layers
            ],
            1,
        )
        for scale in scales
    }
    return Evidence(
        loosened=loosened,
        flow=flow,
        alignment=capture.alignment.unflatten(-1, grid),
        attention=ops.patches([attended for _, attended in exact], grid),
        looseness=ops.patches([weight for weight, _ in both], grid),
        shared=shared,
    )


def split_signs(loosened: PatchMaps, flow: PatchMaps) -> Float[Tensor, "pairs layers 4 height width"]:
    """Step 1's four channels, in the order of CHANNELS."""
    return torch.stack([loosened.clamp_min(0), loosened.clamp_max(0), flow.clamp_min(0), flow.clamp_max(0)], 2)


def pool(maps: Float[Tensor, "*batch height width"], scale: int) -> Float[Tensor, "*batch rows columns"]:
    """Step 2: average over r x r patches; adaptive where the grid does not divide (ceil(h/r) x ceil(w/r) regions)."""
    if scale == 1:
        return maps
    height, width = maps.shape[-2:]
    size = (-(-height // scale), -(-width // scale))
    return adaptive_avg_pool2d(maps.flatten(0, -3), size).unflatten(0, maps.shape[:-2])


def region_features(
    hidden: Float[Tensor, "pairs patches width"], grid: tuple[int, int], scale: int
) -> Float[Tensor, "pairs regions width"]:
    """Step 3's f: layer outputs, mean-centred over the image, pooled to regions, of unit length."""
    centred = hidden - hidden.mean(1, keepdim=True)
    regions = pool(centred.transpose(1, 2).unflatten(-1, grid), scale)
    return normalize(regions.flatten(2).transpose(1, 2), dim=-1)


def share(
    pooled: Float[Tensor, "pairs 4 rows columns"], features: Float[Tensor, "pairs regions width"], temperature: float
) -> Float[Tensor, "pairs 4 rows columns"]:
    """Step 3: S = B P with B = softmax_j(cos(f_i, f_j) / tau), evidence shared among regions that look alike."""
    relation = (features @ features.transpose(1, 2) / temperature).softmax(-1)
    return (pooled.flatten(2) @ relation.transpose(1, 2)).view_as(pooled)


def fuse(evidence: Evidence, weights: HsrmWeights) -> Float[Tensor, "pairs height width"]:
    """Steps 4-6: mix, hierarchy over scales, cross-modal gate, layer weights; signed."""
    grid = (evidence.flow.shape[-2], evidence.flow.shape[-1])
    mix = weights.channel_mix()
    mixed = torch.einsum("plchw,c->plhw", split_signs(evidence.loosened, evidence.flow), mix)
    blend, relation = weights.scale_blend(), weights.relation.sigmoid()
    hierarchy = torch.zeros_like(evidence.flow)
    for r, scale in enumerate(weights.scales):
        own = pool(mixed, scale)  # pooling and mixing are linear: in either order
        shared = torch.einsum("plchw,c->plhw", evidence.shared[scale], mix)
        regions = _enlarged((1 - relation[r]) * own + relation[r] * shared, grid, scale)
        hierarchy = hierarchy + blend[r] * regions
    return torch.einsum("plhw,plhw,l->phw", gate(evidence, weights), hierarchy, weights.layer_weights())


def gate(evidence: Evidence, weights: HsrmWeights) -> PatchMaps:
    """Step 5: u_l[i] = sigmoid(c . (1, A_l[i] min-max, lambda_l[i], mean_h a_l[0, i], K[i]) + sum_r d_r V_r[i])."""
    flat = evidence.alignment.flatten(2)
    aligned = ops.minmax(flat, torch.ones_like(flat, dtype=torch.bool)).view_as(evidence.alignment)
    supported = support(evidence)[:, None].expand_as(aligned)
    inputs = [torch.ones_like(aligned), aligned, evidence.looseness, evidence.attention, supported]
    own = torch.einsum("plhwk,k->plhw", torch.stack(inputs, -1), weights.gate)
    common = torch.einsum("prhw,r->phw", consensus(evidence, weights.scales), weights.consensus)
    return (own + common[:, None]).sigmoid()


def support(evidence: Evidence) -> Float[Tensor, "pairs height width"]:
    """Step 5's K: positive loosened evidence of all layers, its largest 1."""
    return _to_one(evidence.loosened.clamp_min(0).sum(1))


def consensus(evidence: Evidence, scales: tuple[int, ...]) -> Float[Tensor, "pairs scales height width"]:
    """Step 5's V_r: flow shared among look-alike regions, summed over all layers, its largest magnitude 1."""
    grid = (evidence.flow.shape[-2], evidence.flow.shape[-1])
    shared_maps = []
    for scale in scales:
        total = evidence.shared[scale][:, :, FLOW_CHANNELS].sum((1, 2))
        shared_maps.append(_enlarged(total[:, None], grid, scale)[:, 0])
    return _to_one(torch.stack(shared_maps, 1))


def _to_one(maps: Float[Tensor, "*batch height width"]) -> Float[Tensor, "*batch height width"]:
    """Each map divided by its largest magnitude; a map of zeros stays."""
    return maps / maps.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def _enlarged(regions: Tensor, grid: tuple[int, int], scale: int) -> Tensor:
    """Step 4's up: regions to patches."""
    return regions if scale == 1 else interpolate(regions, grid, mode="bilinear", align_corners=False)
