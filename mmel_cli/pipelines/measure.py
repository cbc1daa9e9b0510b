"""A batch of subjects through the metrics that were asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmel_cli.config import EvalConfig
from mmel_cli.data.paths import record_seed
from mmel_cli.evaluation import faithfulness, localisation, protocols, sanity
from mmel_cli.evaluation.faithfulness import CaptionSet, FaithfulnessOptions
from mmel_cli.evaluation.localisation import LocalisationOptions, as_tensor
from mmel_cli.evaluation.ranking import area
from mmel_cli.evaluation.sanity import SanityOptions
from mmel_cli.evaluation.summary import Scores
from mmel_cli.geometry import covered, to_pixels
from mmel_cli.model import Adapter, Pixels
from mmel_cli.model.forwards import in_parts
from mmel_cli.pipelines.batches import Batch, Decoded, Keep
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.subjects import Subject
from mmel_cli.types import Failure, ImageRef, Sample

_T = TypeVar("_T")
_SAME_SCORE = 0.02  # cosines of another device differ less; most other images, not all, differ more
_SAME_HALF_SCORE = 0.06  # of a run in half precision
_CURVES = ("insertion", "deletion")
_PER_LAYER = ("flow", "loosened")
_SHRUNK, _TILE = "shrunk", "tile"  # in Decoded.kept: for Grad-ECLIP's protocol, and a quarter of a mosaic
_DISJOINT = 0.1  # masks that share more than this part of their union are of the same thing


class Partner(NamedTuple):
    """An image that mosaics are filled up with."""

    image: str
    captions: frozenset[str]
    pixels: Image.Image  # at the model's input size


@dataclass(frozen=True)
class Rivals:
    """Captions to tell the right one from, embedded once, and the images that they are captions of."""

    texts: tuple[str, ...]
    images: tuple[frozenset[str], ...]
    embeds: Tensor  # (C, D)


@dataclass(frozen=True)
class Measurer:
    """The metrics of one run. `wanted` names those that can be had; the rest says what they work with."""

    wanted: frozenset[str]
    config: EvalConfig
    geometry: str
    model: Adapter | None = None
    engine: Engine | None = None  # the run's own method, for new maps
    rivals: Rivals | None = None
    partners: tuple[Partner, ...] = ()  # for mosaics
    check_score: float | None = _SAME_SCORE  # how far the cosine may be from that of the run; None: any

    @staticmethod
    def tolerance(dtype: str, *, one_head: bool) -> float | None:
        """How far a cosine may be from that of a run in this dtype; the score of a modified tower cannot be checked."""
        if one_head:
            return None
        return _SAME_SCORE if dtype == "float32" else _SAME_HALF_SCORE

    def with_partners(self, partners: tuple[Partner, ...]) -> "Measurer":
        """The same with images for mosaics."""
        return replace(self, partners=partners)

    @property
    def keep(self) -> dict[str, Keep]:
        """What a Loader must keep of each image for the wanted metrics."""
        keep: dict[str, Keep] = {}
        if any(name.startswith("grad-eclip") for name in self.wanted):
            keep[_SHRUNK] = protocols.shrink
        if "quadrant-recognition" in self.wanted:
            keep[_TILE] = partial(_squash, size=_given(self.model).spec.image_size)
        return keep

    def measure(self, subjects: list[Subject]) -> tuple[list[Scores], list[Failure]]:
        """Score a batch. A map that is not finite has every metric undefined."""
        failures: list[Failure] = []
        tables: dict[str, _Row] = {s.record.id: _Row(dict.fromkeys(sorted(self.wanted))) for s in subjects}
        sound = [s for s in subjects if np.isfinite(s.record.map).all() and np.isfinite(s.record.token_map).all()]
        if self.model is not None and sound:
            failures = self._check_scores(sound, self.model, self.check_score) if self.check_score else []
            gone = {failure.id for failure in failures}
            subjects = [s for s in subjects if s.record.id not in gone]
            sound = [s for s in sound if s.record.id not in gone]
        for part in self._parts():
            if sound:
                part(sound, tables)
        return [
            Scores(
                s.record.id,
                s.record.image,
                {name: value for name, value in tables[s.record.id].values.items() if name in self.wanted},
                tables[s.record.id].size,
                tables[s.record.id].curves,
                tables[s.record.id].layers,
            )
            for s in subjects
        ], failures

    def _parts(self) -> list[Callable[[list[Subject], "dict[str, _Row]"], None]]:
        """The computations that the wanted metrics need."""
        parts: list[Callable[[list[Subject], dict[str, _Row]], None]] = [self._localise, self._sanity]
        for names, part in (
            (("insertion", "deletion"), self._pixels),
            (("average-",), self._fade),
            (("grad-eclip",), self._zero_shot),
            (("aid",), self._aid),
            (("token-",), self._tokens),
            (("quadrant",), self._quadrants),
            (("max-sens",), self._sensitivity),
            (("randomisation",), self._randomise),
        ):
            if any(name.startswith(names) for name in self.wanted):
                parts.append(part)
        return parts

    def _check_scores(self, subjects: list[Subject], model: Adapter, limit: float) -> list[Failure]:
        cosines = (self._images(subjects, model) * self._own(subjects, model)).sum(-1).tolist()
        return [
            Failure(
                s.record.id, "image", f"cosine is {now:.3f} now, {s.record.score:.3f} when explained: another image"
            )
            for s, now in zip(subjects, cosines, strict=True)
            if not abs(now - s.record.score) <= limit
        ]

    def _localise(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        options = cast("LocalisationOptions", self.config.localisation)
        for s in subjects:
            if s.truth is None:
                continue
            row = table[s.record.id]
            values, part = to_pixels(s.record.map, s.record.box, s.record.image_size)
            mask = s.truth[part]
            row.values |= localisation.localise(values, mask, options)
            if not mask.any():
                continue
            row.size = localisation.size_class(mask, options)
            for kind in _PER_LAYER:
                for layer in s.record.fields.get(f"layers/{kind}", ()):
                    values, _ = to_pixels(layer, s.record.box, s.record.image_size)
                    for name, value in (
                        ("pointing-game", localisation.pointing_game(values, mask, options.tolerance)),
                        ("energy-inside", localisation.energy_inside(values, mask)),
                    ):
                        row.layers.setdefault(f"{kind}/{name}", []).append(value)

    def _sanity(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        for s in subjects:
            siblings = [
                t for t in subjects if t.record.image == s.record.image and t.record.caption != s.record.caption
            ]
            changes = [1 - sanity.rank_correlation(s.record.map, t.record.map) for t in siblings]
            contrasts = [value for t in siblings if (value := _contrast(s, t)) is not None]
            table[s.record.id].values |= {
                "sparseness": sanity.sparseness(s.record.map),
                "caption-change": float(np.mean(changes)) if changes else None,
                "caption-contrast": float(np.mean(contrasts)) if contrasts else None,
            }

    def _pixels(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        model = _given(self.model)
        maps = as_tensor([s.record.map for s in subjects])
        embeds = faithfulness.embed_pixels(model, _stack(subjects, model), maps, self.config.faithfulness)
        own = self._own(subjects, model)
        choice = self._choice(subjects, own)
        for kind in _CURVES:
            points = getattr(embeds, kind)
            curves = {kind: torch.einsum("bpd,bd->bp", points, own)}
            if choice is not None:
                curves[f"{kind}-probability"] = choice.probability(points)
            for name, curve in curves.items():
                for s, values, under in zip(subjects, curve.tolist(), area(curve).tolist(), strict=True):
                    table[s.record.id].values[name] = _defined(under)
                    if np.isfinite(under):
                        table[s.record.id].curves[name] = values
        for s in subjects:
            values = table[s.record.id].values
            for end in ("", "-probability"):
                if f"insertion{end}" in values and f"deletion{end}" in values:
                    values[f"insertion-deletion{end}"] = _minus(values[f"insertion{end}"], values[f"deletion{end}"])

    def _fade(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        model = _given(self.model)
        choice = _given(self._choice(subjects, self._own(subjects, model)))
        maps = as_tensor([s.record.map for s in subjects])
        faded = faithfulness.fade(model, _stack(subjects, model), maps, self.config.faithfulness)
        before = choice.probability(self._images(subjects, model)[:, None])[:, 0]
        drop, rise = faithfulness.drop_and_increase(before, choice.probability(faded)[:, 0])
        for s, down, up in zip(subjects, drop.tolist(), rise.tolist(), strict=True):
            known = np.isfinite(down)
            table[s.record.id].values |= {"average-drop": _defined(down), "average-increase": up if known else None}

    def _zero_shot(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        model = _given(self.model)
        choice = _given(self._choice(subjects, self._own(subjects, model)))
        for number, s in enumerate(subjects):
            if choice.alone[number]:
                continue
            inserted, deleted = protocols.eclip_images(_given(s.image).kept[_SHRUNK], s.record)
            pixels = torch.stack([model.preprocess(image, "native").values for image in [*inserted, *deleted]])
            pixels = pixels.to(model.spec.device)
            embeds = in_parts(partial(_embed_rows, model, pixels), len(pixels), self._batch, pixels.device)
            mine = slice(number, number + 1)
            one = CaptionSet(choice.own[mine], choice.others, choice.excluded[mine], choice.scoring)
            table[s.record.id].values |= protocols.eclip_areas(one.place(embeds[None])[0].view(2, -1))

    def _aid(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        model = _given(self.model)
        for s in subjects:
            words = model.tokenize([s.record.caption])
            pixels = _given(s.image).pixels.values[None].to(model.spec.device)
            value = protocols.aid(model, pixels, words, s.record, self.config.aid, self._batch)
            table[s.record.id].values["aid"] = _defined(value)

    def _tokens(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        model = _given(self.model)
        words = model.tokenize([s.record.caption for s in subjects])
        maps = [torch.from_numpy(s.record.token_map) for s in subjects]
        areas = faithfulness.token_curves(model, words, self._images(subjects, model), maps)
        for s, (highest, lowest) in zip(subjects, areas.tolist(), strict=True):
            table[s.record.id].values |= {"token-deletion": highest, "token-insertion-deletion": lowest - highest}

    def _quadrants(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        model, engine = _given(self.model), _given(self.engine)
        samples, images, places = [], {}, {}
        for s in subjects:
            rng = np.random.default_rng(record_seed(s.record.id))
            free = [p.pixels for p in self.partners if p.image != s.record.image and s.record.caption not in p.captions]
            if len(free) < 3:
                continue
            place = int(rng.integers(4))
            others = [free[int(k)] for k in rng.permutation(len(free))[:3]]
            mosaic, quarter = _mosaic(_given(s.image).kept[_TILE], others, place)
            ref = ImageRef(s.record.id, s.sample.ref.open)  # a mosaic for each record, decoded already
            samples.append(replace(s.sample, ref=ref, mask=None, boxes=(quarter,)))
            images[ref.key] = Decoded(model.preprocess(mosaic, "squash"), (mosaic.height, mosaic.width))
            places[s.record.id] = place
        for record in engine.explain(Batch(samples, images))[0]:
            value = localisation.quadrant_recognition(record.map, places[record.id])
            table[record.id].values["quadrant-recognition"] = value

    def _sensitivity(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        engine, options = _given(self.engine), self._sanity_options
        clean = _maps(engine, subjects)  # not the archive's: another dtype would count as a change
        worst: dict[str, float] = {}
        for number in range(options.samples):
            images = {s.sample.ref.key: _noisy(s, number, options.radius) for s in subjects}
            for record in engine.explain(Batch([s.sample for s in subjects], images))[0]:
                change = sanity.relative_change(clean[record.id], record.map)
                worst[record.id] = max(worst.get(record.id, 0.0), change)
        for name, value in worst.items():
            table[name].values["max-sensitivity"] = value

    def _randomise(self, subjects: list[Subject], table: "dict[str, _Row]") -> None:
        model, engine = _given(self.model), _given(self.engine)
        found: dict[str, list[float]] = {s.record.id: [] for s in subjects}
        maps = _maps(engine, subjects)
        for depth in sanity.depths(model.spec.layers, self._sanity_options.depths):
            other = Engine.build(model.randomised(depth, seed=depth), engine.method, engine.params)
            for name, values in _maps(other, subjects).items():
                found[name].append(sanity.rank_correlation(maps[name], values))
        for name, points in found.items():
            table[name].curves["randomisation"] = points
            table[name].values["randomisation"] = float(np.mean(points)) if points else None

    @property
    def _sanity_options(self) -> SanityOptions:
        return cast("SanityOptions", self.config.sanity)

    @property
    def _batch(self) -> int:
        return cast("FaithfulnessOptions", self.config.faithfulness).batch

    def _images(self, subjects: list[Subject], model: Adapter) -> Tensor:
        return model.embed_images(_stack(subjects, model))

    def _own(self, subjects: list[Subject], model: Adapter) -> Tensor:
        return model.embed_texts(model.tokenize([s.record.caption for s in subjects]))

    def _choice(self, subjects: list[Subject], own: Tensor) -> CaptionSet | None:
        if self.rivals is None:
            return None
        excluded = [
            [text == s.record.caption or s.record.image in of for text, of in zip(*self._rival_rows, strict=True)]
            for s in subjects
        ]
        scoring = _given(self.model).spec.scoring
        return CaptionSet(own, self.rivals.embeds, torch.tensor(excluded, device=own.device), scoring)

    @property
    def _rival_rows(self) -> tuple[tuple[str, ...], tuple[frozenset[str], ...]]:
        rivals = _given(self.rivals)
        return rivals.texts, rivals.images


@dataclass
class _Row:
    """The scores of a record while they are gathered."""

    values: dict[str, float | None]
    size: str | None = None
    curves: dict[str, list[float]] = field(default_factory=dict)
    layers: dict[str, list[float]] = field(default_factory=dict)


def _maps(engine: Engine, subjects: list[Subject]) -> dict[str, np.ndarray]:
    """The maps that a method gives now, by record id."""
    batch = Batch([s.sample for s in subjects], {s.sample.ref.key: _given(s.image) for s in subjects})
    return {record.id: record.map for record in engine.explain(batch)[0]}


def _given(value: _T | None) -> _T:
    """What the availability check has promised."""
    if value is None:
        raise AssertionError
    return value


def _embed_rows(model: Adapter, pixels: Tensor, rows: Tensor) -> Tensor:
    return model.embed_images(pixels[rows])


def _defined(value: float) -> float | None:
    """NaN, what is undefined in tensors, as None."""
    return value if np.isfinite(value) else None


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _stack(subjects: list[Subject], model: Adapter) -> Tensor:
    return torch.stack([_given(s.image).pixels.values for s in subjects]).to(model.spec.device)


def _contrast(own: Subject, other: Subject) -> float | None:
    """Energy in the own mask minus that of the other caption's map there; None unless the masks are of two things."""
    if own.truth is None or other.truth is None:
        return None
    part = covered(own.record.box, own.record.image_size)
    mask, elsewhere = own.truth[part], other.truth[part]
    if not mask.any() or not elsewhere.any() or (mask & elsewhere).sum() > _DISJOINT * (mask | elsewhere).sum():
        return None
    energies = [
        localisation.energy_inside(to_pixels(s.record.map, s.record.box, s.record.image_size)[0], mask)
        for s in (own, other)
    ]
    return energies[0] - energies[1]


