"""One run of a report: its archive, which of its records are shown, and where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.fields import PHRASE_SPAN, WORD_SHARE, WORD_VALUE
from mmel_cli.render import HeatmapOptions
from mmel_cli.types import Failure, RunInfo

RANK, AMONG = "match/rank", "match/among"
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
    ids: Sequence[str]  # of the records that are shown, in the order of the report
    failures: Sequence[Failure] = field(default_factory=tuple)  # the first of them
    failed: int = 0

    @cached_property
    def places(self) -> np.ndarray:
        """Where the records lie in the archive, (n, 2)."""
        return np.zeros((0, 2), np.int32) if self.archive is None else self.archive.places(self.ids)

    @cached_property
    def rows(self) -> np.ndarray:
        """The numbers of the records in the archive, (n,)."""
        if self.archive is None:
            return np.zeros(0, np.int64)
        return self.archive.starts[self.places[:, 0]] + self.places[:, 1]

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
            "match": self.has(RANK),
            "against": self.info.against,
            "layers": bool(self.layer_fields),
        }

    @property
    def layer_fields(self) -> list[str]:
        """Fields of signed evidence by layer."""
        return [declared.name for declared in self.info.fields if declared.evidence and declared.dims == _BY_LAYER]

    @property
    def heatmap(self) -> HeatmapOptions:
        """How its pictures look; the defaults where its configuration says nothing that holds."""
        return heatmap_options(self.info.config)


def heatmap_options(config: dict[str, Any]) -> HeatmapOptions:
    """The group `heatmap` of a configuration; what an archive says of itself may come from a stranger."""
    group = config.get("heatmap")
    known = HeatmapOptions.__dataclass_fields__
    try:
        return HeatmapOptions(**{k: v for k, v in group.items() if k in known} if isinstance(group, dict) else {})
    except (TypeError, ValueError):
        return HeatmapOptions()
