"""A batch of pairs that can be looked at again, with parts of the image or the caption altered (tensors.Probe)."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmel_cli.model.adapter import Adapter, Captions
from mmel_cli.model.forwards import in_parts
from mmel_cli.model.gradients import scale_of
from mmel_cli.types import Gradient

_BATCH = 64
_GRAPHS = 16  # images whose graph is held at once


@dataclass(frozen=True)
class CoverProbe:
    """Distinct images and captions, and the pairs made of them; implements tensors.Probe."""

    model: Adapter
    values: Float[Tensor, "images 3 height width"]
    captions: Captions
    images: Int[Tensor, "pairs"]  # of each pair
    rows: Int[Tensor, "pairs"]  # the caption of each pair
    against: Int[Tensor, "pairs"] | None = None  # that whose cosine is taken from it, where a difference is explained

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
        return torch.einsum("pnd,pd->pn", embeds[self.images], self._texts)

    def covered_tokens(self, pair: int, kept: Bool[Tensor, "masks keys"]) -> Float[Tensor, "masks"]:
        """See tensors.Probe."""
        image = self.model.embed_images(self.values[self.images[pair], None])[0]
        return self.embeds_of_text(int(self.rows[pair]), kept) @ image

    def shown_cells(
        self, pairs: Int[Tensor, "copies"], shown: Float[Tensor, "copies rows columns"]
    ) -> Float[Tensor, "copies"]:
        """See tensors.Probe; one forward a copy."""
        return (self._shown(self.images[pairs], shown) * self._texts[pairs]).sum(-1)

    def embeds_of_image(
        self, image: int, shown: Float[Tensor, "masks rows columns"]
    ) -> Float[Tensor, "masks embedding"]:
        """See tensors.Probe; one forward a mask."""
        return self._shown(torch.full((len(shown),), image, device=shown.device), shown)

    def embeds_of_text(self, row: int, kept: Bool[Tensor, "masks keys"]) -> Float[Tensor, "masks embedding"]:
        """See tensors.Probe; one forward a mask."""
        return torch.cat([self.model.embed_texts(self.captions.covered(row, part)) for part in kept.split(_BATCH)])

    def gradient_at(
        self, pairs: Int[Tensor, "copies"], values: Float[Tensor, "copies 3 height width"], gradient: Gradient
    ) -> Float[Tensor, "copies 3 height width"]:
        """See tensors.Probe; parts go one after the other: the rules are hooks on the one model."""
        scale = scale_of(self.model.spec.dtype)
        parts: list[Tensor] = []
        for numbers in torch.arange(len(pairs), device=values.device).split(_GRAPHS):
            pixels = values[numbers].requires_grad_()
            embeds = self.model.embed_images(pixels, graph=True, gradient=gradient)
            parts += torch.autograd.grad(embeds, pixels, self._texts[pairs[numbers]] * scale)
        return torch.cat(parts) / scale

    def _shown(self, images: Int[Tensor, "copies"], shown: Float[Tensor, "copies rows columns"]) -> Tensor:
        """Embeddings of images whose cells are multiplied; masks of whole pixels are held for one part at a time."""
        height, width = (side // cells for side, cells in zip(self.image_size, shown.shape[1:], strict=True))

        def embed(numbers: Tensor) -> Tensor:
            masks = shown[numbers].repeat_interleave(height, 1).repeat_interleave(width, 2)
            return self.model.embed_images(self.values[images[numbers]] * masks[:, None])

        return in_parts(embed, len(images), _BATCH, self.values.device)

    @cached_property
    def _texts(self) -> Float[Tensor, "pairs joint"]:
        """The embedding of each pair's caption, less that of what it is against, if anything."""
        embeds = self.model.embed_texts(self.captions)
        return embeds[self.rows] if self.against is None else embeds[self.rows] - embeds[self.against]
