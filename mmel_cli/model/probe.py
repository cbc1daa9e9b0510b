"""A batch of pairs that can be looked at again with parts of the image or the caption covered (tensors.Probe)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmel_cli.model.adapter import Adapter, Captions
from mmel_cli.model.forwards import in_parts

_BATCH = 64


@dataclass(frozen=True)
class CoverProbe:
    """Distinct images and captions, and the pairs made of them; implements tensors.Probe."""

    model: Adapter
    values: Float[Tensor, "images 3 height width"]
    captions: Captions
    images: Int[Tensor, "pairs"]  # of each pair
    rows: Int[Tensor, "pairs"]  # the caption of each pair

    @property
    def image_size(self) -> tuple[int, int]:
        """See tensors.Probe."""
        return self.model.spec.image_size

    def covered_images(self, masks: Float[Tensor, "masks height width"]) -> Float[Tensor, "pairs masks"]:
        """See tensors.Probe; each distinct image goes through the model once a mask."""

        def embed(numbers: Tensor) -> Tensor:
            which, mask = numbers // len(masks), numbers % len(masks)
            return self.model.embed_images(self.values[which] * masks[mask, None])

        count = len(self.values) * len(masks)
        embeds = in_parts(embed, count, _BATCH, self.values.device).view(len(self.values), len(masks), -1)
        texts = self.model.embed_texts(self.captions)[self.rows]
        return torch.einsum("pnd,pd->pn", embeds[self.images], texts)

    def covered_tokens(self, pair: int, kept: Bool[Tensor, "masks keys"]) -> Float[Tensor, "masks"]:
        """See tensors.Probe."""
        row = int(self.rows[pair])
        image = self.model.embed_images(self.values[self.images[pair], None])[0]
        parts = [self.model.embed_texts(self.captions.covered(row, part)) @ image for part in kept.split(_BATCH)]
        return torch.cat(parts)
