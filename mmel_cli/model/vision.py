"""Vision towers of HuggingFace models that pool a class token (vision_probe.py: a probe), and what both kinds share."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmel_cli.model.adapter import CaptureRequest
from mmel_cli.model.balanced import balanced
from mmel_cli.model.capture import (
    AttentionLayer,
    Recording,
    activations,
    entering_norms,
    one_head,
    read_at_first_token,
    record,
)
from mmel_cli.model.patchwise import self_attended, surgery_path
from mmel_cli.tensors import Tower
from mmel_cli.types import Gradient


@dataclass(frozen=True)
class ClassVision:
    """CLIP's: a class token stands first, asks in every layer and is pooled (MetaCLIP 2, AltCLIP, Chinese-CLIP too)."""

    model: Any
    size: tuple[int, int]

    @property
    def patch(self) -> int:
        """See VisionSide."""
        return int(self.model.config.vision_config.patch_size)

    @property
    def layers(self) -> int:
        """See VisionSide."""
        return int(self.model.config.vision_config.num_hidden_layers)

    def embed(self, values: Tensor, gradient: Gradient = "plain") -> Tensor:
        """See VisionSide."""
        with balanced(gradient, self.model.vision_model, self.attentions):
            return image_features(self.model, values)

    def capture(self, values: Tensor, request: CaptureRequest) -> tuple[Recording, Tensor]:
        """See VisionSide."""
        blocks, embeds = self._blocks(request), list[Tensor]()

        def own(tokens: Tensor) -> None:
            embeds.append(self.project(tokens.mean(1, keepdim=True))[:, 0])

        with (
            balanced(request.gradient, self.model.vision_model, self.attentions),
            one_head(blocks if request.one_head else ()),
            record(
                [AttentionLayer.of(block) for block in blocks],
                inputs=request.inputs,
                outputs=request.outputs,
                entering=request.entering,
                own=own if request.own else None,
            ) as recording,
            entering_norms(self.attentions[-1]) as norms,
            read_at_first_token(self._last_mlp) if not request.own else nullcontext(),
        ):
            features = image_features(self.model, values)
        scored = replace(recording, embeds=embeds) if request.own else None
        return replace(recording, own=scored, norms=[lengths[:, 1:] for lengths in norms]), features

    def tower(self, recording: Recording, w: list[Tensor], index: Tensor, request: CaptureRequest) -> Tower:
        """See VisionSide."""
        shape = (len(index), recording.k[0].shape[1])
        tokens = torch.arange(shape[1], device=index.device)
        outs = [AttentionLayer.of(block).out for block in self._blocks(request)]
        return Tower(
            numbers=request.layers,
            queries=(torch.zeros_like(index),) * len(request.layers),
            places=tokens[1:].expand(len(index), -1),
            visible=torch.ones(shape, dtype=torch.bool, device=index.device),
            **activations(recording, w, index, outs),
            heads=1 if request.one_head else self.model.config.vision_config.num_attention_heads,
        )

    def own(self, recording: Recording, w: list[Tensor], index: Tensor, request: CaptureRequest) -> Tower:
        """See VisionSide: every row asks, for the score is that of the mean of all tokens."""
        return replace(self.tower(recording, w, index, request), queries=(None,) * len(w))

    def alone(self, recording: Recording, request: CaptureRequest) -> list[Tensor]:
        """See VisionSide."""
        layers = zip(self._blocks(request), recording.inputs, recording.v, strict=True)
        return [self.project(self.patches(self_attended(AttentionLayer.of(block), x, v))) for block, x, v in layers]

    def surgery(self, recording: Recording, request: CaptureRequest) -> Tensor:
        """See VisionSide."""
        layers = [AttentionLayer.of(block) for block in self._blocks(request)]
        heads = self.model.config.vision_config.num_attention_heads
        return self.project(self.patches(surgery_path(layers, recording, heads)))

    def patches(self, outputs: Tensor) -> Tensor:
        """See VisionSide."""
        return outputs[:, 1:]

    def project(self, patches: Tensor) -> Tensor:
        """See VisionSide: the norm and the projection of the class token."""
        return self.model.visual_projection(self.model.vision_model.post_layernorm(patches))

    def randomise(self, layers: int) -> None:
        """See VisionSide."""
        vision = self.model.vision_model
        redraw([self.model.visual_projection, vision.post_layernorm, *reversed(vision.encoder.layers[-layers:])])

    @property
    def _last_mlp(self) -> nn.Module:
        """Behind it only the class token is read, where layers have no scores of their own."""
        return self.model.vision_model.encoder.layers[-1].mlp

    def _blocks(self, request: CaptureRequest) -> list[Any]:
        return [self.model.vision_model.encoder.layers[number - 1] for number in request.layers]

    @property
    def attentions(self) -> list[AttentionLayer]:
        """See VisionSide."""
        return [AttentionLayer.of(block) for block in self.model.vision_model.encoder.layers]


def cosines(
    layers: list[Tensor], index: Int[Tensor, "pairs"] | None, text: Float[Tensor, "pairs joint"]
) -> Float[Tensor, "pairs layers patches"]:
    """cos(each patch's embedding, text embedding) for every layer; `text` are unit vectors; None: all in order."""
    embeds = [normalize(patches.float(), dim=-1) for patches in layers]
    units = embeds if index is None else [patches[index] for patches in embeds]
    return torch.stack([torch.einsum("pid,pd->pi", patches, text) for patches in units], 1)


def image_features(model: Any, values: Tensor) -> Tensor:
    """The embeddings as the model makes them, not normalised."""
    other = interpolates(model, values)
    return model.get_image_features(pixel_values=values, interpolate_pos_encoding=other).pooler_output


def interpolates(model: Any, values: Tensor) -> bool:
    """Whether the input is not what position embeddings were learned for; on their own grid they stay as they are."""
    side = model.config.vision_config.image_size
    return tuple(values.shape[-2:]) != (side, side)


def redraw(blocks: list[Any]) -> None:
    """New values for every linear layer, norm and packed attention, in the order of the blocks."""
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.MultiheadAttention):
                module._reset_parameters()
            elif isinstance(module, (nn.Linear, nn.LayerNorm)):
                module.reset_parameters()
