"""What a map cannot carry: marks of runs and of records, each with one literal sentence (METHOD 10).

Marks are made from what an archive holds, without the model, so that report, summary and terminal say the same, also of
archives of older versions, which lack some of what marks are made from: these marks are then absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from mmel_cli.archive import Archive
from mmel_cli.fields import HIGH_NORM, MAP, MATCH_AMONG, MATCH_RANK
from mmel_cli.types import RunInfo

CONTROLS = ("random", "mask")
CAPTION_BLIND = ("attention", "rollout", "eigen-cam")
"""Methods besides the controls whose map of an image is the same for any caption."""
BUILTIN = "builtin"
OWN_SCENES = "own_scenes"
"""The key of RunInfo.described that says "yes" of a run on mmel's own scenes."""
BLIND = "caption_blind"
"""The same of a method outside of CAPTION_BLIND that declares so (Method.caption_blind)."""

WORSE_PART = 8
"""Other captions are preferred where one in so many of them scores at least as high (METHOD 10 has the rates)."""
FEWEST_OTHERS = 8
"""Captions to compare with, and records to have a median of, from which a mark says something."""
LOW_PART = 0.25
RESIDUAL_PART = 0.1
OUTSIDE_PART = 0.1
HIGH_NORM_PART = 0.25


@dataclass(frozen=True)
class Mark:
    """Something to know before a map is believed."""

    name: str
    badge: str  # at most 24 characters
    says: str  # one sentence that is literally so wherever the mark is
    of: Literal["run", "record"]


MARKS = (
    Mark(
        "prefers-others",
        "prefers other captions",
        "On this image at least one in eight of the other captions compared scores as high as its own, or higher.",
        "record",
    ),
    Mark(
        "low-evidence",
        "little evidence",
        "The positive values of this map sum to less than a quarter of the run's median.",
        "record",
    ),
    Mark("no-evidence", "no evidence for", "No value of this map is above 0.", "record"),
    Mark("negative-score", "negative score", "The cosine of this image and its caption is below 0.", "record"),
    Mark(
        "against-higher",
        "other text scores higher",
        "On this image the text that the caption is explained against scores higher than the caption.",
        "record",
    ),
    Mark(
        "residual",
        "parts do not sum up",
        "What the method's parts sum to misses what they should by more than a tenth of the map's absolute evidence.",
        "record",
    ),
    Mark(
        "outside-image",
        "evidence on padding",
        "More than a tenth of this map's absolute evidence lies on padding, outside the image.",
        "record",
    ),
    Mark(
        "high-norm",
        "evidence on outliers",
        "More than a quarter of this map's absolute evidence lies on patches whose tokens are more than twice as long "
        "as the image's median.",
        "record",
    ),
    Mark(
        "truncated",
        "caption cut",
        "The caption, or the text that it is explained against, is longer than the model reads: its end was not read.",
        "record",
    ),
    Mark(
        "untrained",
        "default weights",
        "The weights that fuse the layers are mmel's defaults, the same for every model: none were learned for it.",
        "run",
    ),
    Mark(
        "control",
        "control",
        "The method is a control to compare others with: its maps say nothing of what the model does.",
        "run",
    ),
    Mark(
        "caption-blind",
        "blind to captions",
        "The method makes the same map of an image for any caption: it cannot say why this caption fits.",
        "run",
    ),
    Mark(
        "builtin",
        "builtin model",
        "The builtin model knows mmel's generated scenes alone, and the run does not say that its images are such.",
        "run",
    ),
    Mark(
        "bfloat16",
        "bfloat16",
        "The model ran in bfloat16, which keeps two to three decimal digits: small differences may be rounding.",
        "run",
    ),
)
"""All marks; those of records stand in the order of their bits."""
RECORD_MARKS = tuple(mark for mark in MARKS if mark.of == "record")
"""Bit n of Marked.marks is RECORD_MARKS[n]."""

_BY_NAME = {mark.name: mark for mark in MARKS}


@dataclass(frozen=True)
class Marked:
    """What marks say of the records of an archive, in its order."""

    evidence: Float[np.ndarray, "records"]  # the sum of a map's positive values, float32
    against_evidence: Float[np.ndarray, "records"]  # that of the magnitude of its negative values
    marks: UInt[np.ndarray, "records"]  # uint32; see RECORD_MARKS

    def counts(self) -> dict[str, int]:
        """How many records have each mark that any has, by its name."""
        numbers = {mark.name: int((self.marks >> n & 1).sum()) for n, mark in enumerate(RECORD_MARKS)}
        return {name: number for name, number in numbers.items() if number}


def find_mark(name: str) -> Mark:
    """A mark by its name; KeyError if there is none."""
    return _BY_NAME[name]


def of_run(info: RunInfo) -> tuple[Mark, ...]:
    """The marks of a run, by what its archive says of it."""
    method = info.config.get("method")
    has_weights = isinstance(method, Mapping) and "weights" in method
    present = {
        "untrained": has_weights and info.trained == "untrained",
        "control": info.method in CONTROLS,
        "caption-blind": info.method in CAPTION_BLIND or info.described.get(BLIND) == "yes",
        "builtin": info.model == BUILTIN and info.described.get(OWN_SCENES) != "yes",
        "bfloat16": info.dtype == "bfloat16",
    }
    return tuple(mark for mark in MARKS if mark.of == "run" and present[mark.name])


