"""What phrases are to their caption's embedding: the mean of a phrase alone and of what leaves with it (METHOD 9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.model.adapter import Adapter
from mmel_cli.model.many_texts import ByCaption, ManyTexts
from mmel_cli.model.words import only
from mmel_cli.types import Word

_MOST = 1 << 15  # embeddings that are kept: 64 MiB at width 512

PhraseKind = Literal["mean", "alone", "left-out", "words"]
"""What stands for a phrase (METHOD 9)."""

_WEIGHTS = {"mean": (0.5, 0.5), "alone": (1.0, 0.0), "left-out": (0.0, 1.0)}
"""Of the phrase alone, and of what the caption loses without it; as the sum of its words it has no texts of its own."""

Spans = tuple[tuple[int, int], ...]
"""Start and end of phrases, in characters of the caption."""


@dataclass(frozen=True)
class Phrased:
    """A caption with its words and the spans of its phrases."""

    caption: str
    words: tuple[Word, ...]
    spans: Spans

    def members(self) -> list[list[bool]]:
        """Which words each phrase has: those that it shares a character with."""
        return [[word.start < end and start < word.end for word in self.words] for start, end in self.spans]


@dataclass(frozen=True)
class PhraseParts:
    """Of one caption's phrases, on the CPU: the direction that each is explained along, and its share as a vector."""

    directions: Float[Tensor, "phrases embedding"]
    shares: Float[Tensor, "phrases embedding"]

    def __len__(self) -> int:
        return len(self.directions)


class PhraseVectors:
    """Vectors of the joint space for each phrase, kept over a run.

    The direction is t(P) for "alone", t - t(without P) for "left-out", and for "mean" the mean of both, t the embedding
    of a text; of a phrase that is the whole caption it is t. The share is that less what no text at all has of it: the
    phrase adds t(P) - t() to nothing.

    Args:
        model: whose tokenizer and text tower read the texts.
        kind: which of these.
        most: how many embeddings are kept.
    """

    def __init__(self, model: Adapter, kind: PhraseKind, most: int = _MOST) -> None:
        self._reader, self._weights = ManyTexts(model), _WEIGHTS[kind]
        self._kept = ByCaption[Phrased, PhraseParts](most, _size)

    def of(self, phrased: Sequence[Phrased]) -> list[PhraseParts]:
        """Of each caption's phrases."""
        return self._kept.get(phrased, self._made)

    def _made(self, fresh: list[Phrased]) -> list[PhraseParts]:
        worths = self._reader.embeds([_texts(one) for one in fresh])
        return [_vectors(one, embeds.to("cpu"), self._weights) for one, embeds in zip(fresh, worths, strict=True)]


def _texts(one: Phrased) -> list[str]:
    """The caption, no text, then of each phrase: it alone, and the caption without it."""
    texts = [one.caption, ""]
    for members in one.members():
        texts += [only(one.caption, one.words, members), only(one.caption, one.words, [not own for own in members])]
    return texts


def _vectors(one: Phrased, embeds: Tensor, weights: tuple[float, float]) -> PhraseParts:
    whole, nothing, alone, without = embeds[:1], embeds[1:2], embeds[2::2], embeds[3::2]
    all_of_it = torch.tensor([all(members) for members in one.members()], dtype=torch.bool).reshape(-1, 1)
    directions = torch.where(all_of_it, whole, weights[0] * alone + weights[1] * (whole - without))
    shares = weights[0] * (alone - nothing) + weights[1] * (whole - without)  # of all of it, nothing is what is left
    return PhraseParts(directions, shares)


def _size(parts: PhraseParts) -> int:
    return 2 * len(parts)


def readable(spans: Spans, words: Sequence[Word]) -> Spans:
    """The phrases of which the model reads a word."""
    return tuple((start, end) for start, end in spans if any(w.start < end and start < w.end for w in words))
