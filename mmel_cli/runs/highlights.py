"""The records of a run to look at first: the highest and lowest scores, and the oddest, by a stated measure."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmel_cli.archive import Archive, load_archive
from mmel_cli.fields import MAP, MATCH, WORD_VALUE
from mmel_cli.types import Explanation

EACH = 3


@dataclass(frozen=True)
class Highlight:
    """A record, and what of it is odd, if it is shown for that."""

    id: str
    caption: str
    score: float
    why: str = ""


@dataclass(frozen=True)
class Highlights:
    """Records of a run; of equal ones those that come first. `odd` says literally what makes a record odd."""

    highest: tuple[Highlight, ...]
    lowest: tuple[Highlight, ...]  # the lowest first
    oddest: tuple[Highlight, ...]  # the oddest first
    odd: str

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @property
    def first(self) -> str | None:
        """The id of the record to look at first: the oddest, else the lowest, else the highest."""
        return next((each.id for each in (*self.oddest, *self.lowest, *self.highest)), None)


@dataclass(frozen=True)
class _Measure:
    """A way to be odd, literally; how odd records are by their fields (0: not at all); and why one is."""

    says: str
    needs: tuple[str, ...]  # fields
    how: Callable[..., np.ndarray]  # of their blocks, (records, ...): a number a record
    why: Callable[[Explanation], str]


def _preferred(rank: np.ndarray, among: np.ndarray) -> np.ndarray:
    return np.where(among > 1, (rank - 1) / np.maximum(among - 1, 1), 0.0)


def _why_preferred(record: Explanation) -> str:
    behind, others = (int(record.fields[field.name]) - 1 for field in MATCH)
    return f"{behind} of {others} other captions score as high or higher"


def _spoiled(values: np.ndarray) -> np.ndarray:
    return -np.nan_to_num(values, nan=0.0).min(-1, initial=0)


def _why_spoiled(record: Explanation) -> str:
    values = np.nan_to_num(record.fields[WORD_VALUE.name], nan=0.0)
    worst = int(values.argmin())
    return f'without "{record.words[worst].text}" the score rises by {-values[worst]:.3f}'


def _opposed(maps: np.ndarray) -> np.ndarray:
    known = np.nan_to_num(maps.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    every = np.abs(known).sum((-2, -1))
    return -known.clip(max=0).sum((-2, -1)) / np.where(every > 0, every, 1)


def _why_opposed(record: Explanation) -> str:
    return f"{float(_opposed(record.map)):.0%} of its evidence is against the caption"


_MEASURES = (
    _Measure(
        "by what part of the other captions compared score as high or higher on the image",
        tuple(field.name for field in MATCH),
        _preferred,
        _why_preferred,
    ),
    _Measure("by how much one word of the caption lowers the score", (WORD_VALUE.name,), _spoiled, _why_spoiled),
    _Measure("by what part of the evidence is against the caption", (MAP.name,), _opposed, _why_opposed),
)
"""In this order: the first that the run has the fields for and that some record has anything of."""


def highlights(run: Path) -> Highlights:
    """Of an archive, read by blocks; a number a record is in memory at a time.

    Raises:
        ArchiveError: as load_archive.
    """
    with load_archive(run) as archive:
        each = min(EACH, max(1, len(archive) // 2))
        scores = _column(archive, ("score",), lambda values: values)
        highest = _most(scores, each)
        lowest = _most(-scores, each) if len(scores) > 1 else []
        measure, oddest = _oddest(archive)
        records = {place: archive.at(place) for place in sorted({*highest, *lowest, *oddest})}
        return Highlights(
            tuple(_highlight(records[place]) for place in highest),
            tuple(_highlight(records[place]) for place in lowest),
            tuple(_highlight(records[place], measure) for place in oddest),
            measure.says if measure else "",
        )


def _oddest(archive: Archive) -> tuple[_Measure | None, list[int]]:
    """The first measure that some record has anything of, and the records that have most of it."""
    own = {field.name for field in archive.info.fields}
    for measure in _MEASURES:
        if own.issuperset(measure.needs):
            values = _column(archive, measure.needs, measure.how)
            places = _most(np.where(values > 0, values, np.nan), EACH)
            if places:
                return measure, places
    return None, []


def _column(archive: Archive, names: tuple[str, ...], how: Callable[..., np.ndarray]) -> np.ndarray:
    """A number for each record, made of its rows of these datasets, (records,) float64."""
    blocks = (how(*(block[name] for name in names)) for block in archive.blocks(*names))
    return np.concatenate([np.zeros(0), *blocks])


def _most(values: np.ndarray, each: int) -> list[int]:
    """The places of the largest values, the largest first, of equal ones the first; what is not finite is left out."""
    order = np.argsort(np.where(np.isfinite(values), -values, np.inf), kind="stable")[:each]
    return [int(place) for place in order if np.isfinite(values[place])]


def _highlight(record: Explanation, measure: _Measure | None = None) -> Highlight:
    return Highlight(record.id, record.caption, record.score, measure.why(record) if measure else "")
