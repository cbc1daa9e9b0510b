"""What travels between the stages: frozen dataclasses of plain values and numpy arrays (tensors.py: the torch side)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the original image, after EXIF orientation."""

Map = Float[np.ndarray, "height width"]
LayerMaps = Float[np.ndarray, "layers height width"]
SharedMaps = Float[np.ndarray, "layers channels region_height region_width"]


@dataclass(frozen=True)
class ImageRef:
    """The bytes of an image or a mask, whatever holds them: a file, a member of an archive, a row of a table.

    Two references are equal if their keys are, so what is cached by reference or by key is decoded once.
    """

    key: str  # what messages call it, and unlike that of any other image: a path, or "photos.zip/a.jpg"
    open: Callable[[], BinaryIO] = field(compare=False, repr=False)  # seekable, at its start; RecordError if refused


@dataclass(frozen=True)
class Sample:
    """One image-caption pair of the input."""

    id: str  # the path relative to INPUT with its suffix, then "#k" for the image's k-th caption, from 0
    image: str  # the path relative to INPUT, with forward slashes
    ref: ImageRef
    caption: str
    mask: ImageRef | None = None  # what the caption is about, as an image of the same size, non-zero inside
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Failure:
    """One pair that could not be explained, and why."""

    id: str
    stage: str  # "pair", "image", "caption" or "model"
    error: str


@dataclass(frozen=True)
class Explanation:
    """The maps of one pair, as they are archived: float32, signed, unnormalised."""

    id: str
    image: str
    caption: str
    truncated: bool  # the caption was longer than the model's context and its end was cut
    score: float  # cosine of the image and text embeddings
    image_size: tuple[int, int]  # height, width of the original, in pixels
    box: Box  # the part of the original that the grid covers
    map: Map
    layers: dict[str, LayerMaps] = field(default_factory=dict)  # by kind: loosened, flow, alignment, attention, lambda
    shared: dict[int, SharedMaps] = field(default_factory=dict)  # by scale, METHOD 3 step 3
    tokens: tuple[str, ...] = ()  # the caption's tokens between start and end
    token_map: Float[np.ndarray, "tokens"] = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True)
class RunInfo:
    """What an archive says about the run that made it: the root attributes of every shard."""

    model: str
    model_sha256: str
    method: str
    layers: tuple[int, ...]  # explained vision layers, from 1
    grid: tuple[int, int]  # patches: height, width
    patch: int  # pixels of the model's input a patch
    image_size: tuple[int, int]  # the model's input: height, width in pixels
    geometry: str
    max_tokens: int  # T: the longest caption between start and end token
    device: str
    dtype: str
    config: dict[str, Any]  # the resolved configuration
    config_sha256: str  # the fingerprint that a resumed run must share
    versions: dict[str, str]  # mmel, torch, transformers
