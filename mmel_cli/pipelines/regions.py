"""Words x regions of a batch: the share of each word, and where in the image it comes from (METHOD 9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.attribution.base import resolve_layers
from mmel_cli.attribution.word_regions import WordOptions, sent
from mmel_cli.fields import WORD_ERROR, WORD_MAP, WORD_REST, WORD_SHARE
from mmel_cli.model import Adapter, Captions, CaptureRequest, WordShares
from mmel_cli.model.word_shares import Shares
from mmel_cli.tensors import Directions

Pairs = Sequence[tuple[int, int]]
"""Image and caption of each pair, among the distinct ones."""


@dataclass(frozen=True)
class WordRegions:
    """What is asked of the model for them."""

    shares: WordShares
    request: CaptureRequest

    @classmethod
    def of(cls, model: Adapter, options: WordOptions) -> "WordRegions":
        """For a loaded model.

        Raises:
            UsageError: for layers that there are not.
        """
        request = CaptureRequest(
            layers=resolve_layers(options.layers, model.spec.layers, of="words"),
            text_layers=(model.spec.text_layers,),
            gradient=options.gradient,
            directed=True,
            whole=False,
        )
        return cls(WordShares(model, options.texts, options.seed), request)

    def of_batch(self, captions: Captions, texts: Sequence[str], pairs: Pairs, device: str) -> "BatchRegions":
        """Those of the pairs of a batch; pairs of the same image and caption share them."""
        shares = self.shares.of(list(zip(texts, captions.words, strict=True)))
        return BatchRegions(shares, tuple(pairs), device)


@dataclass(frozen=True)
class BatchRegions:
    """The shares of a batch's distinct captions, and its pairs."""

    shares: list[Shares]
    pairs: tuple[tuple[int, int], ...]
    device: str

    @property
    def directions(self) -> Directions | None:
        """A direction for each word of each distinct pair; None if there is no word."""
        distinct = [(image, column) for image, column in dict.fromkeys(self.pairs) if len(self.shares[column].vectors)]
        if not distinct:
            return None
        images = chain.from_iterable([image] * len(self.shares[column].vectors) for image, column in distinct)
        vectors = torch.cat([self.shares[column].vectors for _, column in distinct])
        return Directions(torch.tensor(list(images), device=self.device), vectors.to(self.device), sent)

    def maps(
        self, directed: Float[Tensor, "directions patches"] | None, grid: tuple[int, int]
    ) -> Float[Tensor, "pairs words rows columns"]:
        """The map of each word of each pair, zero behind a caption's last word."""
        counts = [len(self.shares[column].vectors) for _, column in self.pairs]
        laid = torch.zeros(len(self.pairs), max(1, *counts), *grid, device=self.device)
        if directed is None:
            return laid
        starts, start = dict[tuple[int, int], int](), 0
        for pair in dict.fromkeys(self.pairs):
            starts[pair] = start
            start += len(self.shares[pair[1]].vectors)
        for number, (pair, count) in enumerate(zip(self.pairs, counts, strict=True)):
            own = directed[starts[pair] : starts[pair] + count]
            laid[number, :count] = own.unflatten(-1, grid)
        return laid

    def fields(
        self, maps: Float[Tensor, "pairs words rows columns"], images: Float[Tensor, "pairs embedding"]
    ) -> list[dict[str, np.ndarray]]:
        """The fields of each pair, with as many words as its caption has.

        Args:
            maps: see `maps`; several views are their mean, whose cells have summed to the view's patches.
            images: the unit embedding of each pair's image as it is.
        """
        given = []
        for own, image, (_, column) in zip(maps.to("cpu"), images.to("cpu"), self.pairs, strict=True):
            shares = self.shares[column]
            regions, share = own[: len(shares.vectors)], shares.vectors @ image
            rest = (share.double() - regions.double().sum((1, 2))).float()
            fields = {WORD_SHARE: share, WORD_MAP: regions, WORD_REST: rest, WORD_ERROR: shares.errors(image)}
            given.append({field.name: values.numpy() for field, values in fields.items()})
        return given
