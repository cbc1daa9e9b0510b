"""The records of a run to look at first: the highest and lowest scores, and the oddest, by a stated measure."""

import heapq
from collections.abc import Callable
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
    """A way to be odd, literally; how odd a record is by its columns (0: not at all); and why one is."""

    says: str
    needs: tuple[str, ...]  # fields, which are the columns
    how: Callable[..., float]
    why: Callable[[Explanation], str]


def _preferred(rank: int, among: int) -> float:
    return (int(rank) - 1) / (int(among) - 1) if among > 1 else 0.0


def _why_preferred(record: Explanation) -> str:
    behind, others = int(record.fields[RANK]) - 1, int(record.fields[AMONG]) - 1
    return f"{behind} of {others} other captions score as high or higher"


def _spoiled(values: np.ndarray) -> float:
    return -float(np.nan_to_num(values, nan=0.0).min(initial=0))


def _why_spoiled(record: Explanation) -> str:
    values = np.nan_to_num(record.fields[WORD_VALUE.name], nan=0.0)
    worst = int(values.argmin())
    return f'without "{record.words[worst].text}" the score rises by {-values[worst]:.3f}'


def _opposed(values: np.ndarray) -> float:
    known = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    every = float(np.abs(known).sum(dtype=np.float64))
    return -float(known.clip(max=0).sum(dtype=np.float64)) / every if every > 0 else 0.0


def _why_opposed(record: Explanation) -> str:
    return f"{_opposed(record.map):.0%} of its evidence is against the caption"


_MEASURES = (
    _Measure(
        "by how many other captions of the run score as high or higher on the image",
        (RANK, AMONG),
        _preferred,
        _why_preferred,
    ),
    _Measure("by how much one word of the caption lowers the score", (WORD_VALUE.name,), _spoiled, _why_spoiled),
    _Measure("by what part of the evidence is against the caption", (MAP.name,), _opposed, _why_opposed),
)
"""In this order: the first that the run has the fields for and that some record has anything of."""


def highlights(run: Path) -> Highlights:
    """Of an archive, by one pass over its columns that holds no more than a block of records.

    Raises:
        ArchiveError: as load_archive.
    """
    with load_archive(run) as archive:
        each = min(EACH, max(1, len(archive) // 2))
        scores, odd = _columns(archive)
        highest = _most(scores, each, set())
        lowest = _most([-score for score in scores], each, set()) if len(scores) > 1 else []
        named = {*highest, *lowest} if len(scores) < _SMALL else set()
        by_measure = ((measure, _most(values, EACH, named)) for measure, values in odd.items())
        measure, oddest = next(((measure, places) for measure, places in by_measure if places), (None, []))
        records = {place: archive.at(place) for place in sorted({*highest, *lowest, *oddest})}
        return Highlights(
            tuple(_highlight(records[place]) for place in highest),
            tuple(_highlight(records[place]) for place in lowest),
            tuple(_highlight(records[place], measure) for place in oddest),
            measure.says if measure else "",
        )


def _columns(archive: Archive) -> tuple[list[float], dict[_Measure, list[float]]]:
    """The score of each record, and how odd it is by each measure that the run has the fields for (NaN: not at all)."""
    own = {field.name for field in archive.info.fields}
    measures = [measure for measure in _MEASURES if own.issuperset(measure.needs)]
    names = ["score", *dict.fromkeys(name for measure in measures for name in measure.needs)]
    scores: list[float] = []
    odd: dict[_Measure, list[float]] = {measure: [] for measure in measures}
    for values in archive.rows(*names):
        row = dict(zip(names, values, strict=True))
        scores.append(float(row["score"]))
        for measure, how in odd.items():
            value = measure.how(*(row[name] for name in measure.needs))
            how.append(value if value > 0 else float("nan"))
    return scores, odd


def _most(values: list[float], each: int, but: set[int]) -> list[int]:
    """The places of the largest values, the largest first; what is not finite does not count."""
    places = (place for place, value in enumerate(values) if np.isfinite(value) and place not in but)
    return heapq.nsmallest(each, places, key=lambda place: (-values[place], place))


def _highlight(record: Explanation, measure: _Measure | None = None) -> Highlight:
    return Highlight(record.id, record.caption, record.score, measure.why(record) if measure else "")
