"""A HuggingFace model of two towers whose embeddings meet in a cosine, behind the Adapter protocol."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize

from mmel_cli.model.adapter import Captions, CaptureRequest, ModelSpec
from mmel_cli.model.balanced import RULES
from mmel_cli.model.capture import Recording
from mmel_cli.model.gradients import cosine, pull_back, pull_back_batched, read_along, scale_of
from mmel_cli.model.preprocess import describe, preprocess, seen_size
from mmel_cli.model.sides import TextSide, VisionSide
from mmel_cli.model.tails import TowerTails
from mmel_cli.model.vision import cosines
from mmel_cli.scoring import Scoring
from mmel_cli.tensors import Capture, Directions, Entering, ImageSide, Pixels, Surgery
from mmel_cli.types import Gradient

PullBack = Callable[[Tensor, list[Tensor], Tensor, Tensor], list[Tensor]]


@dataclass(frozen=True)
class Parts:
    """What a family's loader found and checked: a model with frozen weights, its halves, and what is recorded of it."""

    name: str  # as the user gave it
    family: str
    files: dict[str, str]  # see ModelSpec.files
    model: Any
    processor: Any
    vision: VisionSide
    text: TextSide
    scoring: Scoring
    gives: frozenset[str]  # see ModelSpec.gives