def _noisy(subject: Subject, number: int, radius: float) -> Decoded:
    """The image with uniform noise on its normalised input, the same for all captions of the image."""
    image = _given(subject.image)
    generator = torch.Generator().manual_seed((record_seed(subject.record.image) + number) % 2**62)
    noise = torch.rand(image.pixels.values.shape, generator=generator) * 2 - 1
    return Decoded(Pixels(image.pixels.values + radius * noise, image.pixels.box), image.size)


def _squash(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A quarter of a mosaic: the image at `size` (height, width), whatever its aspect."""
    return image.resize((size[1], size[0]), Image.Resampling.BICUBIC)


def _mosaic(
    image: Image.Image, others: list[Image.Image], place: int
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Four squashed images as the quarters of one; the first in quarter `place`. Also where that is."""
    width, height = image.size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    tiles = [*others[:place], image, *others[place:]]
    for number, tile in enumerate(tiles):
        down, across = divmod(number, 2)
        sheet.paste(tile, (across * width, down * height))
    down, across = divmod(place, 2)
    x, y = float(across * width), float(down * height)
    return sheet, (x, y, x + width, y + height)


def partner_pool(samples: list[Sample], images: dict[str, Decoded]) -> tuple[Partner, ...]:
    """The distinct images that mosaics are filled up with, at the model's input size, and their captions."""
    captions: dict[str, set[str]] = {}
    pictures: dict[str, Image.Image] = {}
    for sample in samples:
        if sample.ref.key in images:
            captions.setdefault(sample.image, set()).add(sample.caption)
            pictures.setdefault(sample.image, images[sample.ref.key].kept[_TILE])
    return tuple(Partner(name, frozenset(texts), pictures[name]) for name, texts in captions.items())
