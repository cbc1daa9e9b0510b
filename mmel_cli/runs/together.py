"""Several runs taken together: what each is called, and which records all of them have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mmel_cli.archive import Archive
from mmel_cli.errors import UsageError
from mmel_cli.names import count


@dataclass(frozen=True)
class Opened:
    """A run under its label."""

    label: str
    path: Path
    archive: Archive


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


def common_records(runs: Sequence[Opened], limit: int | None, say: Callable[[str], None]) -> list[str]:
    """The ids that every run has with the same image, caption and what that is against, in the order of the first.

    Args:
        runs: at least one; records that differ from the first run's are left out, and counted by `say`.
        limit: so many at most.
        say: takes a line for each run.

    Raises:
        UsageError: if there is none.
    """
    first = runs[0].archive.ids
    common = set(first).intersection(*(run.archive.ids for run in runs[1:]))
    pairs = _pairs(runs[0]) if len(runs) > 1 else {}
    for run in runs[1:]:
        other = {name for name, pair in _pairs(run).items() if name in common and pair != pairs[name]}
        if other:
            have = "has" if len(other) == 1 else "have"
            differ = (
                f"{count(len(other), 'record')} {have} another caption, --against or image size than {runs[0].label}"
            )
            say(f"{run.label}: {differ}")
        common -= other
    if not common:
        raise UsageError(f"{' and '.join(str(run.path) for run in runs)}: have no record in common")
    for run in runs:
        say(f"{run.label}: {count(len(run.archive), 'record')}, {len(common)} in common")
    return list(islice((name for name in first if name in common), limit))


def _pairs(run: Opened) -> dict[str, int]:
    """By record id, a hash of what is explained: two datasets may use the same names."""
    names = ("id", "image", "caption", *(("against",) if run.archive.info.against else ()))
    texts = zip(*(run.archive.column(name) for name in names), strict=True)
    sizes = run.archive.column("image_size")
    return {str(name): hash((*said, *size)) for (name, *said), size in zip(texts, sizes, strict=True)}