class TwoTowers:
    """A loaded model (implements adapter.Adapter)."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._model, self._vision, self._text = parts, parts.model, parts.vision, parts.text
        height, width = seen_size(parts.vision.size, parts.vision.patch)
        self.spec = ModelSpec(
            name=parts.name,
            family=parts.family,
            files=parts.files,
            gives=parts.gives | {"against", "directed", "norms"},
            image_size=(height, width),
            patch=parts.vision.patch,
            grid=(height // parts.vision.patch, width // parts.vision.patch),
            layers=parts.vision.layers,
            text_layers=parts.text.layers,
            max_tokens=parts.text.max_tokens,
            device=str(parts.model.device),
            dtype=str(parts.model.dtype).removeprefix("torch."),
            scoring=parts.scoring,
            processor=describe(parts.processor),
        )

    def preprocess(self, image: Image, geometry: str) -> Pixels:
        """See adapter.Adapter."""
        return preprocess(image, self._parts.processor, self._vision.size, geometry, self.spec.image_size)

    def tokenize(self, captions: list[str]) -> Captions:
        """See adapter.Adapter. A special token that a caption spells out is text like any other."""
        return self._text.tokenize(captions)

    def capture(
        self,
        images: list[Pixels],
        captions: Captions,
        pairs: list[tuple[int, int]],
        request: CaptureRequest,
        directions: Sequence[Directions] = (),
        *,
        against: list[int] | None = None,
    ) -> Capture:
        """See adapter.Adapter."""
        rows, columns = torch.tensor(pairs, device=self._model.device).T
        values = self._placed(torch.stack([image.values for image in images]))
        with torch.set_grad_enabled(request.whole or request.own or bool(request.directed)):
            seen, image_embeds = self._vision.capture(values, request)
        with torch.set_grad_enabled(request.whole), sdpa_kernel(SDPBackend.MATH):  # no fused kernel goes backwards
            words_read, text_embeds = self._text.capture(captions, request)  # in a batch
        seen = replace(seen, in_order=[image for image, _ in pairs] == list(range(len(images))))
        words_read = replace(words_read, in_order=[text for _, text in pairs] == list(range(len(captions.ids))))
        constant = RULES[request.gradient].norm
        score, to_image, to_text = cosine(image_embeds[rows], text_embeds[columns], constant=constant)
        unit = normalize(image_embeds.detach().float(), dim=-1)
        read_as = text_embeds
        if request.one_head:  # each modified tower is explained against the other as the model runs it
            true_image, true_text = self.embed_images(values), self.embed_texts(captions)
            score, to_image, _ = cosine(image_embeds[rows], true_text[columns], constant=constant)
            _, _, to_text = cosine(true_image[rows], text_embeds[columns], constant=constant)
            unit, read_as = true_image, true_text
        units = normalize(text_embeds.detach().float(), dim=-1)
        texts: tuple[Tensor, ...] = (units[columns],)
        against_score = None
        if against is not None:
            others = torch.tensor(against, device=self._model.device)
            texts = (units[columns], units[others])
            against_score, less, _ = cosine(image_embeds[rows], read_as[others], constant=constant)
            to_image = to_image - less
        optional = self._optional(seen, rows, texts, request)
        w_text = self._pulled(pull_back_batched, text_embeds, words_read.o, columns, to_text) if request.whole else []
        starts = [*seen.o, *seen.entering]
        pull = partial(pull_back, keep=bool(request.directed), in_order=seen.in_order)
        back = self._pulled(pull, image_embeds, starts, rows, to_image) if request.whole else []
        if request.tails:
            optional["tails"] = TowerTails(self._vision, self._text, values, captions, rows, columns)
        optional["directed"] = self._directed(seen, image_embeds, directions, request)
        if request.entering:
            optional["entering"] = self._entering(seen, back[len(seen.o) :], rows)
        return Capture(
            score=score,
            grid=self.spec.grid,
            image=self._vision.tower(seen, back[: len(seen.o)], rows, request),
            text=self._text.tower(words_read, w_text, columns, captions, request),
            image_embeds=unit[rows],
            owners=captions.owners.to(rows.device)[columns],
            against_score=against_score,
            norms=seen.norms[0][rows],
            **optional,
        )

    def _directed(
        self, seen: Recording, embeds: Tensor, directions: Sequence[Directions], request: CaptureRequest
    ) -> tuple[Tensor, ...]:
        """What is kept of each direction."""
        seen = replace(seen, in_order=False)  # directions are of any images, in any order

        def side(w: list[Tensor], rows: Tensor, vectors: Tensor, *, patches: bool) -> ImageSide:
            tower = self._vision.tower(seen, w, rows, request)
            parts = self._patches(seen, rows, normalize(vectors, dim=-1), request) if patches else {}
            return ImageSide(self.spec.grid, tower, **parts)

        constant, scale = RULES[request.gradient].norm, scale_of(self.spec.dtype)
        return tuple(
            read_along(embeds, seen.o, asked, partial(side, patches=asked.patches), constant=constant, scale=scale)
            for asked in directions
        )

    def _optional(
        self, seen: Recording, rows: Tensor, texts: tuple[Tensor, ...], request: CaptureRequest
    ) -> dict[str, Any]:
        """The parts of a Capture that were asked for, but what enters.

        `texts` are the unit embeddings of the pairs' captions, and of what these are against, if anything.
        """
        side, parts = self._vision, dict[str, Any]()
        text = texts[0] if len(texts) == 1 else texts[0] - texts[1]
        if request.own and seen.own is not None:
            constant = RULES[request.gradient].norm
            w = []
            for embeds, o in zip(seen.own.embeds, seen.own.o, strict=True):
                to_layer = [cosine(embeds[rows], unit, constant=constant)[1] for unit in texts]
                to = to_layer[0] if len(texts) == 1 else to_layer[0] - to_layer[1]
                w += self._pulled(partial(pull_back, keep=True), embeds, [o], rows, to)
            parts["own"] = side.own(seen.own, w, rows, request)
        with torch.no_grad():
            parts |= self._patches(seen, rows, text, request)
            if request.alone:
                parts["alone"] = cosines(side.alone(seen, request), rows, text)
            if request.surgery:
                patches = normalize(side.surgery(seen, request).float(), dim=-1)[rows]
                empty = self.embed_texts(self.tokenize([""]))[0]  # in a difference it cancels
                parts["surgery"] = Surgery(patches, text, empty if len(texts) == 1 else torch.zeros_like(empty))
        return parts

    def _patches(self, seen: Recording, rows: Tensor, texts: Tensor, request: CaptureRequest) -> dict[str, Any]:
        """Layer outputs at the patches, and their cosines with unit vectors of the joint space, if asked for."""
        side, parts = self._vision, dict[str, Any]()
        with torch.no_grad():
            if request.hidden:
                outputs = [side.patches(output) for output in seen.outputs]
                parts["hidden"] = tuple((one if seen.in_order else one[rows]).float() for one in outputs)
            if request.alignment:
                layers = [side.project(side.patches(output)) for output in seen.outputs]
                parts["alignment"] = cosines(layers, None if seen.in_order else rows, texts)
        return parts

    def _pulled(self, back: PullBack, embeds: Tensor, at: list[Tensor], index: Tensor, to: Tensor) -> list[Tensor]:
        """Gradients at activations, in float32."""
        scale = scale_of(self.spec.dtype)
        gradients = [gradient.float() for gradient in back(embeds, at, index, to * scale)]
        return gradients if scale == 1 else [gradient / scale for gradient in gradients]

    def _entering(self, seen: Recording, gradients: list[Tensor], rows: Tensor) -> tuple[Entering, ...]:
        values = [self._vision.patches(tokens.detach())[rows].float() for tokens in seen.entering]
        if not gradients:
            return tuple(Entering(tokens) for tokens in values)
        return tuple(Entering(x, self._vision.patches(g)) for x, g in zip(values, gradients, strict=True))

    def _placed(self, values: Tensor) -> Tensor:
        """On the model's device; to a GPU from pinned memory, so that nothing waits for the copy."""
        if self._model.device.type == "cuda" and values.device.type == "cpu":
            values = values.pin_memory()
        return values.to(self._model.device, self._model.dtype, non_blocking=True)

    def embed_images(self, values: Tensor, *, graph: bool = False, gradient: Gradient = "plain") -> Tensor:
        """See adapter.Adapter."""
        values = self._placed(values)
        with torch.set_grad_enabled(graph):
            embeds = self._vision.embed(values, gradient).float()
            if RULES[gradient].norm:
                return embeds / embeds.detach().norm(dim=-1, keepdim=True)
            return normalize(embeds, dim=-1)

    @torch.no_grad()
    def embed_texts(self, captions: Captions) -> Tensor:
        """See adapter.Adapter."""
        return normalize(self._text.embed(captions).float(), dim=-1)

    def randomised(self, layers: int, seed: int) -> "TwoTowers":
        """See adapter.Adapter."""
        model = copy.deepcopy(self._model)
        vision: Any = self._vision
        vision = replace(vision, model=model)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            vision.randomise(layers)
        text: Any = self._text
        return TwoTowers(replace(self._parts, model=model, vision=vision, text=replace(text, model=model)))
