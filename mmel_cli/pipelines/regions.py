"""Words x regions of a batch: the share of each word and phrase, and where in the image it comes from (METHOD 9)."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.attribution import flow
from mmel_cli.attribution.base import Method
from mmel_cli.fields import PHRASE_MAP, PHRASE_SHARE, PHRASE_SPAN, WORD_ERROR, WORD_MAP, WORD_REST, WORD_SHARE
from mmel_cli.model import Adapter, Captions, CaptureRequest, PhraseVectors, WordShares
from mmel_cli.model.phrase_vectors import Phrased, PhraseParts, readable
from mmel_cli.model.word_shares import Shares, WordOptions
from mmel_cli.phrases import noun_phrases
from mmel_cli.tensors import Directions, ImageSide
from mmel_cli.types import Sample, Word


@dataclass(frozen=True)
class Words:
    """The caption's side, which all methods of a run share: it depends on the model alone."""

    shares: WordShares
    phrases: PhraseVectors | None  # None: a phrase is the sum of its words
    device: str

    @classmethod
    def of(cls, model: Adapter, options: WordOptions) -> "Words":
        """For a loaded model."""
        phrases = None if options.phrase == "words" else PhraseVectors(model, options.phrase)
        return cls(WordShares(model, options.texts, options.seed), phrases, model.spec.device)


@dataclass(frozen=True)
class WordRegions:
    """Both sides: what is asked of the model, and how a phrase is explained."""

    words: Words
    request: CaptureRequest
    along: Callable[[ImageSide], Tensor]

    @classmethod
    def of(cls, words: Words, method: Method, params: Any, state: Any, request: CaptureRequest) -> "WordRegions":
        """Phrases by the method itself if it explains directions, else by flow; `request`: asking.request_of_words."""
        along = method.along
        return cls(words, request, flow.along if along is None else lambda side: along(side, params, state))

    def of_batch(
        self, samples: Sequence[Sample], captions: Captions, pairs: Sequence[tuple[int, int]]
    ) -> "BatchRegions":
        """Those of a batch's pairs (image, caption: among the distinct ones), one for each sample."""
        texts = {column: sample.caption for sample, (_, column) in zip(samples, pairs, strict=True)}
        of_texts = self.words.shares.of([(text, captions.words[column]) for column, text in texts.items()])
        shares = dict(zip(texts, of_texts, strict=True))
        phrased = [_phrased(sample, captions.words[column]) for sample, (_, column) in zip(samples, pairs, strict=True)]
        device = self.words.device
        by_word = [shares[column].vectors for _, column in pairs]
        by_phrase = self.words.phrases.of(phrased) if self.words.phrases else _sums(phrased, by_word)
        along = [one.directions for one in by_phrase]
        asked = [(image, one) for (image, _), one in zip(pairs, phrased, strict=True)]
        return BatchRegions(
            shares=[shares[column] for _, column in pairs],
            phrased=phrased,
            phrase_shares=[one.shares for one in by_phrase],
            words=_Rays(list(pairs), [image for image, _ in pairs], by_word, flow.along, device),
            phrases=_Rays(asked, [image for image, _ in pairs], along, self.along, device, patches=True),
        )


@dataclass(frozen=True)
class _Rays:
    """Directions of the pairs of a batch: each distinct thing that is asked is asked once."""

    keys: Sequence[Hashable]  # of the pairs: those with the same key have the same image and vectors
    images: Sequence[int]
    vectors: Sequence[Float[Tensor, "some embedding"]]
    read: Callable[[ImageSide], Tensor]
    device: str
    patches: bool = False

    @cached_property
    def _firsts(self) -> dict[Hashable, int]:
        """The first pair of each key that has a direction."""
        firsts: dict[Hashable, int] = {}
        for number, key in enumerate(self.keys):
            if len(self.vectors[number]):
                firsts.setdefault(key, number)
        return firsts

    @cached_property
    def directions(self) -> list[Directions]:
        """All of them; [] if there is none."""
        if not self._firsts:
            return []
        rows = [self.images[n] for n in self._firsts.values() for _ in self.vectors[n]]
        vectors = torch.cat([self.vectors[n] for n in self._firsts.values()]).to(self.device)
        return [Directions(torch.tensor(rows, device=self.device), vectors, self.read, self.patches)]

    def laid(self, maps: Float[Tensor, "directions rows columns"]) -> Float[Tensor, "pairs most rows columns"]:
        """The maps of each pair, zero behind its last."""
        counts = [len(vectors) for vectors in self.vectors]
        parts = maps.split([counts[n] for n in self._firsts.values()])
        of_key = dict(zip(self._firsts, parts, strict=True))
        laid = maps.new_zeros(len(counts), max(1, *counts), *maps.shape[1:])
        for number, (key, count) in enumerate(zip(self.keys, counts, strict=True)):
            if count:
                laid[number, :count] = of_key[key]
        return laid


