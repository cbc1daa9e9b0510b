"""One batch of pairs through the model and a method: samples in, explanations and failures out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmel_cli.attribution import Method, Target
from mmel_cli.attribution.base import GradientParams, LayerParams
from mmel_cli.attribution.views import FINER, View, averaged, look, overlay, views_of
from mmel_cli.data.images import ImageLimits
from mmel_cli.data.paths import record_seed
from mmel_cli.errors import MmelError, UsageError
from mmel_cli.fields import (
    PHRASE_MAP,
    PHRASE_REGIONS,
    PHRASE_SPAN,
    WORD_MAP,
    WORD_REGIONS,
    WORD_VALUE,
    Field,
    Sizes,
    check,
)
from mmel_cli.model import Adapter, Captions, CaptureRequest, CoverProbe, LeftOut
from mmel_cli.model.exhaustion import in_halves
from mmel_cli.pipelines.asking import request_of, request_of_words
from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.differences import against_numbers, read_alike
from mmel_cli.pipelines.regions import BatchRegions, WordRegions, Words
from mmel_cli.pipelines.sharing import SharedCaptures
from mmel_cli.pipelines.truths import truths
from mmel_cli.tensors import Attribution, Capture, Pixels, Probe
from mmel_cli.types import Explanation, Failure, Sample

_LIMITS = ImageLimits()


@dataclass(frozen=True)
class Engine:
    """A model, a method ready to explain it, and what it asks of the model."""

    model: Adapter
    method: Method
    params: LayerParams
    request: CaptureRequest
    state: Any
    decides: dict[str, str]  # what else than the configuration decides the maps
    described: dict[str, str]  # the same, and what else a reader wants to know
    declared: tuple[Field, ...]  # what the method gives of one view
    limits: ImageLimits = _LIMITS  # of masks, for a method that needs the truth
    left_out: LeftOut | None = None  # gives the value of words, if that is wanted
    regions: WordRegions | None = None  # gives their regions, if those are

    @classmethod
    def build(
        cls,
        model: Adapter,
        method: Method,
        params: LayerParams,
        limits: ImageLimits = _LIMITS,
        *,
        left_out: LeftOut | None = None,
        words: Words | None = None,
    ) -> "Engine":
        """Resolve the layers, prepare the method and check what it declares.

        Raises:
            UsageError, MmelError: for layers that there are not, weights that do not fit, a false declaration.
            ModelError: if the method needs what the model has not.
        """
        request = request_of(model, method, params)
        target = Target(model.spec.name, model.spec.sha256, request.layers, model.spec.scoring)
        try:
            declared = check(method.fields(params, target))
            check((*declared, WORD_VALUE))
        except ValueError as error:
            raise MmelError(f"method {method.name}: {error}") from error
        if words and any(field.name == WORD_MAP.name for field in declared):
            raise UsageError(f"--words: {method.name} gives words x regions of its own; leave --words out")
        state, decided = method.prepare(params, target), method.decides(params, target)
        described = method.describe(params, target) | decided
        regions = (
            WordRegions.of(words, method, params, state, request_of_words(model, method, request)) if words else None
        )
        return cls(model, method, params, request, state, decided, described, declared, limits, left_out, regions)

    @property
    def views(self) -> tuple[View, ...]:
        """What the model is shown of each image."""
        if isinstance(self.params, GradientParams):
            return views_of(self.params.shifts, self.params.zooms, self.model.spec.patch)
        return (View(),)

    @property
    def grid(self) -> tuple[int, int]:
        """Of the maps: the patches, or finer with several views."""
        height, width = self.model.spec.grid
        times = FINER if len(self.views) > 1 else 1
        return height * times, width * times

    @property
    def fields(self) -> tuple[Field, ...]:
        """What is given of each pair: what the method gives, and the value of words."""
        return (
            *self._of_method,
            *((WORD_VALUE,) if self.left_out else ()),
            *((*WORD_REGIONS, *PHRASE_REGIONS) if self.regions else ()),
        )

    @property
    def asks(self) -> list[tuple[CaptureRequest, tuple[View, ...]]]:
        """The captures that a batch takes, and of which views."""
        requests = [self.request, *([self.regions.request] if self.regions else [])]
        return [(request, self.views) for request in requests]

    @property
    def _of_method(self) -> tuple[Field, ...]:
        """All that the method declares, or what several views have a mean of."""
        return averaged(self.declared) if len(self.views) > 1 else self.declared

    def explain(self, batch: Batch, shared: SharedCaptures | None = None) -> tuple[list[Explanation], list[Failure]]:
        """Explain a batch; where memory runs out, in halves. Other methods may explain the same batch from `shared`.

        Pairs that share an image or a caption share its forward. A map that is not finite is a Failure, and so is a
        pair that exhausts the memory alone, or has no ground truth for a method that needs it.
        """
        truth, lacking = truths(batch, self.model.spec.grid, self.limits) if "truth" in self.method.needs else ({}, [])
        if lacking:
            gone = {failure.id for failure in lacking}
            batch = Batch([sample for sample in batch.samples if sample.id not in gone], batch.images)
        if not batch.samples:
            return [], lacking

        def work(samples: Sequence[Sample]) -> tuple[list[Explanation], list[Failure]]:
            return self._explain(Batch(list(samples), batch.images), truth, captures)

        captures = shared or SharedCaptures()
        if shared is None:
            captures.begin(self.asks)
        parts = in_halves(work, batch.samples, _too_large)
        explanations = [explanation for part, _ in parts for explanation in part]
        return explanations, [*lacking, *(failure for _, part in parts for failure in part)]

    def _explain(
        self, batch: Batch, truth: dict[str, np.ndarray], shared: SharedCaptures
    ) -> tuple[list[Explanation], list[Failure]]:
        keys = {key: i for i, key in enumerate(dict.fromkeys(s.ref.key for s in batch.samples))}
        texts = {text: i for i, text in enumerate(dict.fromkeys(s.caption for s in batch.samples))}
        own_texts = list(texts)
        against = against_numbers(batch.samples, texts, self.method, self.model)
        captions = self.model.tokenize(list(texts))
        pairs = [(keys[sample.ref.key], texts[sample.caption]) for sample in batch.samples]
        pixels = [batch.images[key].pixels for key in keys]
        hints = self._hints(batch, truth)
        columns = [column for _, column in pairs]
        regions = self.regions.of_batch(batch.samples, captions, pairs) if self.regions else None
        unmoved, seen_by, names = None, [], tuple(s.id for s in batch.samples)
        for view in self.views:
            seen = [Pixels(values, p.box) for values, p in zip(look(_stacked(pixels), view), pixels, strict=True)]
            make = partial(self._capture, seen, captions, pairs, against, regions)
            capture = shared.capture(self.request, view, names, make)
            probe = self._probe(seen, captions, pairs, against)  # of what this view shows
            capture = replace(capture, **hints, probe=probe)
            unmoved = unmoved or (capture.score, capture.image_embeds, capture.against_score)  # of the image as it is
            attribution = self.method.explain(capture, self.params, self.state)
            self._check(attribution, capture, max(len(words) for words in captions.words))
            if regions and self.regions:
                directed = shared.capture(self.regions.request, view, names, make).directed
                maps = regions.maps(directed, self.model.spec.grid)
                attribution = Attribution(attribution.fields | maps)
            seen_by.append((view, attribution))
        assert unmoved is not None  # noqa: S101 - there is always one view
        score, image_embeds, against_score = unmoved
        several = len(seen_by) > 1
        laid_fields = (*self._of_method, *((WORD_MAP, PHRASE_MAP) if regions else ()))
        together = overlay(seen_by, laid_fields, self.model.spec.image_size) if several else seen_by[0][1]
        arrays, scores = {name: _numpy(values) for name, values in together.fields.items()}, _numpy(score)
        of_words = self._word_values(image_embeds, captions, own_texts, columns)
        if regions:
            of_regions = regions.fields(together, image_embeds, FINER**2 if several else 1)
            of_words = [one | other for one, other in zip(of_words, of_regions, strict=True)]
        less = [None] * len(columns) if against_score is None else _numpy(against_score).tolist()
        explanations, failures = [], []
        for number, (sample, column) in enumerate(zip(batch.samples, columns, strict=True)):
            own = {name: values[number] for name, values in arrays.items()} | of_words[number]
            decoded = batch.images[sample.ref.key]
            explanation = Explanation(
                id=sample.id,
                image=sample.image,
                caption=sample.caption,
                image_size=decoded.size,
                box=decoded.pixels.box,
                score=float(scores[number]),
                logit=self.model.spec.scoring.logit(float(scores[number])),
                against=sample.against,
                against_score=less[number],
                **self._caption_side(captions, column, own),
            )
            if against and captions.truncated[against[number]]:
                explanation = replace(explanation, truncated=True)
            if against and read_alike(captions, column, against[number]):
                reason = "the model reads its caption and the text that it is against as the same tokens"
                failures.append(Failure(sample.id, "caption", reason))
            elif _finite(explanation):
                explanations.append(explanation)
            else:
                failures.append(Failure(sample.id, "model", "what was computed is not finite; try --dtype float32"))
        return explanations, failures

    def _capture(
        self,
        pixels: list[Pixels],
        captions: Captions,
        pairs: list[tuple[int, int]],
        against: list[int] | None,
        regions: BatchRegions | None,
        request: CaptureRequest,
    ) -> Capture:
        """What the model gives of one view; directions only where they are asked for."""
        directions = regions.directions if regions and request.directed else ()
        given = {"against": against} if against else {}  # an adapter need not know it
        return self.model.capture(pixels, captions, pairs, request, directions, **given)

    def _check(self, attribution: Attribution, capture: Capture, words: int) -> None:
        """Hold a method to its declaration, before anything is drawn or archived.

        Raises:
            MmelError: naming the method and the field.
        """
        pairs, tokens = capture.text.keys.shape
        sizes = Sizes(len(self.request.layers), self.model.spec.grid, tokens, words)
        declared = {field.name: (pairs, *field.shape(sizes)) for field in self.declared}
        given = {name: tuple(values.shape) for name, values in attribution.fields.items()}
        for name in sorted({*declared, *given}):
            if declared.get(name) != given.get(name):
                says, gives = declared.get(name, "nothing"), given.get(name, "nothing")
                raise MmelError(f"method {self.method.name}: declares {says} as field {name}, and gives {gives}")

    def _word_values(
        self, images: Tensor, captions: Captions, texts: list[str], columns: list[int]
    ) -> list[dict[str, np.ndarray]]:
        """The field of each pair that the method has no part in, if it is wanted."""
        if self.left_out is None:
            return [{} for _ in columns]
        values = self.left_out.values(images, captions, texts, columns)
        counts = [len(of_pair) for of_pair in values]
        return [{WORD_VALUE.name: _numpy(of_pair)} for of_pair in torch.cat(values).to("cpu").split(counts)]

    def _caption_side(self, captions: Captions, column: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """The fields of an Explanation that depend on its caption; ragged arrays are cut to its tokens and words."""
        tokens, words = captions.tokens[column], captions.words[column]
        phrases = len(arrays.get(PHRASE_SPAN.name, ()))
        sizes = Sizes(len(self.request.layers), self.grid, len(tokens), len(words), phrases)
        ends = {"tokens": slice(len(tokens)), "words": slice(len(words))}
        for field in self.fields:
            if field.ragged:  # padded to the caption with the most
                arrays[field.name] = arrays[field.name][tuple(ends.get(dim, slice(None)) for dim in field.dims)]
            arrays[field.name] = arrays[field.name].reshape(field.shape(sizes))
        truncated = bool(captions.truncated[column])
        return {"fields": arrays, "tokens": tokens, "words": words, "truncated": truncated}

    def _probe(
        self, pixels: list[Pixels], captions: Captions, pairs: list[tuple[int, int]], against: list[int] | None
    ) -> Probe | None:
        """For methods that look at altered inputs."""
        if "probe" not in self.method.needs:
            return None
        device = self.model.spec.device
        rows, columns = torch.tensor(pairs, device=device).T
        others = None if against is None else torch.tensor(against, device=device)
        return CoverProbe(self.model, _stacked(pixels).to(device), captions, rows, columns, others)

    def _hints(self, batch: Batch, truth: dict[str, np.ndarray]) -> dict[str, Any]:
        """The parts of a Capture that come from the pairs and not from the model."""
        hints: dict[str, Any] = {}
        if "seeds" in self.method.needs:
            hints["seeds"] = tuple(record_seed(sample.id) for sample in batch.samples)
        if truth:
            grids = np.stack([truth[sample.id] for sample in batch.samples])
            hints["truth"] = torch.from_numpy(grids).to(self.model.spec.device)
        return hints


def _too_large(sample: Sample, _error: Exception) -> tuple[list[Explanation], list[Failure]]:
    reason = "exhausts the device's memory by itself; try --dtype bfloat16, fewer method.layers, or another --device"
    return [], [Failure(sample.id, "model", reason)]


def _stacked(pixels: list[Pixels]) -> Tensor:
    return torch.stack([p.values for p in pixels])


def _finite(explanation: Explanation) -> bool:
    arrays = explanation.fields.values()
    scores = [score for score in (explanation.score, explanation.against_score) if score is not None]
    return bool(np.isfinite(scores).all()) and all(bool(np.isfinite(array).all()) for array in arrays)


def _numpy(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().to("cpu")
    return (values.float() if values.is_floating_point() else values).numpy()
