"""The records of a run to look at first: the highest and lowest scores, and the oddest, by a stated measure."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmel_cli.archive import Archive, load_archive
from mmel_cli.fields import MAP, WORD_VALUE
from mmel_cli.runs.view import AMONG, RANK
from mmel_cli.types import Explanation

EACH = 3
_SMALL = 7  # records; a run with fewer names none twice


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
    """A way to be odd, literally; how odd each record is (0: not at all), in the archive's order; and why one is."""

    says: str
    needs: tuple[str, ...]  # fields
    of_all: Callable[[Archive], Iterator[float]]
    why: Callable[[Explanation], str]


def _preferred(archive: Archive) -> Iterator[float]:
    for rank, among in archive.rows(RANK, AMONG):
        yield (int(rank) - 1) / (int(among) - 1) if among > 1 else 0.0


def _why_preferred(record: Explanation) -> str:
    behind, others = int(record.fields[RANK]) - 1, int(record.fields[AMONG]) - 1
    return f"{behind} of {others} other captions score as high or higher"


def _spoiled(archive: Archive) -> Iterator[float]:
    for (values,) in archive.rows(WORD_VALUE.name):
        yield -float(np.nan_to_num(values, nan=0.0).min(initial=0))


def _why_spoiled(record: Explanation) -> str:
    values = np.nan_to_num(record.fields[WORD_VALUE.name], nan=0.0)
    worst = int(values.argmin())
    return f'without "{record.words[worst].text}" the score rises by {-values[worst]:.3f}'


def _opposed(archive: Archive) -> Iterator[float]:
    return (_part_against(values) for (values,) in archive.rows(MAP.name))


def _why_opposed(record: Explanation) -> str:
    return f"{_part_against(record.map):.0%} of its evidence is against the caption"


def _part_against(values: np.ndarray) -> float:
    known = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    every = float(np.abs(known).sum(dtype=np.float64))
    return -float(known.clip(max=0).sum(dtype=np.float64)) / every if every > 0 else 0.0


_MEASURES = (
    _Measure("the model prefers most other captions of the run", (RANK, AMONG), _preferred, _why_preferred),
    _Measure("one word of the caption lowers the score most", (WORD_VALUE.name,), _spoiled, _why_spoiled),
    _Measure("most of the evidence is against the caption", (), _opposed, _why_opposed),
)
"""In this order: the first that the run has the fields for and that some record has anything of."""


def highlights(run: Path) -> Highlights:
    """Of an archive, by passes over its columns that hold no more than a block of records.

    Raises:
        ArchiveError: as load_archive.
    """
    with load_archive(run) as archive:
        each = min(EACH, max(1, len(archive) // 2))
        scores = [float(score) for (score,) in archive.rows("score")]
        highest = _most(scores, each, set())
        lowest = _most([-score for score in scores], each, set()) if len(scores) > 1 else []
        named = {*highest, *lowest} if len(scores) < _SMALL else set()
        measure, oddest = _oddest(archive, named)
        return Highlights(
            tuple(_highlight(archive, place) for place in highest),
            tuple(_highlight(archive, place) for place in lowest),
            tuple(_highlight(archive, place, measure) for place in oddest),
            measure.says if measure else "",
        )


def _oddest(archive: Archive, named: set[int]) -> tuple[_Measure | None, list[int]]:
    """By which measure, and the places of the oddest records that are not named already."""
    fields = {field.name for field in archive.info.fields}
    for measure in _MEASURES:
        if fields.issuperset(measure.needs):
            oddest = _most([how if how > 0 else float("nan") for how in measure.of_all(archive)], EACH, named)
            if oddest:
                return measure, oddest
    return None, []


def _most(values: list[float], each: int, but: set[int]) -> list[int]:
    """The places of the largest values, the largest first; what is not finite does not count."""
    places = (place for place, value in enumerate(values) if np.isfinite(value) and place not in but)
    return heapq.nsmallest(each, places, key=lambda place: (-values[place], place))


def _highlight(archive: Archive, place: int, measure: _Measure | None = None) -> Highlight:
    record = archive[archive.ids[place]]
    return Highlight(record.id, record.caption, record.score, measure.why(record) if measure else "")
