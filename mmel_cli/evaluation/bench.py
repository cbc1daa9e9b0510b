"""The bench that metrics measure on: the records with their images and truth, the model, and what several share."""

from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mmel_cli.evaluation.faithfulness import CaptionSet, FaithfulnessOptions, PixelEmbeds, embed_pixels
from mmel_cli.evaluation.localisation import as_tensor
from mmel_cli.evaluation.phrases import NamedPhrase
from mmel_cli.model import Adapter
from mmel_cli.tensors import Decoded
from mmel_cli.types import Explanation, Sample

_Kept = TypeVar("_Kept")
_Options = TypeVar("_Options")


@dataclass(frozen=True)
class Subject:
    """One record to score; `image`, `truth` and `phrases` where metrics need them and the input has them."""

    record: Explanation
    sample: Sample
    image: Decoded | None = None
    truth: np.ndarray | None = None  # bool, at the original's size
    layer_maps: Mapping[str, np.ndarray] = field(default_factory=dict)  # evidence by layer, (layers, h, w), by field
    phrases: tuple[NamedPhrase, ...] = ()  # those of the input that have a truth, and that the model reads

    @property
    def decoded(self) -> Decoded:
        """The image, which a metric that needs images always has."""
        if self.image is None:
            raise LookupError(f"{self.record.id}: its image was not asked for; name it in the metric's needs")
        return self.image


class Explainer(Protocol):
    """Makes maps anew, with the run's own method and model."""

    @property
    def layers(self) -> int:
        """Of the vision tower."""
        ...

    def maps(self, samples: Sequence[Sample], images: Mapping[str, Decoded]) -> dict[str, np.ndarray]:
        """The finite maps, by record id; images by the key of their reference."""
        ...

    def explanations(self, samples: Sequence[Sample], images: Mapping[str, Decoded]) -> dict[str, Explanation]:
        """The same, whole: with the maps of words and phrases that the run has too."""
        ...

    def randomised(self, layers: int, seed: int) -> "Explainer":
        """The same with the top `layers` of the vision tower re-initialised, cumulatively for one seed."""
        ...


@dataclass(frozen=True)
class Rivals:
    """Captions to tell the right one from, embedded once, and the images that they are captions of."""

    texts: tuple[str, ...]
    images: tuple[Container[str], ...]
    embeds: Float[Tensor, "captions width"]


@dataclass(frozen=True)
class Partner:
    """An image that mosaics are filled up with."""

    image: str
    captions: frozenset[str]
    tile: Image.Image  # at the model's input size
    names: tuple[str, ...] = ()  # what captions that name one thing call it


@dataclass
class Bench:
    """What metrics measure with. What is made for a batch is kept until the next one begins."""

    options: Mapping[type, Any]  # the settings of each part, by their class
    model: Adapter | None = None
    explainer: Explainer | None = None
    rivals: Rivals | None = None
    find_partners: Callable[[], tuple[Partner, ...]] = tuple
    siblings: Callable[[Explanation], Sequence[Subject]] = lambda _record: ()
    _kept: dict[Hashable, Any] = field(default_factory=dict)

    @cached_property
    def partners(self) -> tuple[Partner, ...]:
        """Images to fill mosaics up with, looked for once."""
        return self.find_partners()

    def begin(self) -> None:
        """Forget what was made for the batch before."""
        self._kept.clear()

    def option(self, kind: type[_Options]) -> _Options:
        """The settings of a part."""
        return cast("_Options", self.options[kind])

    @property
    def adapter(self) -> Adapter:
        """The model, which a metric that needs it always has."""
        if self.model is None:
            raise LookupError("no model was asked for; name it in the metric's needs")
        return self.model

    @property
    def again(self) -> Explainer:
        """What makes maps anew, which a metric that needs the method always has."""
        if self.explainer is None:
            raise LookupError("no method was asked for; name it in the metric's needs")
        return self.explainer

    def pixels(self, subjects: Sequence[Subject]) -> Float[Tensor, "records 3 height width"]:
        """The model's normalised input, on its device."""
        stacked = torch.stack([subject.decoded.pixels.values for subject in subjects])
        return stacked.to(self.adapter.spec.device)

    def images(self, subjects: Sequence[Subject]) -> Float[Tensor, "records width"]:
        """Unit embeddings of the images."""
        return self._keep("images", subjects, lambda: self.adapter.embed_images(self.pixels(subjects)))

    def texts(self, subjects: Sequence[Subject]) -> Float[Tensor, "records width"]:
        """Unit embeddings of the captions."""
        captions = [subject.record.caption for subject in subjects]
        return self._keep("texts", subjects, lambda: self.adapter.embed_texts(self.adapter.tokenize(captions)))

    def explained(self, subjects: Sequence[Subject]) -> Float[Tensor, "records width"]:
        """What maps explain the product with: the captions, less what they are against where that is a difference."""
        if all(subject.record.against is None for subject in subjects):
            return self.texts(subjects)
        others = [subject.record.against or "" for subject in subjects]
        less = self._keep("against", subjects, lambda: self.adapter.embed_texts(self.adapter.tokenize(others)))
        return self.texts(subjects) - less

    def curves(self, subjects: Sequence[Subject]) -> PixelEmbeds:
        """Embeddings of the images as pixels go and come back, in equal steps."""
        return self._keep("curves", subjects, lambda: self._embed_pixels(subjects, fine=False))

    def fine_curves(self, subjects: Sequence[Subject]) -> PixelEmbeds:
        """The same at the chosen fractions."""
        return self._keep("fine curves", subjects, lambda: self._embed_pixels(subjects, fine=True))

    def clean_maps(self, subjects: Sequence[Subject]) -> dict[str, np.ndarray]:
        """Maps made anew: not the archive's, since another dtype or device would count as a change."""
        images = {subject.sample.ref.key: subject.decoded for subject in subjects}
        return self._keep("maps", subjects, lambda: self.again.maps([s.sample for s in subjects], images))

    def choice(self, subjects: Sequence[Subject]) -> CaptionSet:
        """What each record's caption is told from."""
        if self.rivals is None:
            raise LookupError("no captions were asked for; name them in the metric's needs")
        rivals = self.rivals
        known = list(zip(rivals.texts, rivals.images, strict=True))
        excluded = [[text == s.record.caption or s.record.image in of for text, of in known] for s in subjects]
        own = self.texts(subjects)
        return CaptionSet(own, rivals.embeds, torch.tensor(excluded, device=own.device), self.adapter.spec.scoring)

    def _embed_pixels(self, subjects: Sequence[Subject], *, fine: bool) -> PixelEmbeds:
        maps = as_tensor([subject.record.map for subject in subjects])
        options = self.option(FaithfulnessOptions)
        return embed_pixels(self.adapter, self.pixels(subjects), maps, options, fine=fine)

    def _keep(self, what: str, subjects: Sequence[Subject], make: Callable[[], _Kept]) -> _Kept:
        key = (what, tuple(subject.record.id for subject in subjects))
        if key not in self._kept:
            self._kept[key] = make()
        return cast("_Kept", self._kept[key])
