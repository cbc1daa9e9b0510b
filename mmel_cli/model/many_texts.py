"""Embeddings of many texts made of one caption, kept over a run (METHOD 8 and 9)."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from threading import Lock
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.model.adapter import Adapter
from mmel_cli.model.exhaustion import in_halves
from mmel_cli.model.forwards import CPU_PART, spread

_PART = 256  # texts that go through an accelerator at once
Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class ManyTexts:
    """Reads texts in groups, one a caption.

    On a CPU a group goes through the model by itself, a few texts at a time and always with one thread, so what it
    gives does not depend on the groups around it, to the bit.
    """

    def __init__(self, model: Adapter) -> None:
        self._model = model
        self._reading = Lock()  # a tokenizer is no thing for two threads

    def embeds(self, groups: Sequence[Sequence[str]]) -> list[Float[Tensor, "texts embedding"]]:
        """The unit embeddings of each group's texts; a text that stands in a group twice is read once."""
        if not groups:
            return []
        device = torch.device(self._model.spec.device)
        distinct = [list(dict.fromkeys(texts)) for texts in groups]
        if device.type == "cpu":
            parts = list(chain.from_iterable(_cut(texts, CPU_PART) for texts in distinct))
        else:
            parts = _cut(list(chain.from_iterable(distinct)), _PART)
        whole = torch.cat(spread(self._embedded, parts, device)).split([len(texts) for texts in distinct])
        places = [{text: place for place, text in enumerate(texts)} for texts in distinct]
        chosen = zip(whole, groups, places, strict=True)
        return [embeds[[place[text] for text in texts]] for embeds, texts, place in chosen]

    def _embedded(self, texts: list[str]) -> Tensor:
        """Of texts that go through the model together; where memory runs out, in halves."""

        def work(some: Sequence[str]) -> Tensor:
            with self._reading:
                captions = self._model.tokenize(list(some))
            return self._model.embed_texts(captions)

        return torch.cat(in_halves(work, texts, _too_large))


class ByCaption(Generic[Key, Made]):
    """What is made of captions, kept until there is too much of it: what was used longest ago goes first.

    What has no size counts as 1: a caption without phrases takes room too, and there may be millions.
    """

    def __init__(self, most: int, size: Callable[[Made], int]) -> None:
        self._most, self._count = most, 0
        self._size: Callable[[Made], int] = lambda made: max(1, size(made))
        self._kept: OrderedDict[Key, Made] = OrderedDict()

    def get(self, captions: Iterable[Key], make: Callable[[list[Key]], Sequence[Made]]) -> list[Made]:
        """Of each caption; `make` is called with those that are not kept, each once."""
        wanted = list(captions)
        known = {key: self._kept[key] for key in wanted if key in self._kept}
        fresh = [key for key in dict.fromkeys(wanted) if key not in known]
        if fresh:
            known |= dict(zip(fresh, make(fresh), strict=True))
        for key in wanted:
            self._keep(key, known[key])
        return [known[key] for key in wanted]

    def _keep(self, key: Key, made: Made) -> None:
        if key not in self._kept:
            self._count += self._size(made)
        self._kept[key] = made
        self._kept.move_to_end(key)
        while self._count > self._most:
            _, gone = self._kept.popitem(last=False)
            self._count -= self._size(gone)


def _cut(texts: list[str], size: int) -> list[list[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _too_large(_text: str, error: Exception) -> Tensor:
    """One text alone: the batch of pairs is halved in turn."""
    raise error
