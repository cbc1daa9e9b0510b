"""What the pipelines ask of a model, whatever its architecture."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from PIL.Image import Image
from torch import Tensor

from mmel_cli.tensors import Capture
from mmel_cli.types import Box

BUILTIN = "builtin"
BUILTIN_FOLDER = Path(__file__).parent / "builtin"


@dataclass(frozen=True)
class ModelSpec:
    """What is recorded of a loaded model."""

    name: str  # as the user gave it
    sha256: str  # of the weights as stored
    image_size: tuple[int, int]  # height, width of the input in pixels
    patch: int
    grid: tuple[int, int]  # patches: height, width
    layers: int  # of the vision tower
    text_layers: int
    max_tokens: int  # between BOS and EOS
    device: str
    dtype: str
    logit_scale: float  # the learned temperature, as a factor of the cosine
    processor: dict[str, Any]  # the image processor's class and settings
    files: dict[str, str] = field(default_factory=dict)  # SHA-256 of what was loaded, by its role: weights, config ...


@dataclass(frozen=True)
class CaptureRequest:
    """What to capture: layer numbers from 1, and the optional parts of a Capture."""

    layers: tuple[int, ...]
    text_layers: tuple[int, ...]
    hidden: bool = False
    alignment: bool = False
    one_head: bool = False  # run attention at the explained layers as one head (METHOD 2, heads: single)


@dataclass(frozen=True)
class Pixels:
    """One preprocessed image and the part of the original that its patch grid covers."""

    values: Float[Tensor, "3 height width"]
    box: Box


@dataclass(frozen=True)
class Words:
    """C distinct captions as token ids, padded to the longest."""

    ids: Int[Tensor, "captions length"]
    mask: Int[Tensor, "captions length"]
    end: Int[Tensor, "captions"]  # position of the EOS token
    tokens: tuple[tuple[str, ...], ...]  # the tokens between BOS and EOS
    truncated: Bool[Tensor, "captions"]


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

    def tokenize(self, captions: list[str]) -> Words:
        """Turn captions into token ids; longer ones than the context are cut and say so."""
        ...

    def capture(
        self, images: list[Pixels], words: Words, pairs: list[tuple[int, int]], request: CaptureRequest
    ) -> Capture:
        """Explain `pairs` (image index, caption index); every image and caption is encoded once, whatever its pairs."""
        ...

    def embed_images(
        self, values: Float[Tensor, "images 3 height width"], *, graph: bool = False
    ) -> Float[Tensor, "images width"]:
        """Unit embeddings of preprocessed images, float32; with `graph`, to be differentiated at `values`."""
        ...

    def embed_texts(self, words: Words) -> Float[Tensor, "captions width"]:
        """Unit embeddings of captions, float32, without a graph; a token whose mask is 0 is not attended to."""
        ...

    def randomised(self, layers: int, seed: int) -> "Adapter":
        """A copy whose vision tower is re-initialised from the top: projection, norm, last `layers` layers."""
        ...


def load_model(name: str, device: str, dtype: str) -> Adapter:
    """Load a HuggingFace CLIP by id or path, or the builtin one.

    Args:
        name: hub id, folder, or "builtin".
        device: "auto", "cpu", "cuda" or "cuda:i".
        dtype: "auto" (float32), "float32", "bfloat16" or "float16".

    Raises:
        ModelError: when it cannot be loaded or is no CLIP.
        UsageError: for a device or dtype that is not there.
    """
    from mmel_cli.model.hf_clip import load_clip  # noqa: PLC0415 - transformers takes seconds to import

    return load_clip(name, device, dtype)
