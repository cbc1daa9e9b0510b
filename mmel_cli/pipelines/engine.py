"""One batch of pairs through the model and a method: samples in, explanations and failures out."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
    HIGH_NORM,
    MATCH,
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
from mmel_cli.pipelines.declared import check_given, not_finite, of_one
from mmel_cli.pipelines.differences import against_numbers
from mmel_cli.pipelines.matching import Signs
from mmel_cli.pipelines.regions import WordRegions, Words
from mmel_cli.pipelines.said import Said
from mmel_cli.pipelines.sharing import SharedCaptures
from mmel_cli.pipelines.truths import truths
from mmel_cli.runs.clock import Clock, Part
from mmel_cli.tensors import Attribution, Capture, Pixels, Probe
from mmel_cli.types import Explanation, Failure, Sample

_LIMITS, _NO_SIGNS = ImageLimits(), Signs()


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
    signs: Signs = _NO_SIGNS  # gives what marks are made from
    clock: Clock = field(default_factory=Clock)

    @classmethod
    def build(  # noqa: PLR0913 - what is wanted besides the method's fields, one parameter each
        cls,
        model: Adapter,
        method: Method,
        params: LayerParams,
        limits: ImageLimits = _LIMITS,
        *,
        left_out: LeftOut | None = None,
        words: Words | None = None,
        signs: Signs = _NO_SIGNS,
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
            check((*declared, WORD_VALUE, *MATCH, HIGH_NORM))
        except ValueError as error:
            raise MmelError(f"method {method.name}: {error}") from error
        if words and any(field.name == WORD_MAP.name for field in declared):
            raise UsageError(f"--words: {method.name} gives words x regions of its own; leave --words out")
        state, decided = method.prepare(params, target), method.decides(params, target)
        described = method.describe(params, target) | decided
        regions = None
        if words:
            asked = request_of_words(model, method, request)
            regions = WordRegions.of(words, method, params, state, asked)
            request = request if method.along is None else asked  # one capture for both
        if "norms" not in model.spec.gives:
            signs = replace(signs, norms=False)
        given = (params, request, state, decided, described, declared, limits)
        return cls(model, method, *given, left_out, regions, signs)

    def timed(self, clock: Clock) -> "Engine":
        """The same with a clock, which waits for the device at the end of each part if it is on."""
        if clock.on and self.model.spec.device.startswith("cuda"):
            clock.settle = torch.cuda.synchronize
        return replace(self, clock=clock)

    @property
    def views(self) -> tuple[View, ...]:
        """What the model is shown of each image."""
        if isinstance(self.params, GradientParams):
            return views_of(self.params.shifts, self.params.zooms, self.model.spec.patch)
        return (View(),)

    @property
    def _several(self) -> bool:
        """Whether there are several views."""
        return len(self.views) > 1

    @property
    def grid(self) -> tuple[int, int]:
        """Of the maps: the patches, or finer with several views."""
        height, width = self.model.spec.grid
        times = FINER if self._several else 1
        return height * times, width * times

    @property
    def fields(self) -> tuple[Field, ...]:
        """What is given of each pair: what the method gives, of words, and what marks are made from."""
        return (
            *self._of_method,
            *((WORD_VALUE,) if self.left_out else ()),
            *((*WORD_REGIONS, *PHRASE_REGIONS) if self.regions else ()),
            *self.signs.fields,
        )

    @property
    def asks(self) -> list[tuple[CaptureRequest, tuple[View, ...]]]:
        """The captures that a batch takes, and of which views."""
        requests = dict.fromkeys([self.request, *([self.regions.request] if self.regions else [])])
        return [(request, self.views) for request in requests]

    @property
    def _of_method(self) -> tuple[Field, ...]:
        """All that the method declares, or what several views have a mean of."""
        return averaged(self.declared) if self._several else self.declared

    def explain(self, batch: Batch, shared: SharedCaptures | None = None) -> tuple[list[Explanation], list[Failure]]:
        """Explain a batch; where memory runs out, in halves. Other methods may explain the same batch from `shared`.

        Pairs that share an image or a caption share its forward. A map that is not finite is a Failure, and so is a
        pair that exhausts the memory alone, or has no ground truth for a method that needs it.
        """
        batch, truth, lacking = self._with_truth(batch)
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

    def explain_whole(self, batch: Batch, shared: SharedCaptures) -> None:
        """The same with nothing kept, in one piece: memory that runs out is an error (model/exhaustion.py)."""
        batch, truth, _ = self._with_truth(batch)
        self._explain(batch, truth, shared)

    def without_signs(self) -> "Engine":
        """The same without what marks are made from, and without a clock."""
        return replace(self, signs=_NO_SIGNS, clock=Clock())

    def _with_truth(self, batch: Batch) -> tuple[Batch, dict[str, np.ndarray], list[Failure]]:
        """The pairs that have the truth that the method needs, their truths, and the others."""
        if "truth" not in self.method.needs:
            return batch, {}, []
        truth, lacking = truths(batch, self.model.spec.grid, self.limits)
        gone = {failure.id for failure in lacking}
        return Batch([sample for sample in batch.samples if sample.id not in gone], batch.images), truth, lacking

    def _explain(
        self, batch: Batch, truth: dict[str, np.ndarray], shared: SharedCaptures
    ) -> tuple[list[Explanation], list[Failure]]:
        with self.clock.part(Part.MODEL):
            said = self._said(batch)
        unmoved, together = self._look(batch, said, self._hints(batch, truth), shared)
        fields = [{name: values[n] for name, values in together.items()} for n in range(len(said.pairs))]
        with self.clock.part(Part.WORDS):
            said_of = self._of_captions(batch, said, unmoved, together)
        fields = [own | other for own, other in zip(fields, said_of, strict=True)]
        scores = _numpy(unmoved.score).tolist()
        less = [None] * len(scores) if unmoved.against_score is None else _numpy(unmoved.against_score).tolist()
        explanations, failures = [], []
        for number, (score, rival) in enumerate(zip(scores, less, strict=True)):
            explanation = self._explanation(batch, said, number, fields[number], (score, rival))
            failure = said.unfit(batch.samples[number].id, number) or not_finite(explanation)
            explanations += [] if failure else [explanation]
            failures += [failure] if failure else []
        return explanations, failures

    def _of_captions(
        self, batch: Batch, said: Said, unmoved: "_Scores", together: dict[str, np.ndarray]
    ) -> list[dict[str, np.ndarray]]:
        """What is given of each pair besides the method: values of words, their regions, what marks are made from."""
        fields: list[dict[str, np.ndarray]] = [{} for _ in said.pairs]
        if self.left_out is not None:
            values = self.left_out.values(unmoved.image_embeds, said.captions, said.texts, said.columns)
            parts = torch.cat(values).to("cpu").split([len(of_pair) for of_pair in values])
            fields = [{WORD_VALUE.name: _numpy(of_pair)} for of_pair in parts]
        if said.regions:
            of_words = said.regions.fields(together, unmoved.image_embeds.to("cpu"), FINER**2 if self._several else 1)
            fields = [own | other for own, other in zip(fields, of_words, strict=True)]
        grids = (self.model.spec.grid, self.grid)
        signs = self.signs.of_batch(batch.samples, said, unmoved.image_embeds, unmoved.norms, grids)
        return [own | other for own, other in zip(fields, signs, strict=True)]

    def _said(self, batch: Batch) -> Said:
        """The distinct images and captions of a batch, and what is known of the captions."""
        keys = {key: i for i, key in enumerate(dict.fromkeys(s.ref.key for s in batch.samples))}
        texts = {text: i for i, text in enumerate(dict.fromkeys(s.caption for s in batch.samples))}
        own = list(texts)
        against = against_numbers(batch.samples, texts, self.method, self.model)
        captions = self.model.tokenize(list(texts))
        pairs = [(keys[sample.ref.key], texts[sample.caption]) for sample in batch.samples]
        regions = self.regions.of_batch(batch.samples, captions, pairs) if self.regions else None
        return Said(tuple(keys), own, captions, pairs, against, regions)

    def _look(
        self, batch: Batch, said: Said, hints: dict[str, Any], shared: SharedCaptures
    ) -> tuple["_Scores", dict[str, np.ndarray]]:
        """What is known of the images as they are, and what the method gives of all views, laid over each other."""
        pixels = [batch.images[key].pixels for key in said.keys]
        unmoved, seen_by, names = None, [], tuple(s.id for s in batch.samples)
        for view in self.views:
            seen = self._seen(pixels, view)
            make = partial(self._capture, seen, said)
            with self.clock.part(Part.MODEL):
                capture = shared.capture(self.request, view, names, make)
            capture = replace(capture, **hints, probe=self._probe(seen, said))  # of what this view shows
            unmoved = unmoved or _Scores(capture.score, capture.against_score, capture.image_embeds, capture.norms)
            with self.clock.part(Part.METHOD):
                attribution = self.method.explain(capture, self.params, self.state)
                pairs, tokens = capture.text.keys.shape
                most = Sizes(len(self.request.layers), self.model.spec.grid, tokens, max(map(len, said.captions.words)))
                check_given(self.method.name, self.declared, attribution, pairs, most)
            if said.regions and self.regions:
                apart = self.regions.request != self.request
                with self.clock.part(Part.MODEL):
                    along = shared.capture(self.regions.request, view, names, make) if apart else capture
                maps = said.regions.maps(along.directed, self.model.spec.grid)
                attribution = Attribution(attribution.fields | maps)
            seen_by.append((view, attribution))
        laid = (*self._of_method, *((WORD_MAP, PHRASE_MAP) if said.regions else ()))
        together = overlay(seen_by, laid, self.model.spec.image_size) if self._several else seen_by[0][1]
        assert unmoved is not None  # noqa: S101 - there is always one view
        with self.clock.part(Part.METHOD):
            return unmoved, {name: _numpy(values) for name, values in together.fields.items()}

    def _seen(self, pixels: list[Pixels], view: View) -> list[Pixels]:
        """One view of the images, on the model's device."""
        with self.clock.part(Part.DEVICE):
            values = look(_stacked(pixels).to(self.model.spec.device), view)
            return [Pixels(of_one, p.box) for of_one, p in zip(values, pixels, strict=True)]

    def _explanation(
        self,
        batch: Batch,
        said: Said,
        number: int,
        fields: dict[str, np.ndarray],
        scores: tuple[float, float | None],
    ) -> Explanation:
        """One pair, as it is archived; `scores` are its own, and that which it is against."""
        sample, column = batch.samples[number], said.columns[number]
        decoded = batch.images[sample.ref.key]
        explanation = Explanation(
            id=sample.id,
            image=sample.image,
            caption=sample.caption,
            image_size=decoded.size,
            box=decoded.pixels.box,
            score=scores[0],
            logit=self.model.spec.scoring.logit(scores[0]),
            against=sample.against,
            against_score=scores[1],
            **self._caption_side(said.captions, column, fields),
        )
        cut = said.against and said.captions.truncated[said.against[number]]
        return replace(explanation, truncated=True) if cut else explanation

    def _capture(self, pixels: list[Pixels], said: Said, request: CaptureRequest) -> Capture:
        """What the model gives of one view; directions only where they are asked for."""
        directions = said.regions.directions if said.regions and request.directed else ()
        given = {"against": said.against} if said.against else {}  # an adapter need not know it
        return self.model.capture(pixels, said.captions, said.pairs, request, directions, **given)

    def _caption_side(self, captions: Captions, column: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """What of an Explanation depends on its caption."""
        tokens, words = captions.tokens[column], captions.words[column]
        phrases = len(arrays.get(PHRASE_SPAN.name, ()))
        own = Sizes(len(self.request.layers), self.grid, len(tokens), len(words), phrases)
        truncated = bool(captions.truncated[column])
        return {"fields": of_one(self.fields, arrays, own), "tokens": tokens, "words": words, "truncated": truncated}

    def _probe(self, pixels: list[Pixels], said: Said) -> Probe | None:
        """For methods that look at altered inputs."""
        if "probe" not in self.method.needs:
            return None
        device = self.model.spec.device
        rows, columns = torch.tensor(said.pairs, device=device).T
        others = None if said.against is None else torch.tensor(said.against, device=device)
        return CoverProbe(self.model, _stacked(pixels).to(device), said.captions, rows, columns, others)

    def _hints(self, batch: Batch, truth: dict[str, np.ndarray]) -> dict[str, Any]:
        """The parts of a Capture that come from the pairs and not from the model."""
        hints: dict[str, Any] = {}
        if "seeds" in self.method.needs:
            hints["seeds"] = tuple(record_seed(sample.id) for sample in batch.samples)
        if truth:
            grids = np.stack([truth[sample.id] for sample in batch.samples])
            hints["truth"] = torch.from_numpy(grids).to(self.model.spec.device)
        return hints


@dataclass(frozen=True)
class _Scores:
    """Of the images as they are."""

    score: Tensor
    against_score: Tensor | None
    image_embeds: Tensor
    norms: Tensor | None


def _too_large(sample: Sample, _error: Exception) -> tuple[list[Explanation], list[Failure]]:
    reason = "exhausts the device's memory by itself; try --dtype bfloat16, fewer method.layers, or another --device"
    return [], [Failure(sample.id, "model", reason)]


def _stacked(pixels: list[Pixels]) -> Tensor:
    return torch.stack([p.values for p in pixels])


def _numpy(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().to("cpu")
    return (values.float() if values.is_floating_point() else values).numpy()
