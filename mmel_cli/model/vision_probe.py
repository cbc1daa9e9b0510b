"""Vision towers of HuggingFace models that a learned probe pools (SigLIP)."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from mmel_cli.model.adapter import CaptureRequest
from mmel_cli.model.balanced import balanced
from mmel_cli.model.capture import AttentionLayer, Recording, activations, record
from mmel_cli.model.patchwise import self_attended, surgery_path, value_attention
from mmel_cli.model.vision import image_features, interpolates, redraw
from mmel_cli.tensors import Tower
from mmel_cli.types import Gradient


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
            return image_features(self.model, values)
        with balanced(gradient, self.model.vision_model, self.attentions) as rules:
            tokens = self.model.vision_model.post_layernorm(self._encode(values))
            return self._finish(self._attend(tokens, None, constant=rules.attention))[:, 0]

    def capture(self, values: Tensor, request: CaptureRequest) -> tuple[Recording, Tensor]:
        """See VisionSide; nn.MultiheadAttention shows its insides to no hook, so the pooling is computed here."""
        vision = self.model.vision_model
        attentions = [AttentionLayer.of(block) for block in self._blocks(request)]
        pools = self.layers in request.layers
        with balanced(request.gradient, vision, self.attentions) as rules:
            scored = Recording()
            own = partial(self._own, scored, constant=rules.attention) if request.own else None
            with record(
                attentions, inputs=request.inputs, outputs=request.outputs, entering=request.entering, own=own
            ) as recording:
                last = self._encode(values)
            tokens = vision.post_layernorm(last)
            if pools:
                tokens = self._entered(tokens, recording, request)
                for store, wanted in ((recording.inputs, request.inputs), (recording.outputs, request.outputs)):
                    store.extend([last.detach()] if wanted else [])  # what the probe asks
                if own is not None and self.layers - 1 not in request.layers:
                    own(last)
            pooled = self._attend(tokens, recording if pools else None, constant=rules.attention)
            norms = [last.detach().float().norm(dim=-1)]
            return replace(recording, own=scored if request.own else None, norms=norms), self._finish(pooled)[:, 0]

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

    def own(self, recording: Recording, w: list[Tensor], index: Tensor, request: CaptureRequest) -> Tower:
        """See VisionSide: the probe asks each encoder layer's output; the pooling layer is that of the last one."""
        shape = (len(index), recording.k[0].shape[1])
        return Tower(
            numbers=tuple(sorted({min(number, self.layers - 1) for number in request.layers})),
            queries=(torch.zeros_like(index),) * len(w),
            places=torch.arange(shape[1], device=index.device).expand(len(index), -1),
            visible=torch.ones(shape, dtype=torch.bool, device=index.device),
            **activations(recording, w, index, [self._head.attention.out_proj] * len(w)),
            heads=self.model.config.vision_config.num_attention_heads,
        )

    def alone(self, recording: Recording, request: CaptureRequest) -> list[Tensor]:
        """See VisionSide: in the pooling layer every patch is all that the probe attends to."""
        layers = zip(self._blocks(request), recording.inputs, recording.v, strict=False)  # the pooling is no block
        alone = [self.project(self_attended(AttentionLayer.of(block), x, v)) for block, x, v in layers]
        return [*alone, self.project(recording.inputs[-1])] if self.layers in request.layers else alone

    def surgery(self, recording: Recording, request: CaptureRequest) -> Tensor:
        """See VisionSide: in the pooling layer patches attend to each other by their values there."""
        heads = self.model.config.vision_config.num_attention_heads
        path = surgery_path([AttentionLayer.of(block) for block in self._blocks(request)], recording, heads)
        if self.layers not in request.layers:
            return self.project(path)
        return self._finish(value_attention(self._values(path), heads))

    def patches(self, outputs: Tensor) -> Tensor:
        """See VisionSide."""
        return outputs

    def project(self, patches: Tensor) -> Tensor:
        """See VisionSide: the pooling as if all attention were on that patch."""
        return self._finish(self._values(patches))

    def randomise(self, layers: int) -> None:
        """See VisionSide: the pooling attention is the last layer."""
        vision = self.model.vision_model
        nn.init.xavier_uniform_(self._head.probe)
        before = len(vision.encoder.layers) - (layers - 1)
        redraw([self._head, vision.post_layernorm, *reversed(vision.encoder.layers[max(0, before) :])])

    @property
    def _head(self) -> Any:
        return self.model.vision_model.head

    @property
    def attentions(self) -> list[AttentionLayer]:
        """See VisionSide."""
        return [AttentionLayer.of(block) for block in self.model.vision_model.encoder.layers]

    def _encode(self, values: Tensor) -> Tensor:
        """What the probe asks: the output of the last encoder layer."""
        vision = self.model.vision_model
        patches = vision.embeddings(values, interpolate_pos_encoding=interpolates(self.model, values))
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
            if not (recording.o or recording.entering):  # the graph starts here
                pooled = pooled.detach().requires_grad_()
            for store, part in ((recording.q, q), (recording.k, k), (recording.v, v)):
                store.append(part.detach())
            recording.o.append(pooled)
        return pooled

    def _entered(self, tokens: Tensor, recording: Recording, request: CaptureRequest) -> Tensor:
        """What the probe asks, recorded if wanted; the graph starts there if no layer before it is explained."""
        if request.entering:
            tokens = tokens if recording.entering else tokens.detach().requires_grad_()
            recording.entering.append(tokens)
        return tokens

    def _own(self, scored: Recording, output: Tensor, *, constant: bool) -> None:
        """The pooling of an encoder layer's output, as the last one's is; its graph starts at the pooled values."""
        part = Recording()
        pooled = self._attend(self.model.vision_model.post_layernorm(output), part, constant=constant)
        for name in ("q", "k", "v", "o"):
            getattr(scored, name).extend(getattr(part, name))
        scored.embeds.append(self._finish(pooled)[:, 0])

    def _values(self, patches: Tensor) -> Tensor:
        """The values of the probe's attention for tokens of an encoder layer."""
        weight, bias = (
            part.chunk(3)[2] for part in (self._head.attention.in_proj_weight, self._head.attention.in_proj_bias)
        )
        return linear(self.model.vision_model.post_layernorm(patches), weight, bias)

    def _finish(self, pooled: Tensor) -> Tensor:
        """What follows the probe's attention."""
        output = self._head.attention.out_proj(pooled)
        return output + self._head.mlp(self._head.layernorm(output))

    def _blocks(self, request: CaptureRequest) -> list[Any]:
        """The explained encoder layers."""
        return [self.model.vision_model.encoder.layers[n - 1] for n in request.layers if n < self.layers]
