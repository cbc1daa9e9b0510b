"""Each word's share of a caption's embedding: Shapley vectors over its words (METHOD 9)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.model.adapter import Adapter
from mmel_cli.model.leave_out import Worded
from mmel_cli.model.many_texts import ByCaption, ManyTexts
from mmel_cli.model.phrase_vectors import PhraseKind
from mmel_cli.model.words import only
from mmel_cli.shapley import Design, design

_MOST = 1 << 16  # embeddings that are kept: 128 MiB at width 512


@dataclass(frozen=True)
class WordOptions:
    """Words x regions, whatever the method.

    `regions`: whether they are wanted (--words); `texts`: how many texts of a distinct caption of n words may be read,
    4 n + 2 if that is more, exact if 2^n are no more; `seed` of the parts of longer captions; `phrase`, what stands for
    a phrase: it "alone", what is "left-out" with it, the "mean" of both, or the sum of its "words".
    """

    regions: bool = False
    texts: int = 256
    seed: int = 0
    phrase: PhraseKind = "mean"

    def __post_init__(self) -> None:
        if self.texts < 2:
            raise ValueError("words.texts must be at least 2")
        if not 0 <= self.seed < 2**63:
            raise ValueError("words.seed must lie in 0..2^63 - 1")


@dataclass(frozen=True)
class Shares:
    """Of one caption, on the CPU: a vector of the joint space for each word.

    They sum to its embedding less that of no words.
    """

    vectors: Float[Tensor, "words embedding"]
    worths: Float[Tensor, "coalitions embedding"] | None  # embeddings of the caption's coalitions, if they are sampled
    design: Design

    def errors(self, image: Float[Tensor, "embedding"]) -> Float[Tensor, "words"]:
        """The standard error of each word's share of the cosine with an image; 0 where shares are exact."""
        if self.worths is None:
            return torch.zeros(len(self.vectors))
        scores = (self.worths @ image).double().numpy()
        return torch.from_numpy(self.design.errors(scores)).float()


class WordShares:
    """Shapley vectors of captions, kept over a run.

    Args:
        model: whose tokenizer and text tower read them.
        texts: how many texts of a distinct caption may be read (shapley.design): exact for n words if 2^n are no more.
        seed: of the coalitions that are drawn for longer ones.
        most: how many embeddings are kept.
    """

    def __init__(self, model: Adapter, texts: int, seed: int, most: int = _MOST) -> None:
        self._texts, self._seed, self._reader = texts, seed, ManyTexts(model)
        self._kept = ByCaption[str, Shares](most, _size)

    def of(self, worded: Sequence[Worded]) -> list[Shares]:
        """The shares of each caption's words."""
        words = dict(worded)

        def make(captions: list[str]) -> list[Shares]:
            designs = [design(len(words[text]), self._texts, self._seed) for text in captions]
            groups = [
                [only(text, words[text], members) for members in chosen.members.tolist()]
                for text, chosen in zip(captions, designs, strict=True)
            ]
            worths = self._reader.embeds(groups)
            return [_shares(of_caption, chosen) for of_caption, chosen in zip(worths, designs, strict=True)]

        return self._kept.get([text for text, _ in worded], make)


def _shares(worths: Tensor, chosen: Design) -> Shares:
    worths = worths.to("cpu")
    vectors = (torch.from_numpy(chosen.weights) @ worths.double()).float()
    return Shares(vectors, None if chosen.exact else worths, chosen)


def _size(shares: Shares) -> int:
    return len(shares.vectors) + (0 if shares.worths is None else len(shares.worths))