@dataclass(frozen=True)
class BatchRegions:
    """What is known of a batch's captions, a pair at a time, and what is asked of its images."""

    shares: list[Shares]
    phrased: list[Phrased]
    phrase_shares: list[Float[Tensor, "phrases embedding"]]
    words: _Rays
    phrases: _Rays

    @property
    def directions(self) -> list[Directions]:
        """Of words, then of phrases."""
        return [*self.words.directions, *self.phrases.directions]

    def unfit(self, number: int) -> str:
        """Why a pair's phrases cannot be told apart; "" where they can: a phrase is made of whole words."""
        one = self.phrased[number]
        for place, word in enumerate(one.words):
            if sum(members[place] for members in one.members()) > 1:
                return f"two of its phrases share the word {word.text[:40]!r}; phrases are made of whole words"
        return ""

    def maps(self, directed: Sequence[Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
        """words/map and phrases/map of all pairs, padded to the most; `directed` is of `directions`."""
        given = list(directed)
        laid = {}
        for name, asked in ((WORD_MAP.name, self.words), (PHRASE_MAP.name, self.phrases)):
            maps = given.pop(0) if asked.directions else torch.zeros(0, *grid, device=asked.device)
            laid[name] = asked.laid(maps)
        return laid

    def fields(
        self, together: dict[str, np.ndarray], images: Float[Tensor, "pairs embedding"], cells: int
    ) -> list[dict[str, np.ndarray]]:
        """All fields of words and phrases, a pair at a time, with as many as its caption has.

        Args:
            together: `maps`, or their mean over several views.
            images: the unit embedding of each pair's image as it is, on the CPU.
            cells: how many cells share what a patch has.
        """
        by_word, by_phrase = (torch.from_numpy(together[name]) for name in (WORD_MAP.name, PHRASE_MAP.name))
        given = []
        for number, image in enumerate(images):
            shares, vectors = self.shares[number], self.phrase_shares[number]
            regions, share = by_word[number, : len(shares.vectors)] / cells, shares.vectors @ image
            rest = (share.double() - regions.double().sum((1, 2))).float()
            spans = torch.tensor(self.phrased[number].spans, dtype=torch.int32).reshape(-1, 2)
            fields = {WORD_SHARE: share, WORD_MAP: regions, WORD_REST: rest, WORD_ERROR: shares.errors(image)}
            fields |= {PHRASE_SPAN: spans, PHRASE_SHARE: vectors @ image}
            fields |= {PHRASE_MAP: by_phrase[number, : len(vectors)] / cells}
            given.append({field.name: values.numpy() for field, values in fields.items()})
        return given


def _sums(phrased: Sequence[Phrased], by_word: Sequence[Tensor]) -> list[PhraseParts]:
    """Phrases as the sums of their words' vectors."""
    sums = [
        torch.tensor(one.members(), dtype=vectors.dtype).reshape(-1, len(vectors)) @ vectors
        for one, vectors in zip(phrased, by_word, strict=True)
    ]
    return [PhraseParts(vectors, vectors) for vectors in sums]


def _phrased(sample: Sample, words: tuple[Word, ...]) -> Phrased:
    """A caption with the phrases that the input names, else those that the rule finds."""
    spans = tuple((phrase.start, phrase.end) for phrase in sample.phrases) or noun_phrases(sample.caption)
    return Phrased(sample.caption, words, readable(spans, words))
