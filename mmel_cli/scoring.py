"""From the cosine of an image and a caption to what the model's own loss sees: a logit and a probability."""

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Kind = Literal["softmax", "sigmoid"]
_Cosine = TypeVar("_Cosine", float, Tensor)


@dataclass(frozen=True)
class Scoring:
    """A model's learned temperature and bias, and how it tells a caption from others.

    "softmax": a caption against its rivals (CLIP, arXiv 2103.00020). "sigmoid": each caption by itself (SigLIP,
    arXiv 2303.15343).

    Raises:
        ValueError: for a scale that is not positive, or a kind that there is not.
    """

    scale: float = 1.0  # the learned temperature, as a factor of the cosine
    bias: float = 0.0
    kind: Kind = "softmax"

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scoring: scale {self.scale} is not positive")
        if self.kind not in ("softmax", "sigmoid"):
            raise ValueError(f"scoring: {self.kind!r} is not softmax or sigmoid")

    def logit(self, cosine: _Cosine) -> _Cosine:
        """What the loss sees: scale * cosine + bias."""
        return self.scale * cosine + self.bias

    def probability(
        self, own: Float[Tensor, "*records"], rivals: Float[Tensor, "*records captions"]
    ) -> Float[Tensor, "*records"]:
        """That of each record's own caption, 0..1.

        Args:
            own: cosine of the own caption.
            rivals: cosines of the others, -inf where a caption is no rival. They count for "softmax" alone, where a
                record without any has no probability: NaN.
        """
        logit = self.logit(own)
        if self.kind == "sigmoid":
            return logit.sigmoid()
        others = self.logit(rivals).logsumexp(-1)
        chance = (logit - torch.logaddexp(logit, others)).exp()
        return chance.masked_fill(others == -torch.inf, torch.nan)