def of_records(archive: Archive) -> Marked:
    """The marks of all records; a block of maps is in memory at a time, and three numbers a record."""
    info = archive.info
    own = {field.name for field in info.fields}
    residuals = [f.name for f in info.fields if f.name.endswith("/residual") and not f.dims and f.dtype == "float32"]
    asked = [MAP.name, "score", "truncated", "image_size", "box", *residuals]
    asked += ["against_score"] if info.against else []
    asked += [name for name in (MATCH_RANK.name, MATCH_AMONG.name, HIGH_NORM.name) if name in own]
    evidence, against, marks = [], [], []
    for block in archive.blocks(*asked):
        values = block[MAP.name].astype(np.float64)
        above, below = values.clip(min=0).sum((1, 2)), -values.clip(max=0).sum((1, 2))
        evidence.append(above.astype(np.float32))
        against.append(below.astype(np.float32))
        marks.append(_bits(_present(block, values, residuals)))
    sums = np.concatenate([np.zeros(0, np.float32), *evidence])
    bits = np.concatenate([np.zeros(0, np.uint32), *marks])
    bits |= _bits({"low-evidence": _low(sums)})
    return Marked(sums, np.concatenate([np.zeros(0, np.float32), *against]), bits)


def _present(block: dict[str, np.ndarray], values: np.ndarray, residuals: list[str]) -> dict[str, np.ndarray]:
    """Which records of a block have each mark; without "low-evidence", which takes all records."""
    total = np.abs(values).sum((1, 2))
    present: dict[str, np.ndarray] = {
        "no-evidence": values.max((1, 2)) <= 0,
        "negative-score": block["score"] < 0,
        "outside-image": outside_part(values, block["box"], block["image_size"]) > OUTSIDE_PART,
        "truncated": block["truncated"].astype(bool),
    }
    if "against_score" in block:
        present["against-higher"] = block["against_score"] > block["score"]
    if MATCH_RANK.name in block and MATCH_AMONG.name in block:
        others, higher = block[MATCH_AMONG.name] - 1, block[MATCH_RANK.name] - 1
        present["prefers-others"] = (others >= FEWEST_OTHERS) & (higher * WORSE_PART >= others)
    if HIGH_NORM.name in block:
        present["high-norm"] = high_norm_part(values, block[HIGH_NORM.name]) > HIGH_NORM_PART
    for name in residuals:
        large = np.abs(block[name]) > RESIDUAL_PART * total
        present["residual"] = present.get("residual", np.zeros_like(large)) | large
    return present


def _low(evidence: np.ndarray) -> np.ndarray:
    """Against the run's median; a map without a positive value has a mark of its own."""
    if len(evidence) < FEWEST_OTHERS:
        return np.zeros(len(evidence), bool)
    return (evidence < LOW_PART * np.median(evidence)) & (evidence > 0)


def outside_part(
    maps: Float[np.ndarray, "records rows columns"],
    boxes: Float[np.ndarray, "records 4"],
    sizes: Int[np.ndarray, "records 2"],
) -> Float[np.ndarray, "records"]:
    """The part of each map's absolute evidence outside the image: each cell's by how much of it lies there.

    Args:
        maps: signed.
        boxes: x0, y0, x1, y1 of the grid in pixels of the image.
        sizes: height and width of the image in pixels.
    """
    rows, columns = maps.shape[1:]
    x0, y0, x1, y1 = boxes.astype(np.float64).T
    down, across = _inside(y0, y1, sizes[:, 0], rows), _inside(x0, x1, sizes[:, 1], columns)
    return _part(maps, 1 - down[:, :, None] * across[:, None, :])


def high_norm_part(
    maps: Float[np.ndarray, "records rows columns"], high: Bool[np.ndarray, "records rows columns"]
) -> Float[np.ndarray, "records"]:
    """The part of each map's absolute evidence on the cells of the field high_norm."""
    return _part(maps, high)


def _part(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The part of each map's magnitude that has these weights; 0 of a map that is 0 everywhere."""
    magnitude = np.abs(maps.astype(np.float64))
    total = magnitude.sum((1, 2))
    return (magnitude * weights).sum((1, 2)) / np.where(total > 0, total, 1)


def _inside(start: np.ndarray, end: np.ndarray, length: np.ndarray, cells: int) -> np.ndarray:
    """The part of each of so many cells from start to end that lies in 0..length, a row a record."""
    edges = start[:, None] + (end - start)[:, None] * np.arange(cells + 1) / cells
    kept = np.clip(edges, 0, length[:, None])
    return np.diff(kept) / np.diff(edges)


def _bits(present: Mapping[str, Any]) -> np.ndarray:
    """Marks of records as one number each."""
    count = len(next(iter(present.values())))
    bits = np.zeros(count, np.uint32)
    for n, mark in enumerate(RECORD_MARKS):
        if mark.name in present:
            bits |= np.asarray(present[mark.name], np.uint32) << np.uint32(n)
    return bits
