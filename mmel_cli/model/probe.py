"""A batch of pairs that can be looked at again with parts of the image or the caption covered (tensors.Probe)."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmel_cli.model.adapter import Adapter, Words
from mmel_cli.model.forwards import in_parts

_BATCH = 64


@dataclass(frozen=True)
class CoverProbe:
    """Distinct images and captions, and the pairs made of them; implements tensors.Probe."""

    model: Adapter
    values: Float[Tensor, "images 3 height width"]
    words: Words
    images: Int[Tensor, "pairs"]
    captions: Int[Tensor, "pairs"]

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
        texts = self.model.embed_texts(self.words)[self.captions]
        return torch.einsum("pnd,pd->pn", embeds[self.images], texts)

    def covered_tokens(self, pair: int, kept: Bool[Tensor, "masks tokens"]) -> Float[Tensor, "masks"]:
        """See tensors.Probe."""
        caption = int(self.captions[pair])
        image = self.model.embed_images(self.values[self.images[pair], None])[0]
        masks = self.words.mask[caption].repeat(len(kept), 1)
        masks[:, 1 : 1 + kept.shape[1]] *= kept.to(masks)
        parts = [self.model.embed_texts(repeated(self.words, caption, part)) @ image for part in masks.split(_BATCH)]
        return torch.cat(parts)


def repeated(words: Words, row: int, masks: Int[Tensor, "copies length"]) -> Words:
    """One caption, once for each attention mask."""
    count = len(masks)
    return replace(
        words,
        ids=words.ids[row].expand(count, -1),
        mask=masks,
        end=words.end[row].expand(count),
        tokens=(words.tokens[row],) * count,
        truncated=words.truncated[row].expand(count),
    )
