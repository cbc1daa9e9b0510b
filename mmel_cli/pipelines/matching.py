"""Which captions a run's scores are compared with, and what is given of a batch by that (METHOD 10)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmel_cli.archive.writer import SHARDS
from mmel_cli.config import RunConfig
from mmel_cli.data import Source
from mmel_cli.fields import HIGH_NORM, MATCH, MATCH_AMONG, MATCH_RANK, NORM_TIMES, Field
from mmel_cli.model import Adapter, LeftOut, Match
from mmel_cli.pipelines.said import Said
from mmel_cli.runs import RunFolder, fingerprint
from mmel_cli.runs.folder import ARCHIVE
from mmel_cli.types import Sample

FIRST = 4096
"""Entries of the input among which captions are chosen."""


@dataclass(frozen=True)
class MatchTexts:
    """Captions that scores are compared with, and the images that each is known to be a caption of.

    A run keeps them in run.yaml, so that it goes on with its own where its input has grown.
    """

    texts: tuple[str, ...]
    images: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, source: Source, most: int) -> "MatchTexts":
        """At most so many distinct captions of the first entries of an input; no image is decoded.

        They are those of least SHA-256, one an image as far as there are so many images, so neither the order of these
        entries nor --limit decides. Of an input with prompts they are prompts, which every image has: none is left out.
        """
        if source.request.prompts:
            texts = tuple(_ordered(source.request.prompts)[:most])
            return cls(texts, (frozenset(),) * len(texts))
        images: dict[str, set[str]] = {}
        for entry in islice(source, FIRST):
            if isinstance(entry, Sample):
                images.setdefault(entry.caption, set()).add(entry.image)
        chosen = _one_an_image(images)[:most]
        return cls(tuple(chosen), tuple(frozenset(images[text]) for text in chosen))

    @classmethod
    def noted(cls, notes: Mapping[str, Any]) -> "MatchTexts | None":
        """Those that run.yaml keeps; None if it keeps none, or not as mmel writes them."""
        rows = notes.get("match")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            return None
        texts, images = [row.get("caption") for row in rows], [row.get("images") for row in rows]
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(names, list) for names in images):
            return None
        return cls(tuple(map(str, texts)), tuple(frozenset(map(str, names or ())) for names in images))

    def plain(self) -> list[dict[str, Any]]:
        """As run.yaml keeps them."""
        return [{"caption": t, "images": sorted(names)} for t, names in zip(self.texts, self.images, strict=True)]

    @property
    def decides(self) -> dict[str, str]:
        """What of them is part of a run's identity."""
        return {"captions of match (SHA-256)": fingerprint({"match": self.plain()})}


@dataclass(frozen=True)
class Signs:
    """What is given of each pair to make marks from: where its score stands, and which patches are long.

    `texts` and `match` go together; `norms` wants a model that gives them.
    """

    texts: MatchTexts | None = None
    match: Match | None = None
    norms: bool = False

    @property
    def fields(self) -> tuple[Field, ...]:
        """What is given of each pair."""
        return (*(MATCH if self.match else ()), *((HIGH_NORM,) if self.norms else ()))

    @property
    def decides(self) -> dict[str, str]:
        """What else than the configuration decides it."""
        return self.texts.decides if self.texts else {}

    def of_batch(
        self,
        samples: Sequence[Sample],
        said: Said,
        images: Float[Tensor, "pairs embedding"],
        norms: Float[Tensor, "pairs patches"] | None,
        grids: tuple[tuple[int, int], tuple[int, int]],
    ) -> list[dict[str, np.ndarray]]:
        """The fields of each pair.

        Args:
            samples: the pairs.
            said: what is known of their captions.
            images: the unit embedding of each pair's image as it is.
            norms: the length of each patch's token where the last attention reads it.
            grids: of the patches, and of the maps.
        """
        fields: list[dict[str, np.ndarray]] = [{} for _ in samples]
        if self.match is not None and self.texts is not None:
            words = list(zip(said.texts, said.captions.words, strict=False))
            ranks, among = self.match.ranks(images, words, said.columns, self._compared(samples, self.texts))
            for own, rank, number in zip(fields, ranks.tolist(), among.tolist(), strict=True):
                own |= {MATCH_RANK.name: np.array(rank, np.int32), MATCH_AMONG.name: np.array(number, np.int32)}
        if self.norms and norms is not None:
            patches, cells = grids
            for own, lengths in zip(fields, norms.to("cpu").numpy(), strict=True):
                high = (lengths > NORM_TIMES * np.median(lengths)).reshape(patches)
                times = [many // few for few, many in zip(patches, cells, strict=True)]
                own |= {HIGH_NORM.name: high.repeat(times[0], 0).repeat(times[1], 1)}
        return fields

    @staticmethod
    def _compared(samples: Sequence[Sample], texts: MatchTexts) -> Tensor:
        """Which captions each pair is compared with: not its own, nor another of its image."""
        of = list(zip(texts.texts, texts.images, strict=True))
        rows = [[text != one.caption and one.image not in images for text, images in of] for one in samples]
        return torch.tensor(rows, dtype=torch.bool).reshape(len(samples), len(of))


class Matched:
    """The captions of each run folder of one pass; folders that have the same share what is read of them."""

    def __init__(self, model: Adapter, source: Source, left_out: LeftOut | None) -> None:
        self._model, self._source, self._left_out = model, source, left_out
        self._chosen: dict[int, MatchTexts] = {}
        self._made: dict[MatchTexts, Match] = {}

    def signs(self, config: RunConfig, folder: RunFolder) -> Signs:
        """What a run gives for marks: with the captions that it began with, else those of the input as it is now."""
        options: Any = config.match
        if not options.captions:
            return Signs(norms=config.high_norm)
        begun = any((folder.path / ARCHIVE).glob(SHARDS))
        texts = (MatchTexts.noted(folder.notes()) if begun else None) or self._of_input(options.captions)
        if texts not in self._made:
            self._made[texts] = Match(self._model, texts.texts, self._left_out)
        return Signs(texts, self._made[texts], config.high_norm)

    def _of_input(self, most: int) -> MatchTexts:
        if most not in self._chosen:
            self._chosen[most] = MatchTexts.of(self._source, most)
        return self._chosen[most]


def as_begun(config: RunConfig, folder: RunFolder) -> RunConfig:
    """The configuration without what the version that began a run did not give: the run goes on as it is."""
    was = folder.notes().get("config")
    if not isinstance(was, dict):
        return config
    options: Any = config.match
    without = {"match": type(options)(captions=0), "high_norm": False}
    return config.model_copy(update={name: value for name, value in without.items() if name not in was})


def _one_an_image(images: Mapping[str, set[str]]) -> list[str]:
    """Captions by SHA-256; behind those that are the first of their image, in the same order, stand the others."""
    first, others = list[str](), list[str]()
    seen: set[str] = set()
    for text in _ordered(images):
        home = min(images[text])
        (others if home in seen else first).append(text)
        seen.add(home)
    return first + others


def _ordered(texts: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """In an order that only the texts decide, and that is not theirs."""
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
