"""Of every record, how much evidence its map holds, and what it is marked with; and the scale of a whole run.

Until `mmel_cli.trust` gives both, the sums are taken here and no record has a mark: `of_records`, `of_run` and MARKS
have its names and results.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.fields import MAP
from mmel_cli.types import RunInfo


@dataclass(frozen=True)
class Mark:
    """What a record or a run is marked with."""

    name: str
    badge: str
    says: str
    of: Literal["run", "record"]


MARKS: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Marked:
    """Of the records of an archive, in its order.

    `evidence` and `against_evidence` are the sums of the positive values of the map and of the negative ones' sizes,
    (n,) float32; `marks` has a bit for each mark of records, in the order of MARKS, (n,) uint32.
    """

    evidence: np.ndarray
    against_evidence: np.ndarray
    marks: np.ndarray


def of_run(_info: RunInfo) -> tuple[Mark, ...]:
    """The marks of a run."""
    return ()


def of_records(archive: Archive) -> Marked:
    """Read every map once, a block of them in memory at a time."""
    both = np.zeros((len(archive), 2), np.float32)
    for row, (values,) in enumerate(archive.rows(MAP.name)):
        finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        both[row] = finite.clip(min=0).sum(), -finite.clip(max=0).sum()
    return Marked(both[:, 0], both[:, 1], np.zeros(len(archive), np.uint32))
