"""Image tokens by other attention than the model's own, made after its forward: to themselves, or values to values."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmel_cli.model.capture import AttentionLayer, Recording


def self_attended(layer: AttentionLayer, inputs: Tensor, v: Tensor) -> Tensor:
    """A pre-norm layer's output as if each token attended to itself alone (METHOD 2, mask-clip).

    Args:
        layer: with layer_norm2 and mlp.
        inputs: (images, tokens, width) of the layer.
        v: (images, tokens, width) its values, heads side by side.
    """
    block: Any = layer.block
    attended = inputs + layer.out(v)
    return attended + block.mlp(block.layer_norm2(attended))


def surgery_path(layers: Sequence[AttentionLayer], recording: Recording, heads: int) -> Tensor:
    """What enters the first explained layer, plus each layer's attention of values to values, projected, without MLPs.

    The values are those of the model's own forward (METHOD 2, clip-surgery). With no layers it is what enters: in a
    recording of a pooling layer alone, what that reads.
    """
    path = recording.inputs[0]
    for layer, v in zip(layers, recording.v, strict=False):  # a pooling layer's values are no part of it
        path = path + layer.out(value_attention(v, heads))
    return path


def value_attention(v: Tensor, heads: int) -> Tensor:
    """softmax(v v^T / sqrt d) v in each head, for v of (images, tokens, width) with heads side by side."""
    by_head = v.unflatten(-1, (heads, -1)).transpose(1, 2)
    return scaled_dot_product_attention(by_head, by_head, by_head).transpose(1, 2).flatten(2)
