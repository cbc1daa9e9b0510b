"""One run of a report: its archive, which of its records are shown, and where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.data.images import ImageLimits
from mmel_cli.fields import MATCH_AMONG, MATCH_RANK, PHRASE_SPAN, WORD_SHARE, WORD_VALUE
from mmel_cli.render import HeatmapOptions
from mmel_cli.runs.digests import ids_sha256, lines_sha256, maps_sha256
from mmel_cli.types import Failure, RunInfo

_Options = TypeVar("_Options", HeatmapOptions, ImageLimits)
_BY_LAYER = ("layers", "rows", "columns")


@dataclass(frozen=True)
class ReportRun:
    """A run as the report shows it.

    `path` is a run folder, or a file of an archive; `archive` is None before the first record is finished.
    """

    label: str
    path: Path
    info: RunInfo
    archive: Archive | None
    rows: np.ndarray  # the numbers of the records that are shown in the archive, in the order of the report, (n,)
    failures: Sequence[Failure] = ()  # the first of them
    failed: int = 0

    @cached_property
    def places(self) -> np.ndarray:
        """Where the records lie in the archive, (n, 2)."""
        return np.zeros((0, 2), np.int32) if self.archive is None else self.archive.places_of(self.rows)

    @cached_property
    def content(self) -> tuple[str, str]:
        """Digests of the names and of the maps of all records of its archive."""
        if self.archive is None:
            return lines_sha256(()), ""
        return ids_sha256(self.archive), maps_sha256(self.archive)

    def has(self, name: str) -> bool:
        """Whether its archive keeps a field."""
        return any(declared.name == name for declared in self.info.fields)

    @property
    def shows(self) -> dict[str, bool]:
        """What there is to see besides the map."""
        return {
            "words": self.has(WORD_VALUE.name),
            "regions": self.has(WORD_SHARE.name),
            "phrases": self.has(PHRASE_SPAN.name),
            "match": self.has(MATCH_RANK.name) and self.has(MATCH_AMONG.name),
            "against": self.info.against,
            "layers": bool(self.layer_fields),
        }

    @property
    def layer_fields(self) -> list[str]:
        """Fields of signed evidence by layer."""
        return [declared.name for declared in self.info.fields if declared.evidence and declared.dims == _BY_LAYER]

    @property
    def heatmap(self) -> HeatmapOptions:
        """How its pictures look."""
        return _options(HeatmapOptions, _group(self.info.config, "heatmap"))

    @property
    def image_limits(self) -> ImageLimits:
        """Which images are refused."""
        return _options(ImageLimits, _group(self.info.config, "image", "limits"))


def _options(kind: type[_Options], group: Any) -> _Options:
    """A group of settings as a part takes it, without what it does not know; its defaults where that does not hold.

    What an archive says of itself may come from a stranger.
    """
    known = {field.name for field in fields(kind)}
    try:
        return kind(**{k: v for k, v in group.items() if k in known} if isinstance(group, dict) else {})
    except (TypeError, ValueError):
        return kind()


def _group(config: Any, *names: str) -> Any:
    """A group in groups of a configuration; None if it is not there."""
    for name in names:
        config = config.get(name) if isinstance(config, dict) else None
    return config
