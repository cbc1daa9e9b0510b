"""Vision towers of HuggingFace models: what they pool with, what of them is recorded, and where their patches stand."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, scaled_dot_product_attention

from mmel_cli.model.adapter import CaptureRequest
from mmel_cli.model.balanced import balanced
from mmel_cli.model.capture import AttentionLayer, Recording, activations, one_head, record
from mmel_cli.model.sides import VisionSide
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
        with balanced(gradient, self.model.vision_model, self._attentions):
            return _image_features(self.model, values)

    def capture(self, values: Tensor, request: CaptureRequest) -> tuple[Recording, Tensor]:
        """See VisionSide."""
        blocks = self._blocks(request)
        attentions = [AttentionLayer.of(block) for block in blocks]
        with one_head(blocks if request.one_head else ()), record(attentions, outputs=request.outputs) as recording:
            return recording, self.embed(values, request.gradient)

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

    def patches(self, outputs: Tensor) -> Tensor:
        """See VisionSide."""
        return outputs[:, 1:]

    def project(self, patches: Tensor) -> Tensor:
        """See VisionSide: the norm and the projection of the class token."""
        return self.model.visual_projection(self.model.vision_model.post_layernorm(patches))

    def randomise(self, layers: int) -> None:
        """See VisionSide."""
        vision = self.model.vision_model
        _redraw([self.model.visual_projection, vision.post_layernorm, *reversed(vision.encoder.layers[-layers:])])

    def _blocks(self, request: CaptureRequest) -> list[Any]:
        return [self.model.vision_model.encoder.layers[number - 1] for number in request.layers]

    @property
    def _attentions(self) -> list[AttentionLayer]:
        return [AttentionLayer.of(block) for block in self.model.vision_model.encoder.layers]


@dataclass(frozen=True)
class ProbeVision:
    """SigLIP's: no class token; a learned probe asks all patches in one attention behind the last encoder layer.

    That attention is its last explained layer; in the encoder layers before it every patch asks.
    """

    model: Any
    size: tuple[int, int]

    @property
    def patch(self) -> int:
        """See VisionSide."""
        return int(self.model.config.vision_config.patch_size)

    @property
    def layers(self) -> int:
        """See VisionSide: the encoder's, and the pooling attention."""
        return int(self.model.config.vision_config.num_hidden_layers) + 1

    def embed(self, values: Tensor, gradient: Gradient = "plain") -> Tensor:
        """See VisionSide; the model's own pooling knows no rules."""
        if gradient == "plain":
            return _image_features(self.model, values)
        with balanced(gradient, self.model.vision_model, self._attentions) as rules:
            tokens = self.model.vision_model.post_layernorm(self._encode(values))
            return self._finish(self._attend(tokens, None, constant=rules.attention))[:, 0]

    def capture(self, values: Tensor, request: CaptureRequest) -> tuple[Recording, Tensor]:
        """See VisionSide; nn.MultiheadAttention shows its insides to no hook, so the pooling is computed here."""
        vision = self.model.vision_model
        attentions = [AttentionLayer.of(block) for block in self._blocks(request)]
        with balanced(request.gradient, vision, self._attentions) as rules:
            with record(attentions, outputs=request.outputs) as recording:
                last = self._encode(values)
            pools = self.layers in request.layers
            tokens = vision.post_layernorm(last)
            pooled = self._attend(tokens, recording if pools else None, constant=rules.attention)
            if pools and request.outputs:
                recording.outputs.append(last.detach())  # what the probe asks
            return recording, self._finish(pooled)[:, 0]

    def tower(self, recording: Recording, w: list[Tensor], index: Tensor, request: CaptureRequest) -> Tower:
        """See VisionSide."""
        shape = (len(index), recording.k[0].shape[1])
        outs = [AttentionLayer.of(block).out for block in self._blocks(request)]
        pools = self.layers in request.layers
        return Tower(
            numbers=request.layers,
            queries=(*[None] * len(outs), *([torch.zeros_like(index)] if pools else [])),
            places=torch.arange(shape[1], device=index.device).expand(len(index), -1),
            visible=torch.ones(shape, dtype=torch.bool, device=index.device),
            **activations(recording, w, index, outs + ([self._head.attention.out_proj] if pools else [])),
            heads=self.model.config.vision_config.num_attention_heads,
        )

    def patches(self, outputs: Tensor) -> Tensor:
        """See VisionSide."""
        return outputs

    def project(self, patches: Tensor) -> Tensor:
        """See VisionSide: the pooling as if all attention were on that patch."""
        weight, bias = (
            part.chunk(3)[2] for part in (self._head.attention.in_proj_weight, self._head.attention.in_proj_bias)
        )
        return self._finish(linear(self.model.vision_model.post_layernorm(patches), weight, bias))

    def randomise(self, layers: int) -> None:
        """See VisionSide: the pooling attention is the last layer."""
        vision = self.model.vision_model
        nn.init.xavier_uniform_(self._head.probe)
        before = len(vision.encoder.layers) - (layers - 1)
        _redraw([self._head, vision.post_layernorm, *reversed(vision.encoder.layers[max(0, before) :])])

    @property
    def _head(self) -> Any:
        return self.model.vision_model.head

    @property
    def _attentions(self) -> list[AttentionLayer]:
        return [AttentionLayer.of(block) for block in self.model.vision_model.encoder.layers]

    def _encode(self, values: Tensor) -> Tensor:
        """What the probe asks: the output of the last encoder layer."""
        vision = self.model.vision_model
        patches = vision.embeddings(values, interpolate_pos_encoding=_interpolates(self.model, values))
        return vision.encoder(inputs_embeds=patches).last_hidden_state

    def _attend(self, tokens: Tensor, recording: Recording | None, *, constant: bool) -> Tensor:
        """The probe's attention output before its projection, (images, 1, width), and its parts for the recording.

        With `constant` nothing flows back through the keys.
        """
        attention = self._head.attention
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        asks, keys = self._head.probe.expand(len(tokens), -1, -1), tokens.detach() if constant else tokens
        q, k, v = (linear(x, w, b) for x, w, b in zip((asks, keys, tokens), weights, biases, strict=True))
        heads = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
        pooled = scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        if recording is not None:
            if not recording.o:  # the graph starts here
                pooled = pooled.detach().requires_grad_()
            for store, part in ((recording.q, q), (recording.k, k), (recording.v, v)):
                store.append(part.detach())
            recording.o.append(pooled)
        return pooled

    def _finish(self, pooled: Tensor) -> Tensor:
        """What follows the probe's attention."""
        output = self._head.attention.out_proj(pooled)
        return output + self._head.mlp(self._head.layernorm(output))

    def _blocks(self, request: CaptureRequest) -> list[Any]:
        """The explained encoder layers."""
        return [self.model.vision_model.encoder.layers[n - 1] for n in request.layers if n < self.layers]


@torch.no_grad()
def alignment(
    side: VisionSide, outputs: list[Tensor], index: Int[Tensor, "pairs"], text: Float[Tensor, "pairs joint"]
) -> Float[Tensor, "pairs layers patches"]:
    """cos(each projected patch, text embedding) for every layer (METHOD 3 step 5); `text` are unit vectors."""
    layers = [normalize(side.project(side.patches(output)).float(), dim=-1)[index] for output in outputs]
    return torch.stack([torch.einsum("pid,pd->pi", layer, text) for layer in layers], 1)


def _image_features(model: Any, values: Tensor) -> Tensor:
    other = _interpolates(model, values)
    return model.get_image_features(pixel_values=values, interpolate_pos_encoding=other).pooler_output


def _interpolates(model: Any, values: Tensor) -> bool:
    """Whether the input is not what position embeddings were learned for; on their own grid they stay as they are."""
    side = model.config.vision_config.image_size
    return tuple(values.shape[-2:]) != (side, side)


def _redraw(blocks: list[Any]) -> None:
    """New values for every linear layer, norm and packed attention, in the order of the blocks."""
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.MultiheadAttention):
                module._reset_parameters()
            elif isinstance(module, (nn.Linear, nn.LayerNorm)):
                module.reset_parameters()
