"""What the two halves of a model give the adapter that puts them together (two_towers)."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from mmel_cli.model.adapter import Captions, CaptureRequest
from mmel_cli.model.capture import AttentionLayer, Recording
from mmel_cli.tensors import Tower
from mmel_cli.types import Gradient


@runtime_checkable
class VisionSide(Protocol):
    """The image half of a model; `values` are the part of an input of `size` that its patches fill."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels that images are prepared to."""
        ...

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        ...

    @property
    def layers(self) -> int:
        """How many layers can be explained."""
        ...

    @property
    def attentions(self) -> list[AttentionLayer]:
        """All layers of the encoder, in order; what pools its output is none of them."""
        ...

    def embed(
        self, values: Float[Tensor, "images 3 height width"], gradient: Gradient = "plain"
    ) -> Float[Tensor, "images width"]:
        """Embeddings as the model makes them, not normalised; in the graph where gradients are on."""
        ...

    def capture(
        self, values: Float[Tensor, "images 3 height width"], request: CaptureRequest
    ) -> tuple[Recording, Tensor]:
        """One forward with the explained layers recorded: the recording and the embeddings, in the graph."""
        ...

    def tower(
        self, recording: Recording, w: list[Tensor], index: Int[Tensor, "pairs"], request: CaptureRequest
    ) -> Tower:
        """The explained layers of P pairs."""
        ...

    def own(self, recording: Recording, w: list[Tensor], index: Int[Tensor, "pairs"], request: CaptureRequest) -> Tower:
        """The attention behind each explained layer's own score, of P pairs; `recording` is the `own` of a capture's.

        That score is of the layer's output by itself: with a class token of the mean of its tokens, with a probe of
        what the probe pools of them, then norm and projection (METHOD 2, legrad).
        """
        ...

    def alone(self, recording: Recording, request: CaptureRequest) -> list[Float[Tensor, "images patches joint"]]:
        """Patches of each explained layer as if each had attended to itself alone, projected (METHOD 2, mask-clip)."""
        ...

    def surgery(self, recording: Recording, request: CaptureRequest) -> Float[Tensor, "images patches joint"]:
        """Patches by attention of values to values in the explained layers, projected (METHOD 2, clip-surgery)."""
        ...

    def patches(self, outputs: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "rows patches width"]:
        """A layer's output at the patches."""
        ...

    def project(self, patches: Float[Tensor, "rows patches width"]) -> Float[Tensor, "rows patches joint"]:
        """Each patch of a layer's output alone through what follows the last layer (METHOD 3 step 5)."""
        ...

    def randomise(self, layers: int) -> None:
        """Draw new values for what follows the last layer, and for the last `layers` layers, from the top."""
        ...


@runtime_checkable
class TextSide(Protocol):
    """The caption half of a model."""

    @property
    def layers(self) -> int:
        """How many layers can be explained."""
        ...

    @property
    def attentions(self) -> list[AttentionLayer]:
        """All layers, in order."""
        ...

    @property
    def max_tokens(self) -> int:
        """The most keys of a caption."""
        ...

    @property
    def neutral(self) -> int:
        """A token that says nothing, and in the place of text changes neither positions nor what is pooled; its id."""
        ...

    def tokenize(self, captions: list[str]) -> Captions:
        """See adapter.Adapter."""
        ...

    def embed(self, captions: Captions) -> Float[Tensor, "captions width"]:
        """Embeddings as the model makes them, not normalised; in the graph where gradients are on."""
        ...

    def capture(self, captions: Captions, request: CaptureRequest) -> tuple[Recording, Tensor]:
        """One forward with the explained layers recorded: the recording and the embeddings, in the graph."""
        ...

    def tower(
        self,
        recording: Recording,
        w: list[Tensor],
        index: Int[Tensor, "pairs"],
        captions: Captions,
        request: CaptureRequest,
    ) -> Tower:
        """The explained layers of P pairs."""
        ...
