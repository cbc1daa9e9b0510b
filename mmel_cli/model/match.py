"""Where a score stands among those of other captions on the same image (METHOD 10)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmel_cli.model.adapter import Adapter
from mmel_cli.model.exhaustion import in_halves
from mmel_cli.model.leave_out import LeftOut, Worded
from mmel_cli.model.many_texts import ByCaption, ManyTexts

TIE = 1e-6
"""Cosines nearer than this are equal: rounding decides no rank, and captions that the model reads alike tie."""
_MOST = 1 << 15  # embeddings of captions that are kept


@dataclass(frozen=True)
class MatchOptions:
    """`captions`: how many captions of the input each score is compared with; 0: none."""

    captions: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.captions <= 4096:
            raise ValueError("match.captions must be from 0 to 4096")


class Match:
    """Ranks among some texts, which are read once a run.

    A caption is embedded as these texts are, so that ties are ties; where the value of words is wanted too, that is
    what they have read already.

    Args:
        model: whose text tower reads them.
        texts: what captions are compared with, each once.
        left_out: of the same model, if the run has the value of words.
    """

    def __init__(self, model: Adapter, texts: Sequence[str], left_out: LeftOut | None = None) -> None:
        self.texts = tuple(texts)
        self._reads, self._left_out = ManyTexts(model), left_out
        self._kept = ByCaption[str, Tensor](_MOST, len)
        self._embeds: Tensor | None = None

    def ranks(
        self,
        images: Float[Tensor, "pairs embedding"],
        captions: Sequence[Worded],
        columns: Sequence[int],
        compared: Bool[Tensor, "pairs texts"],
    ) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]:
        """Of each pair: 1 + how many of the compared texts score at least as high, and 1 + how many there are.

        A text that exhausts the memory by itself, beside one pair, is compared with nothing from then on.

        Args:
            images: the unit embedding of each pair's image, float32.
            captions: the distinct captions with their words.
            columns: which of them each pair has.
            compared: which texts a pair is compared with.
        """
        own = (images * torch.stack(self._own(captions)).to(images)[list(columns)]).sum(1)
        if not self.texts:
            return (torch.ones_like(own, dtype=torch.int64),) * 2
        if self._embeds is None:
            self._embeds = self._read(images.shape[1], beside=len(images))
        embeds = self._embeds.to(images)
        compared = compared.to(images.device) & embeds.isfinite().all(1)
        higher = images @ embeds.T >= own[:, None] - TIE
        return 1 + (higher & compared).sum(1), 1 + compared.sum(1)

    def _read(self, width: int, beside: int) -> Float[Tensor, "texts embedding"]:
        """All texts; beside several pairs memory that runs out is the batch's, which then comes in halves."""
        if beside > 1:
            return self._reads.embeds([self.texts])[0]
        unread = torch.full((1, width), torch.nan)
        parts = in_halves(lambda some: self._reads.embeds([some])[0].cpu(), self.texts, lambda *_: unread)
        return torch.cat(parts)

    def _own(self, captions: Sequence[Worded]) -> list[Float[Tensor, "embedding"]]:
        if self._left_out is not None:
            return [embeds[0] for embeds in self._left_out.embeds(captions)]
        texts = [text for text, _ in captions]
        return [embeds[0] for embeds in self._kept.get(texts, lambda some: self._reads.embeds([[t] for t in some]))]
