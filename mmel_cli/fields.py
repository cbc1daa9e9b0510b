"""What a method gives, declared: the name, dimensions, type and meaning of each of its maps.

The archive's schema, writer, reader and safety checks, `mmel verify`, `merge` and `fuse` take it from the declaration.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

DTYPES = ("float32", "int32", "bool")
PLAIN_DIMS = ("layers", "words", "phrases", "tokens", "rows", "columns")
SIZED_DIMS = ("regions", "channels", "width")
RAGGED_DIMS = ("tokens", "words", "phrases")  # each record has its own number; the archive pads them
_NAME = re.compile(r"[a-z][a-z0-9_-]*(/[a-z][a-z0-9_-]*)?")
_SIZED = re.compile(r"(regions|channels|width)\(([1-9][0-9]{0,5})\)")


@dataclass(frozen=True)
class Sizes:
    """How long the plain dimensions are in one run (or, for those of RAGGED_DIMS, in one batch or record)."""

    layers: int
    grid: tuple[int, int]
    tokens: int
    words: int
    phrases: int = 0


@dataclass(frozen=True)
class Field:
    """One array that a method gives for every pair.

    `name` is that of the dataset in the archive, with at most one group ("map", "layers/flow"). `dims` are the
    dimensions of one pair's array, out of "layers", "words", "phrases", "tokens", "rows", "columns" (of the grid),
    "regions(r)" (two axes: ceil(rows / r) and ceil(columns / r)), "channels(n)" and "width(n)". `evidence` marks signed
    evidence for the score, laid over the grid, that `mmel eval` may look at layer by layer.

    Raises:
        ValueError: for a name, dimension or type that there is not.
    """

    name: str
    dims: tuple[str, ...]
    meaning: str
    dtype: str = "float32"
    evidence: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"field {self.name!r}: a name is lower-case letters, digits, - and _, with at most one /")
        for dim in self.dims:
            if dim not in PLAIN_DIMS and not _SIZED.fullmatch(dim):
                sized = ", ".join(f"{name}(n)" for name in SIZED_DIMS)
                raise ValueError(f"field {self.name}: no dimension {dim!r}; there are {', '.join(PLAIN_DIMS)}, {sized}")
        if self.dtype not in DTYPES:
            raise ValueError(f"field {self.name}: type {self.dtype!r} is not one of {', '.join(DTYPES)}")

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """The shape of one pair's array."""
        lengths: list[int] = []
        for dim in self.dims:
            lengths += _lengths(dim, sizes)
        return tuple(lengths)

    @property
    def on_grid(self) -> bool:
        """Whether its last two axes are the rows and columns of the grid."""
        return self.dims[-2:] == ("rows", "columns")

    @property
    def by_region(self) -> bool:
        """Whether it has regions of several cells."""
        return any(_SIZED.fullmatch(dim) and dim.partition("(")[0] == "regions" for dim in self.dims)

    @property
    def ragged(self) -> bool:
        """Whether a record has its own number of tokens, words or phrases."""
        return any(dim in RAGGED_DIMS for dim in self.dims)


MAP = Field("map", ("rows", "columns"), "the final map: evidence for the score, signed, unnormalised", evidence=True)
TOKEN_MAP = Field("tokens/map", ("tokens",), "the method's own evidence of each token of the caption")

RESIDUAL = Field(
    "interaction/residual", (), "what the interactions of all tokens and positions sum to beyond what they should"
)

MATCH_RANK = Field(
    "match/rank", (), "1 + how many of the captions compared with score at least as high on this image", dtype="int32"
)
MATCH_AMONG = Field(
    "match/among",
    (),
    "of how many captions, its own among them; 1: nothing to compare with",
    dtype="int32",
)
MATCH = (MATCH_RANK, MATCH_AMONG)
"""Where a score stands among other captions of the input (METHOD 10)."""
NORM_TIMES = 2.0
HIGH_NORM = Field(
    "high_norm",
    ("rows", "columns"),
    "patches whose token, where the last attention reads it, is over twice as long as the image's median",
    dtype="bool",
)

WORD_VALUE = Field("words/value", ("words",), "the score minus the score of the caption without the word, as cosines")
WORD_SHARE = Field(
    "words/share", ("words",), "the word's share of the score; shares sum to it minus the score of no words, as cosines"
)
WORD_MAP = Field(
    "words/map", ("words", "rows", "columns"), "evidence of each region along the word's part of the score, signed"
)
WORD_REST = Field("words/rest", ("words",), "words/share less the sum of words/map, which counts every layer")
WORD_ERROR = Field("words/error", ("words",), "standard error of words/share; 0 where it is exact")
WORD_REGIONS = (WORD_SHARE, WORD_MAP, WORD_REST, WORD_ERROR)
"""Of words, what `--words` gives of each pair (METHOD 9)."""

PHRASE_SPAN = Field("phrases/span", ("phrases", "channels(2)"), "where in the caption: start and end", dtype="int32")
PHRASE_SHARE = Field(
    "phrases/share", ("phrases",), "the phrase's share of the score, by words.phrase; what no text has is no part of it"
)
PHRASE_MAP = Field("phrases/map", ("phrases", "rows", "columns"), "evidence of each region for the phrase, signed")
PHRASE_REGIONS = (PHRASE_SPAN, PHRASE_SHARE, PHRASE_MAP)
"""The same of its phrases."""


def check(fields: Iterable[Field]) -> tuple[Field, ...]:
    """The same, if they can be one method's.

    Raises:
        ValueError: if a name is given twice or also that of a group, or there is no `map` on the grid.
    """
    checked = tuple(fields)
    names = [field.name for field in checked]
    groups = {name.split("/")[0] for name in names if "/" in name}
    clash = next((name for name in names if names.count(name) > 1 or name in groups), None)
    if clash is not None:
        raise ValueError(f"field {clash} is declared twice, or is also a group")
    if not any((field.name, field.dims, field.dtype) == (MAP.name, MAP.dims, MAP.dtype) for field in checked):
        raise ValueError("a method must declare the field map with the dimensions rows, columns and type float32")
    return checked


def plain(fields: Iterable[Field]) -> list[dict[str, Any]]:
    """As JSON values."""
    return [asdict(field) | {"dims": list(field.dims)} for field in fields]


def parse(values: Any) -> tuple[Field, ...]:
    """Back from JSON values.

    Raises:
        ValueError, TypeError, KeyError: if they are no fields of one method.
    """
    texts = ("name", "meaning", "dtype")
    return check(
        Field(
            dims=tuple(str(dim) for dim in value["dims"]),
            evidence=bool(value["evidence"]),
            **{key: str(value[key]) for key in texts},
        )
        for value in values
    )


def _lengths(dim: str, sizes: Sizes) -> list[int]:
    rows, columns = sizes.grid
    named = {"layers": sizes.layers, "rows": rows, "columns": columns}
    named |= {dim: getattr(sizes, dim) for dim in RAGGED_DIMS}
    if dim in named:
        return [named[dim]]
    kind, number = dim.removesuffix(")").split("(")
    n = int(number)
    return [-(-rows // n), -(-columns // n)] if kind == "regions" else [n]
