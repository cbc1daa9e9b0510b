"""The torch side of what travels between the stages: what the model gives the methods, and what they give back.

Everything here is a value. A capture is complete when it is made: no hook can write into it afterwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from PIL.Image import Image
from torch import Tensor

from mmel_cli.types import Box, Gradient

Tokens = Float[Tensor, "pairs tokens width"]
Asking = Float[Tensor, "pairs _ width"]
TokenRow = Float[Tensor, "pairs tokens"]
KeyRow = Float[Tensor, "pairs keys"]
PatchMaps = Float[Tensor, "pairs layers height width"]
RegionMaps = Float[Tensor, "pairs layers channels region_height region_width"]


@dataclass(frozen=True)
class Pixels:
    """One preprocessed image and the part of the original that its patch grid covers."""

    values: Float[Tensor, "3 height width"]
    box: Box


@dataclass(frozen=True)
class Decoded:
    """What is kept of an image: as model input, the copies that were asked for, and how large it was."""

    pixels: Pixels
    size: tuple[int, int]  # height, width of the original
    kept: Mapping[str, Image] = field(default_factory=dict)  # reduced copies, by the name of what they are for


@dataclass(frozen=True)
class OutProjection:
    """The linear layer that follows attention: y = x weight^T + bias."""

    weight: Float[Tensor, "width width"]
    bias: Float[Tensor, "width"] | None


@dataclass(frozen=True)
class Tower:
    """One encoder's attention at the explained layers, float32; each tuple runs over those layers.

    METHOD 1: q, k, v over the full width (heads concatenated), o the attention output before its projection,
    w = ds/do. `queries` gives for each layer which row of its q is explained (CLS; EOS; the probe of a pooling layer,
    which has one row only), None where every row asks: the encoder layers of a tower that pools with a probe or a mean.
    q, o and w of a layer have its rows, k and v its tokens. `places` are the tokens that evidence is attributed to, the
    keys (patches, row by row of the grid; the tokens of a caption's text), -1 after a pair's last. `visible` are the
    tokens that may be attended to (all; those up to EOS). `causal`: each token attends to itself and those before it.
    w is empty where no backward was asked for.
    """

    numbers: tuple[int, ...]  # of the explained layers, from 1
    heads: int
    q: tuple[Asking, ...]
    k: tuple[Tokens, ...]
    v: tuple[Tokens, ...]
    o: tuple[Asking, ...]
    w: tuple[Asking, ...]
    out: tuple[OutProjection, ...]
    queries: tuple[Int[Tensor, "pairs"] | None, ...]
    places: Int[Tensor, "pairs keys"]
    visible: Bool[Tensor, "pairs tokens"]
    causal: bool = False

    @property
    def keys(self) -> Bool[Tensor, "pairs keys"]:
        """Which keys each pair has; the others pad it to the pair with the most."""
        return self.places >= 0

    def gather(self, values: Float[Tensor, "pairs *rest tokens"]) -> Float[Tensor, "pairs *rest keys"]:
        """Values of tokens at the keys, 0 where padded: the only way from tokens to what readers see."""
        shape = (len(self.places), *[1] * (values.ndim - 2), -1)
        index = self.places.clamp_min(0).view(shape).expand(*values.shape[:-1], -1)
        return values.gather(-1, index).masked_fill(~self.keys.view(shape), 0.0)


@runtime_checkable
class Probe(Protocol):
    """Pairs whose image or caption can be altered, for methods that look again at scores or at gradients of pixels."""

    @property
    def values(self) -> Float[Tensor, "images 3 height width"]:
        """The normalised pixels of the distinct images, as this view shows them; 0 is the mean colour."""
        ...

    @property
    def images(self) -> Int[Tensor, "pairs"]:
        """Which of the distinct images each pair has."""
        ...

    @property
    def rows(self) -> Int[Tensor, "pairs"]:
        """Which of the distinct captions each pair has."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        ...

    def covered_images(self, masks: Float[Tensor, "masks height width"]) -> Float[Tensor, "pairs masks"]:
        """Each pair's cosine where its normalised input is multiplied by each mask."""
        ...

    def covered_tokens(self, pair: int, kept: Bool[Tensor, "masks keys"]) -> Float[Tensor, "masks"]:
        """One pair's cosine where, of its caption's key tokens, only the kept ones are attended to."""
        ...

    def shown_cells(
        self, pairs: Int[Tensor, "copies"], shown: Float[Tensor, "copies rows columns"]
    ) -> Float[Tensor, "copies"]:
        """The cosine of pair `pairs[n]` where each cell of its normalised input is multiplied by that of `shown[n]`."""
        ...

    def embeds_of_image(
        self, image: int, shown: Float[Tensor, "masks rows columns"]
    ) -> Float[Tensor, "masks embedding"]:
        """Unit embeddings of a distinct image where each cell of its normalised input is multiplied by a mask's."""
        ...

    def embeds_of_text(self, row: int, kept: Bool[Tensor, "masks keys"]) -> Float[Tensor, "masks embedding"]:
        """Unit embeddings of a distinct caption of whose key tokens only a mask's are attended to."""
        ...

    def gradient_at(
        self, pairs: Int[Tensor, "copies"], values: Float[Tensor, "copies 3 height width"], gradient: Gradient
    ) -> Float[Tensor, "copies 3 height width"]:
        """ds/d values[n], s the cosine of the image `values[n]` and the caption of pair `pairs[n]`, by these rules."""
        ...


@dataclass(frozen=True)
class Tail:
    """What follows a block of one tower, for one image or caption.

    `embed` makes unit embeddings of outputs of the block, in the graph where gradients are on, and in forward mode.
    """

    output: Float[Tensor, "tokens width"]  # of the block
    reference: Float[Tensor, "tokens width"]  # the same for an input that says nothing, token by token
    embed: Callable[[Float[Tensor, "copies tokens width"]], Float[Tensor, "copies embedding"]]


@runtime_checkable
class Tails(Protocol):
    """What follows the blocks of both towers, for the distinct images and captions of some pairs.

    The reference of an image is 0 after normalisation, the mean colour; that of a caption has a token that says nothing
    in place of each token of its text.
    """

    @property
    def images(self) -> Int[Tensor, "pairs"]:
        """Which of the distinct images each pair has."""
        ...

    @property
    def rows(self) -> Int[Tensor, "pairs"]:
        """Which of the distinct captions each pair has."""
        ...

    @property
    def layers(self) -> int:
        """Of the image tower."""
        ...

    @property
    def text_layers(self) -> int:
        """Of the text tower."""
        ...

    def of_image(self, image: int, block: int) -> Tail:
        """Of a distinct image; `block` counts from 1 and is not the last layer."""
        ...

    def of_text(self, row: int, block: int) -> Tail:
        """Of a distinct caption."""
        ...


@dataclass(frozen=True)
class Entering:
    """What the attention of one layer reads (in a pre-norm layer the output of its first LayerNorm), at the patches.

    `gradient` is ds/d of it through q, k and v; None where no backward was asked for.
    """

    values: Float[Tensor, "pairs patches width"]
    gradient: Float[Tensor, "pairs patches width"] | None = None


@dataclass(frozen=True)
class Surgery:
    """Embeddings of unit length that CLIP Surgery compares (METHOD 2): of each patch, of the caption, of no text."""

    patches: Float[Tensor, "pairs patches embedding"]
    text: Float[Tensor, "pairs embedding"]
    empty: Float[Tensor, "embedding"]


@dataclass(frozen=True)
class ImageSide:
    """What is known of images along directions of the joint space; the same parts of a Capture, where t is the caption.

    w of `image` is the gradient of <f, t>, f the image's embedding of unit length and t the direction; `alignment` is
    the cosine of the projected patches and t.
    """

    grid: tuple[int, int]
    image: Tower
    hidden: tuple[Float[Tensor, "directions patches width"], ...] = ()
    alignment: Float[Tensor, "directions layers patches"] | None = None


@dataclass(frozen=True)
class Directions:
    """Directions of the joint space, each explained for an image beside the score (METHOD 9).

    `read` is given some of them at a time, and makes of these what is kept: one map a direction.
    """

    images: Int[Tensor, "directions"]  # which of the distinct images
    vectors: Float[Tensor, "directions embedding"]
    read: Callable[[ImageSide], Float[Tensor, "some rows columns"]]
    patches: bool = False  # whether it looks at hidden and alignment, where the request asks for those


@dataclass(frozen=True)
class Capture:
    """All that a method may know of P image-caption pairs.

    Where a pair is explained against another text, the image's side (the gradients of `image`, `entering` and `own`,
    `alignment`, `alone`, `surgery`, the images of `probe`) is of the difference of the two scores; `score`, `text` and
    the tokens of `probe` are the caption's.
    """

    score: Float[Tensor, "pairs"]  # cosine of the two embeddings
    grid: tuple[int, int]  # patches: height, width
    image: Tower
    text: Tower
    image_embeds: Float[Tensor, "pairs embedding"]  # of unit length, float32, as the model runs it
    hidden: tuple[Float[Tensor, "pairs patches width"], ...] = ()  # layer outputs, if the method needs them
    alignment: Float[Tensor, "pairs layers patches"] | None = None  # METHOD 3 step 5, raw cosine; if needed
    entering: tuple[Entering, ...] = ()  # of each explained layer, if needed
    own: Tower | None = None  # the image attention behind each layer's own score, w its gradient (METHOD 2); if needed
    alone: Float[Tensor, "pairs layers patches"] | None = None  # cosine of patches attending to themselves; if needed
    surgery: Surgery | None = None  # if needed
    tails: Tails | None = None  # if needed
    directed: tuple[Float[Tensor, "_ rows columns"], ...] = ()  # what each Directions.read made, if asked for
    owners: Int[Tensor, "pairs keys"] | None = None  # the word that each key of the caption is of, -1: none
    truth: Float[Tensor, "pairs height width"] | None = None  # the part of each cell inside the mask; if needed
    seeds: tuple[int, ...] = ()  # one a pair, from its record id; if needed
    probe: Probe | None = None  # the pairs to look at again, altered; if needed
    norms: Float[Tensor, "pairs patches"] | None = None  # the length of patches where the last attention reads them
    against_score: Float[Tensor, "pairs"] | None = None  # cosine with the text that the caption is against, if any


@dataclass(frozen=True)
class Attribution:
    """What a method returns for the P pairs of a capture: its declared fields by name, each with P as the first axis.

    Maps are signed, unnormalised, float32; "tokens/map" means something where capture.text.keys is set.
    """

    fields: dict[str, Tensor]

    @property
    def map(self) -> Float[Tensor, "pairs height width"]:
        """The final map, which every method gives."""
        return self.fields["map"]
