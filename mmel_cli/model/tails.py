"""What follows a block of a tower, for outputs of that block other than its own (tensors.Tails)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize

from mmel_cli.model.adapter import Captions
from mmel_cli.model.capture import AttentionLayer, record
from mmel_cli.model.sides import TextSide, VisionSide
from mmel_cli.tensors import Tail


@contextmanager
def resumed(layers: Sequence[AttentionLayer], tokens: Tensor) -> Iterator[None]:
    """Forwards in this block go on with `tokens` behind `layers`, the first ones of an encoder, which compute nothing.

    The layers are what they were when the block ends, also after an exception.
    """

    def passed_over(*_inputs: Any, **_options: Any) -> Tensor:
        return tokens

    with ExitStack() as restore:
        for layer in layers:
            block: Any = layer.block
            block.forward = passed_over
            restore.callback(vars(block).pop, "forward")
        yield


@dataclass(frozen=True)
class TowerTails:
    """Distinct images and captions, and the pairs made of them; implements tensors.Tails."""

    vision: VisionSide
    text: TextSide
    values: Float[Tensor, "images 3 height width"]
    captions: Captions
    images: Int[Tensor, "pairs"]
    rows: Int[Tensor, "pairs"]

    @property
    def layers(self) -> int:
        """See tensors.Tails."""
        return self.vision.layers

    @property
    def text_layers(self) -> int:
        """See tensors.Tails."""
        return self.text.layers

    def of_image(self, image: int, block: int) -> Tail:
        """See tensors.Tails; one forward of two images."""
        values = self.values[image, None]

        def embedded(copies: int) -> Tensor:
            return self.vision.embed(values.expand(copies, -1, -1, -1))

        both = torch.cat([values, torch.zeros_like(values)])
        return _tail(self.vision.attentions[:block], lambda: self.vision.embed(both), embedded)

    def of_text(self, row: int, block: int) -> Tail:
        """See tensors.Tails; one forward of two captions."""
        keys = int((self.captions.places[row] >= 0).sum())

        def copied(copies: int) -> Captions:
            return self.captions.covered(row, torch.ones(copies, keys, dtype=torch.bool))

        both = copied(2)
        silent = both.ids[1].index_fill(0, both.places[1, :keys], self.text.neutral)
        both = replace(both, ids=torch.stack([both.ids[0], silent]))

        def embedded(copies: int) -> Tensor:
            return self.text.embed(copied(copies))

        return _tail(self.text.attentions[:block], lambda: self.text.embed(both), embedded)


def _tail(layers: list[AttentionLayer], both: Callable[[], Tensor], embedded: Callable[[int], Tensor]) -> Tail:
    """Behind the last of `layers`.

    Args:
        layers: the first ones of the encoder.
        both: makes a forward of the input and of its reference.
        embedded: embeddings of so many copies of the input.
    """
    with torch.no_grad(), record(layers[-1:], outputs=True) as recording:
        both()

    def embed(tokens: Float[Tensor, "copies tokens width"]) -> Float[Tensor, "copies embedding"]:
        # no fused kernel goes forwards in forward mode, or backwards in a batch
        with resumed(layers, tokens), sdpa_kernel(SDPBackend.MATH):
            return normalize(embedded(len(tokens)).float(), dim=-1)

    output, reference = recording.outputs[0]
    return Tail(output, reference, embed)
