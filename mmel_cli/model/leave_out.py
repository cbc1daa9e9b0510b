"""What a caption is to the model when one of its words is left out (METHOD section 8)."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.model.adapter import Adapter, Captions
from mmel_cli.model.exhaustion import in_halves
from mmel_cli.model.forwards import CPU_PART, spread
from mmel_cli.model.words import without
from mmel_cli.types import Word

_PART = 256  # texts that go through an accelerator at once
_MOST = 1 << 15  # embeddings that are kept: 64 MiB at width 512

Worded = tuple[str, tuple[Word, ...]]
"""A caption and its words."""


class LeftOut:
    """Embeddings of captions whole and without each of their words, kept over a run.

    On a CPU a caption's texts go through the model among themselves, a few at a time and always with one thread, so
    what a caption gives does not depend on the captions around it, to the bit.

    Args:
        model: whose tokenizer and text tower read them.
        most: how many embeddings are kept; those used longest ago go first.
    """

    def __init__(self, model: Adapter, most: int = _MOST) -> None:
        self._model, self._most = model, most
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._count = 0
        self._reading = Lock()  # a tokenizer is no thing for two threads

    def values(
        self, images: Float[Tensor, "pairs embedding"], captions: Captions, texts: Sequence[str], columns: Sequence[int]
    ) -> list[Float[Tensor, "words"]]:
        """What the cosine loses without each word, a pair at a time.

        Args:
            images: unit embedding of each pair's image, float32.
            captions: what the model made of `texts`, and of others behind them.
            texts: the distinct captions.
            columns: which of them each pair has.
        """
        embeds = self.embeds(list(zip(texts, captions.words, strict=False)))
        scores = [embeds[column] @ image for image, column in zip(images, columns, strict=True)]
        return [of_pair[0] - of_pair[1:] for of_pair in scores]

    def embeds(self, worded: Sequence[Worded]) -> list[Float[Tensor, "texts embedding"]]:
        """Of each caption: its unit embedding, then those of its text without each word in turn."""
        known = {text: self._kept[text] for text, _ in worded if text in self._kept}
        known |= self._computed([(text, words) for text, words in dict(worded).items() if text not in known])
        for text, _ in worded:
            self._keep(text, known[text])
        return [known[text] for text, _ in worded]

    def _keep(self, text: str, embeds: Tensor) -> None:
        if text not in self._kept:
            self._count += len(embeds)
        self._kept[text] = embeds
        self._kept.move_to_end(text)
        while self._count > self._most:
            _, gone = self._kept.popitem(last=False)
            self._count -= len(gone)

    def _computed(self, fresh: list[Worded]) -> dict[str, Tensor]:
        """The embeddings of captions that are not kept."""
        if not fresh:
            return {}
        device = torch.device(self._model.spec.device)
        own = [[text, *(without(text, word) for word in words)] for text, words in fresh]
        if device.type == "cpu":
            parts = list(chain.from_iterable(_cut(texts, CPU_PART) for texts in own))
        else:
            parts = _cut(list(chain.from_iterable(own)), _PART)
        whole = torch.cat(spread(self._embedded, parts, device))
        split = whole.split([len(texts) for texts in own])
        return {text: part.clone() for (text, _), part in zip(fresh, split, strict=True)}

    def _embedded(self, texts: list[str]) -> Tensor:
        """Of texts that go through the model together; where memory runs out, in halves."""

        def work(some: Sequence[str]) -> Tensor:
            with self._reading:
                captions = self._model.tokenize(list(some))
            return self._model.embed_texts(captions)

        return torch.cat(in_halves(work, texts, _too_large))


def _cut(texts: list[str], size: int) -> list[list[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _too_large(_text: str, error: Exception) -> Tensor:
    """One text alone: the batch of pairs is halved in turn."""
    raise error
