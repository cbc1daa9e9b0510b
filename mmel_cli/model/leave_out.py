"""What a caption is to the model when one of its words is left out (METHOD section 8)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from mmel_cli.model.adapter import Adapter, Captions
from mmel_cli.model.many_texts import ByCaption, ManyTexts
from mmel_cli.model.words import without
from mmel_cli.types import Word

_MOST = 1 << 15  # embeddings that are kept: 64 MiB at width 512

Worded = tuple[str, tuple[Word, ...]]
"""A caption and its words."""


class LeftOut:
    """Embeddings of captions whole and without each of their words, kept over a run.

    Args:
        model: whose tokenizer and text tower read them.
        most: how many embeddings are kept; those used longest ago go first.
    """

    def __init__(self, model: Adapter, most: int = _MOST) -> None:
        self._texts = ManyTexts(model)
        self._kept = ByCaption[str, Tensor](most, len)

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
        words = dict(worded)

        def make(captions: list[str]) -> list[Tensor]:
            return self._texts.embeds([[text, *(without(text, word) for word in words[text])] for text in captions])

        return self._kept.get([text for text, _ in worded], make)
