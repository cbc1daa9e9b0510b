"""Several runs taken together: what each is called, and which records all of them have."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.errors import UsageError
from mmel_cli.idsets import IdIndex, digests
from mmel_cli.names import count
from mmel_cli.runs.digests import ids_sha256, maps_sha256


@dataclass(frozen=True)
class Opened:
    """A run under its label."""

    label: str
    path: Path
    archive: Archive

    @cached_property
    def content(self) -> tuple[str, str]:
        """Digests of the names and of the maps of all its records; the archive is read once for them."""
        return ids_sha256(self.archive), maps_sha256(self.archive)


def labels_of(paths: Sequence[Path]) -> list[str]:
    """A short name for each run: its folder, with as many parents as it takes to tell them apart.

    Raises:
        UsageError: if a run is given twice.
    """
    places = [path.resolve() for path in paths]
    if len(set(places)) < len(places):
        raise UsageError(
            f"{next(p for p in paths if places.count(p.resolve()) > 1)}: is given twice; name each run once"
        )
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        labels = [
            "/".join(place.with_suffix("" if place.is_file() else place.suffix).parts[-depth:]) for place in places
        ]
        if len(set(labels)) == len(labels):
            return labels
    return [str(place) for place in places]


@dataclass(frozen=True)
class Common:
    """The records that runs have in common, in the order of the first; 16 bytes a record, and 4 for each run."""

    index: IdIndex  # their places in this order, by id
    numbers: tuple[np.ndarray, ...]  # of the records in the archive of each run, (n,) int32

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, record_id: object) -> bool:
        return record_id in self.index

    def sha256(self) -> str:
        """A digest of the ids, whatever their order."""
        return hashlib.sha256(self.index.digests.astype("<u8").tobytes()).hexdigest()


def common_records(runs: Sequence[Opened], limit: int | None, say: Callable[[str], None]) -> Common:
    """The records that every run has with the same image, caption and what that is against.

    Args:
        runs: at least one; records that differ from the first run's are left out, and counted by `say`.
        limit: so many at most.
        say: takes a line for each run.

    Raises:
        UsageError: if there is none.
    """
    first = runs[0].archive.index.ordered()
    places = [run.archive.index.numbers_of(first) for run in runs]
    common = np.all([place >= 0 for place in places], axis=0)
    pairs = _pairs(runs[0]) if len(runs) > 1 else first
    for run, place in zip(runs[1:], places[1:], strict=True):
        other = common & (_pairs(run)[place] != pairs)
        if other.any():
            differ = int(other.sum())
            have = "has" if differ == 1 else "have"
            what = f"{have} another caption, --against or image size than {runs[0].label}"
            say(f"{run.label}: {count(differ, 'record')} {what}")
        common &= ~other
    if not common.any():
        raise UsageError(f"{' and '.join(str(run.path) for run in runs)}: have no record in common")
    for run in runs:
        say(f"{run.label}: {count(len(run.archive), 'record')}, {int(common.sum())} in common")
    kept = np.flatnonzero(common)[:limit]
    return Common(IdIndex.of(first[kept]), tuple(place[kept] for place in places))


def _pairs(run: Opened) -> np.ndarray:
    """By record, a digest of what is explained, uint64: two datasets may use the same names."""
    names = ("image", "caption", *(("against",) if run.archive.info.against else ()), "image_size")
    return digests("\0".join((*map(str, said), str(tuple(size)))) for *said, size in run.archive.rows(*names))
