"""The contract of an export format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmel_cli.archive import Archive
from mmel_cli.blobs import THRESHOLD
from mmel_cli.data.images import ImageLimits
from mmel_cli.export.photos import Photos
from mmel_cli.runs import Events
from mmel_cli.types import Explanation

_LIMITS = ImageLimits()


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and from where.

    `threshold`: of a map's strongest evidence, the least in a box (blobs.blobs); `points`: the most positive points of
    a prompt; `thumbnails`: whether small photos are added where a format takes them; `copy`: photos are copied where
    they could be linked; `data`: where the run's input lies, if it has moved; `limits`: which images are refused.
    """

    threshold: float = THRESHOLD
    points: int = 3
    thumbnails: bool = True
    copy: bool = False
    data: Path | None = None
    limits: ImageLimits = _LIMITS

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError("threshold must lie in 0..1")
        if self.points < 1:
            raise ValueError("points must be at least 1")


@dataclass(frozen=True)
class Job:
    """A run that is being exported."""

    archive: Archive
    options: ExportOptions
    photos: Photos
    events: Events

    def records(self, *fields: str) -> Iterator[Explanation]:
        """Every record in order with these fields, of those that the run has; one at a time."""
        for record in self.archive.records(fields):
            yield record
            self.events.progress(1, 0)


@dataclass
class Exported:
    """What was written: how many of which thing, and what a user should know besides."""

    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """A way to write a run for another tool.

    `write` gets the job and a path where nothing is yet: a file, or with `folder` a folder that it makes. It streams:
    what it holds does not grow with the maps of a run. What `export` then puts in place is whole.
    """

    name: str  # in EXPORTS
    summary: str
    write: Callable[[Job, Path], Exported]
    folder: bool = False
    owns: Callable[[Path], bool] = lambda _folder: False  # of a folder: whether an earlier export wrote it
    package: str | None = None  # that writes it, if that is no dependency of mmel
    extra: str = "export"  # the extra of mmel-cli that installs it
