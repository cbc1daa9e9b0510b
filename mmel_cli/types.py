"""What travels between the stages: frozen dataclasses of plain values and numpy arrays (tensors.py: the torch side)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Literal

import numpy as np
from jaxtyping import Float

from mmel_cli.fields import PHRASE_SPAN, TOKEN_MAP, WORD_SHARE, WORD_VALUE, Field, Sizes

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the original image, after EXIF orientation."""

Map = Float[np.ndarray, "height width"]
Gradient = Literal["plain", "balanced", "balanced-norms", "none"]
Trained = Literal["untrained", "shipped", "file"]


@dataclass(frozen=True)
class Word:
    """A word of a caption, as the model's tokenizer parts it, or a phrase of words: its text and where it stands."""

    text: str
    start: int  # characters of the caption
    end: int  # exclusive


@dataclass(frozen=True)
class ImageRef:
    """The bytes of an image or a mask, whatever holds them: a file, a member of an archive, a row of a table.

    Two references are equal if their keys are, so what is cached by reference or by key is decoded once.
    """

    key: str  # what messages call it, and unlike that of any other image: a path, or "photos.zip/a.jpg"
    open: Callable[[], BinaryIO] = field(compare=False, repr=False)  # seekable, at its start; RecordError if refused


@dataclass(frozen=True)
class Phrase:
    """A part of a caption that names something, and where the input says that this is, if it does."""

    start: int  # characters of the caption
    end: int  # exclusive
    mask: ImageRef | None = None  # an image of the same size, non-zero inside
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One image-caption pair of the input."""

    id: str  # the path relative to INPUT with its suffix, then "#k" for the image's k-th caption, from 0
    image: str  # the path relative to INPUT, with forward slashes
    ref: ImageRef
    caption: str
    mask: ImageRef | None = None  # what the caption is about, as an image of the same size, non-zero inside
    boxes: tuple[Box, ...] = ()
    phrases: tuple[Phrase, ...] = ()  # of the caption, in its order; none: the input names none
    against: str | None = None  # the text whose score is taken from the caption's, if a difference is explained


@dataclass(frozen=True)
class Failure:
    """One pair that could not be explained, and why."""

    id: str
    stage: str  # "pair", "image", "caption" or "model"
    error: str
    image: tuple[str, ImageRef] | None = field(default=None, compare=False)  # of a source: where the rest is at fault


@dataclass(frozen=True)
class Explanation:
    """One explained pair, as it is archived; maps are signed and unnormalised."""

    id: str
    image: str
    caption: str
    truncated: bool  # tokens of the caption, or of what it is against, were not read: it exceeded the model's context
    score: float  # cosine of the image and text embeddings
    image_size: tuple[int, int]  # height, width of the original, in pixels
    box: Box  # the part of the original that the grid covers
    fields: dict[str, np.ndarray]  # by the name of the method's declared Field
    logit: float = float("nan")  # the score as the model's own loss sees it: with its temperature and bias
    tokens: tuple[str, ...] = ()  # the caption's tokens that evidence may be attributed to
    words: tuple[Word, ...] = ()  # made of these tokens
    against: str | None = None  # the map explains the caption's score less that of this text; None: the score itself
    against_score: float | None = None  # the cosine of the image and that text

    @property
    def map(self) -> Map:
        """The final map, (rows, columns) float32."""
        return self.fields["map"]

    @property
    def token_map(self) -> Float[np.ndarray, "tokens"]:
        """The method's own evidence of each token, float32.

        Raises:
            KeyError: of a method that explains the image alone.
        """
        return self.fields[TOKEN_MAP.name]

    @property
    def word_values(self) -> Float[np.ndarray, "words"] | None:
        """What the score loses when each word is left out of the caption, as cosines; None if the run has none."""
        return self.fields.get(WORD_VALUE.name)

    @property
    def phrases(self) -> tuple[Word, ...]:
        """The phrases whose regions the run shows; none without --words."""
        spans = self.fields.get(PHRASE_SPAN.name, ())
        return tuple(Word(self.caption[start:end], int(start), int(end)) for start, end in spans)

    def sizes(self, run: Sizes) -> Sizes:
        """Those of its run, with its own number of tokens, words and phrases."""
        phrases = len(self.fields.get(PHRASE_SPAN.name, ()))
        return replace(run, tokens=len(self.tokens), words=len(self.words), phrases=phrases)


@dataclass(frozen=True)
class RunInfo:
    """What an archive says about the run that made it: the root attributes of every shard."""

    model: str
    model_sha256: str
    method: str
    layers: tuple[int, ...]  # explained vision layers, from 1
    grid: tuple[int, int]  # cells of the maps: rows, columns
    patch: int  # pixels of the model's input a patch
    image_size: tuple[int, int]  # the model's input: height, width in pixels
    geometry: str
    max_tokens: int  # T: the most tokens of a caption that evidence may be attributed to
    device: str
    dtype: str
    config: dict[str, Any]  # the resolved configuration
    config_sha256: str  # the fingerprint that a resumed run must share
    versions: dict[str, str]  # mmel, torch, transformers
    fields: tuple[Field, ...] = ()  # what is archived of each pair
    gradient: Gradient = "none"  # how the backward pass was made; none: the method makes none
    trained: Trained = "untrained"  # where learned weights of the method come from
    identity: dict[str, str] = field(default_factory=dict)  # everything that decides numbers, by setting
    described: dict[str, str] = field(default_factory=dict)  # what the method says of itself besides its parameters

    @property
    def word_values(self) -> bool:
        """Whether it keeps what the score loses without each word."""
        return any(field.name == WORD_VALUE.name for field in self.fields)

    @property
    def against(self) -> bool:
        """Whether it explains differences: its archive then has the columns of what captions are against."""
        group = self.config.get("against")
        return isinstance(group, dict) and (group.get("text") is not None or group.get("other") is True)

    @property
    def word_regions(self) -> bool:
        """Whether it keeps where in the image each word and phrase comes from (--words)."""
        return any(field.name == WORD_SHARE.name for field in self.fields)

    @property
    def sizes(self) -> Sizes:
        """How long the dimensions of its fields are; tokens, words and phrases are padded to the same number."""
        return Sizes(len(self.layers), self.grid, *(self.max_tokens,) * 3)
