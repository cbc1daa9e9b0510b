"""What the pipelines ask of a model, whatever its architecture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from PIL.Image import Image
from torch import Tensor

from mmel_cli.errors import ModelError
from mmel_cli.scoring import Scoring
from mmel_cli.tensors import Capture, Directions, Pixels
from mmel_cli.types import Gradient, Word

BUILTIN = "builtin"
BUILTIN_FOLDER = Path(__file__).parent / "builtin"


@dataclass(frozen=True)
class ModelSpec:
    """What is recorded of a loaded model."""

    name: str  # as the user gave it
    family: str  # the model_type of its config.json, or open_clip
    files: dict[str, str]  # SHA-256 of what was loaded: "weights", "config", "tokenizer", "processor"
    gives: frozenset[str]  # which parts of a CaptureRequest it can capture: "hidden", "alignment", "one_head" ...
    image_size: tuple[int, int]  # height, width of the input in pixels
    patch: int
    grid: tuple[int, int]  # patches: height, width
    layers: int  # of the vision tower
    text_layers: int
    max_tokens: int  # the most keys of a caption
    device: str
    dtype: str
    scoring: Scoring
    processor: dict[str, Any]  # the image processor's class and settings

    @property
    def sha256(self) -> str:
        """Of the weights as stored."""
        return self.files["weights"]


@dataclass(frozen=True)
class CaptureRequest:
    """What to capture: layer numbers from 1, and the optional parts of a Capture."""

    layers: tuple[int, ...]
    text_layers: tuple[int, ...]
    hidden: bool = False
    alignment: bool = False
    entering: bool = False  # what the explained attention reads, and its gradient (METHOD 2, grad-cam)
    own: bool = False  # gradients of each layer's own score (METHOD 2, legrad)
    alone: bool = False  # patches as if each attended to itself alone (METHOD 2, mask-clip)
    surgery: bool = False  # patches by attention of values to values (METHOD 2, clip-surgery)
    tails: bool = False  # what follows a block of each tower, to look at again (METHOD 2, exclip)
    one_head: bool = False  # run attention at the explained layers as one head (METHOD 2, heads: single)
    gradient: Gradient = "plain"  # how the backward goes (METHOD 2, balanced gradients)
    directed: str = ""  # who reads gradients along other directions of the joint space too, if anyone (METHOD 9)
    whole: bool = True  # the gradients of the score itself are wanted: w of both towers, and of what enters

    @property
    def outputs(self) -> bool:
        """Whether the outputs of the vision layers are needed."""
        return self.hidden or self.alignment

    @property
    def inputs(self) -> bool:
        """Whether the inputs of the vision layers are needed."""
        return self.alone or self.surgery


@dataclass(frozen=True)
class Captions:
    """C captions as token ids, padded to the longest, and what of them can be explained.

    The keys of a caption are the tokens that evidence is attributed to: those of its text, never start, end or padding.
    """

    ids: Int[Tensor, "captions length"]
    mask: Int[Tensor, "captions length"]  # 0 where a token is not attended to
    query: Int[Tensor, "captions"] | None  # position of the token that the text tower pools; None if it pools several
    places: Int[Tensor, "captions keys"]  # positions of the keys, -1 after a caption's last
    tokens: tuple[tuple[str, ...], ...]  # the text of each key, never empty
    words: tuple[tuple[Word, ...], ...]  # keys whose text touches, and where they stand in the caption
    owners: Int[Tensor, "captions keys"]  # which of `words` each key is of; -1: none, or behind the last key
    truncated: Bool[Tensor, "captions"]  # some tokens of the text are no keys: they did not fit

    def covered(self, row: int, kept: Bool[Tensor, "copies keys"]) -> "Captions":
        """One caption, once for each row of `kept`: keys that are not kept are not attended to.

        `kept` has a column for each key of the caption, or for each column of `places`.

        Raises:
            ModelError: if it has another number: what it was made from was read by another tokenizer.
        """
        count, own = len(kept), self.places[row][self.places[row] >= 0]
        if kept.shape[1] not in (len(own), self.places.shape[1]):
            raise ModelError(
                f"evidence of {kept.shape[1]} tokens for a caption that the model reads as {len(own)} "
                f"({' '.join(self.tokens[row])[:60]}); use the tokenizer that it was explained with"
            )
        mask = self.mask[row].repeat(count, 1)
        mask[:, own] *= kept[:, : len(own)].to(mask)
        return replace(
            self,
            ids=self.ids[row].expand(count, -1),
            mask=mask,
            query=None if self.query is None else self.query[row].expand(count),
            places=self.places[row].expand(count, -1),
            tokens=(self.tokens[row],) * count,
            words=(self.words[row],) * count,
            owners=self.owners[row].expand(count, -1),
            truncated=self.truncated[row].expand(count),
        )


@runtime_checkable
class Adapter(Protocol):
    """A model that can be explained."""

    @property
    def spec(self) -> ModelSpec:
        """What is recorded of it."""
        ...

    def preprocess(self, image: Image, geometry: str) -> Pixels:
        """Turn an upright RGB image into model input (thread-safe, on the CPU)."""
        ...

    def tokenize(self, captions: list[str]) -> Captions:
        """Turn captions into token ids; longer ones than the context are cut and say so."""
        ...

    def capture(
        self,
        images: list[Pixels],
        captions: Captions,
        pairs: list[tuple[int, int]],
        request: CaptureRequest,
        directions: Sequence[Directions] = (),
        *,
        against: list[int] | None = None,
    ) -> Capture:
        """Explain `pairs` (image index, caption index); every image and caption is encoded once, whatever its pairs.

        With `directions`, which `request.directed` asks for, also those: one more backward of the images for each
        further direction of the same one.
        With `against`, a caption index a pair, all that the image side has is of the difference of two scores: the
        caption's less that one's (METHOD 2). An adapter that has not "against" in `spec.gives` is not asked for it.
        """
        ...

    def embed_images(
        self, values: Float[Tensor, "images 3 height width"], *, graph: bool = False, gradient: Gradient = "plain"
    ) -> Float[Tensor, "images width"]:
        """Unit embeddings of preprocessed images, float32; with `graph`, to be differentiated at `values`.

        `gradient` is how that backward goes (METHOD 2, balanced gradients).
        """
        ...

    def embed_texts(self, captions: Captions) -> Float[Tensor, "captions width"]:
        """Unit embeddings of captions, float32, without a graph; a token whose mask is 0 is not attended to."""
        ...

    def randomised(self, layers: int, seed: int) -> "Adapter":
        """A copy whose vision tower is re-initialised from the top: projection, norm, last `layers` layers."""
        ...
