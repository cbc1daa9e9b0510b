"""One batch of pairs through the model and a method: samples in, explanations and failures out."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmel_cli.attribution import Method, Target, resolve_layers
from mmel_cli.attribution.base import GradientParams, LayerParams
from mmel_cli.attribution.views import FINER, View, look, overlay, views_of
from mmel_cli.data.images import ImageLimits
from mmel_cli.data.paths import record_seed
from mmel_cli.data.truth import read_truth
from mmel_cli.errors import RecordError
from mmel_cli.geometry import to_grid
from mmel_cli.model import Adapter, CaptureRequest, CoverProbe, Pixels, Words
from mmel_cli.pipelines.batches import Batch
from mmel_cli.tensors import Attribution, Probe
from mmel_cli.types import Explanation, Failure

_LIMITS = ImageLimits()


@dataclass(frozen=True)
class Engine:
    """A model, a method ready to explain it, and what it asks of the model."""

    model: Adapter
    method: Method
    params: LayerParams
    request: CaptureRequest
    state: Any
    described: dict[str, str]  # what else than the configuration decides the maps
    limits: ImageLimits = _LIMITS  # of masks, for a method that needs the truth

    @classmethod
    def build(cls, model: Adapter, method: Method, params: LayerParams, limits: ImageLimits = _LIMITS) -> "Engine":
        """Resolve the layers and prepare the method (may raise UsageError)."""
        layers = resolve_layers(params.layers, model.spec.layers)
        request = CaptureRequest(
            layers=layers,
            text_layers=resolve_layers(params.text_layers, model.spec.text_layers, "text_layers"),
            hidden="hidden" in method.needs,
            alignment="alignment" in method.needs,
            one_head=method.one_head(params),
        )
        target = Target(model.spec.name, model.spec.sha256, layers, model.spec.logit_scale)
        state, described = method.prepare(params, target), method.describe(params, target)
        return cls(model, method, params, request, state, described, limits)

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

    def explain(self, batch: Batch) -> tuple[list[Explanation], list[Failure]]:
        """Explain a batch; on a GPU that is out of memory, in halves.

        Pairs that share an image or a caption share its forward. A map that is not finite is a Failure, and so is a
        pair without ground truth for a method that needs it.
        """
        truth, lacking = _truth(batch, self.model.spec.grid, self.limits) if "truth" in self.method.needs else ({}, [])
        if lacking:
            gone = {failure.id for failure in lacking}
            batch = Batch([sample for sample in batch.samples if sample.id not in gone], batch.images)
        if not batch.samples:
            return [], lacking
        try:
            explanations, failures = self._explain(batch, truth)
        except torch.OutOfMemoryError:
            if len(batch.samples) == 1:
                raise
        else:
            return explanations, [*lacking, *failures]
        torch.cuda.empty_cache()
        half = len(batch.samples) // 2
        first = self.explain(Batch(batch.samples[:half], batch.images))
        second = self.explain(Batch(batch.samples[half:], batch.images))
        return first[0] + second[0], lacking + first[1] + second[1]

    def _explain(self, batch: Batch, truth: dict[str, np.ndarray]) -> tuple[list[Explanation], list[Failure]]:
        keys = {key: i for i, key in enumerate(dict.fromkeys(s.ref.key for s in batch.samples))}
        captions = {text: i for i, text in enumerate(dict.fromkeys(s.caption for s in batch.samples))}
        words = self.model.tokenize(list(captions))
        pairs = [(keys[sample.ref.key], captions[sample.caption]) for sample in batch.samples]
        pixels = [batch.images[key].pixels for key in keys]
        hints = self._hints(batch, truth) | {"probe": self._probe(pixels, words, pairs)}
        score, found = None, []
        for view in self.views:
            seen = [Pixels(values, p.box) for values, p in zip(look(_stacked(pixels), view), pixels, strict=True)]
            capture = replace(self.model.capture(seen, words, pairs, self.request), **hints)
            score = capture.score if score is None else score  # of the image as it is
            found.append((view, self.method.explain(capture, self.params, self.state)))
        assert score is not None  # noqa: S101 - there is always one view
        maps = _Maps.of(found[0][1] if len(found) == 1 else overlay(found, self.model.spec.image_size), score)
        explanations, failures = [], []
        for number, (sample, (_, column)) in enumerate(zip(batch.samples, pairs, strict=True)):
            decoded = batch.images[sample.ref.key]
            explanation = Explanation(
                id=sample.id,
                image=sample.image,
                caption=sample.caption,
                image_size=decoded.size,
                box=decoded.pixels.box,
                **maps.record(number),
                **_caption_side(words, column, maps.tokens[number]),
            )
            if _finite(explanation):
                explanations.append(explanation)
            else:
                failures.append(Failure(sample.id, "model", "map is not finite; try --dtype float32"))
        return explanations, failures

    def _probe(self, pixels: list[Pixels], words: Words, pairs: list[tuple[int, int]]) -> Probe | None:
        """For methods that look at altered inputs."""
        if "probe" not in self.method.needs:
            return None
        device = self.model.spec.device
        rows, columns = torch.tensor(pairs, device=device).T
        return CoverProbe(self.model, _stacked(pixels).to(device), words, rows, columns)

    def _hints(self, batch: Batch, truth: dict[str, np.ndarray]) -> dict[str, Any]:
        """The parts of a Capture that come from the pairs and not from the model."""
        hints: dict[str, Any] = {}
        if "seeds" in self.method.needs:
            hints["seeds"] = tuple(record_seed(sample.id) for sample in batch.samples)
        if truth:
            grids = np.stack([truth[sample.id] for sample in batch.samples])
            hints["truth"] = torch.from_numpy(grids).to(self.model.spec.device)
        return hints


def _truth(batch: Batch, grid: tuple[int, int], limits: ImageLimits) -> tuple[dict[str, np.ndarray], list[Failure]]:
    """The ground truth of each pair on the patch grid, and the pairs that have none."""
    found, failures = {}, []
    for sample in batch.samples:
        decoded = batch.images[sample.ref.key]
        try:
            mask = read_truth(sample, decoded.size, limits)
        except RecordError as error:
            failures.append(Failure(sample.id, error.stage, str(error)))
            continue
        if mask is None:
            failures.append(Failure(sample.id, "pair", "has neither a mask nor boxes, which --method mask needs"))
        else:
            found[sample.id] = to_grid(mask, decoded.pixels.box, grid)
    return found, failures


@dataclass(frozen=True)
class _Maps:
    """An attribution on the CPU as numpy, copied once a batch."""

    score: np.ndarray
    map: np.ndarray
    tokens: np.ndarray
    layers: dict[str, np.ndarray]
    shared: dict[int, np.ndarray]

    @classmethod
    def of(cls, attribution: Attribution, score: Tensor) -> "_Maps":
        """Copy from the device."""
        return cls(
            score=_numpy(score),
            map=_numpy(attribution.map),
            tokens=_numpy(attribution.tokens),
            layers={kind: _numpy(value) for kind, value in attribution.layers.items()},
            shared={scale: _numpy(value) for scale, value in attribution.shared.items()},
        )

    def record(self, number: int) -> dict[str, Any]:
        """The fields of an Explanation that come from the method."""
        return {
            "score": float(self.score[number]),
            "map": self.map[number],
            "layers": {kind: value[number] for kind, value in self.layers.items()},
            "shared": {scale: value[number] for scale, value in self.shared.items()},
        }


def _caption_side(words: Words, column: int, values: np.ndarray) -> dict[str, Any]:
    tokens = words.tokens[column]
    return {
        "tokens": tokens,
        "token_map": values[1 : 1 + len(tokens)],
        "truncated": bool(words.truncated[column]),
    }


def _stacked(pixels: list[Pixels]) -> Tensor:
    return torch.stack([p.values for p in pixels])


def _finite(explanation: Explanation) -> bool:
    arrays = [explanation.map, explanation.token_map, *explanation.layers.values(), *explanation.shared.values()]
    return bool(np.isfinite(explanation.score)) and all(bool(np.isfinite(array).all()) for array in arrays)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy()
