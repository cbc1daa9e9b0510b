"""Where the input of a run is found again, without its model: in run.yaml, or where the caller says.

An archive may come from a stranger, so what an HDF5 file says of itself names no file and no folder here.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmel_cli.data import Source, reopen
from mmel_cli.data.paths import shown
from mmel_cli.data.truth import has_truth
from mmel_cli.errors import MmelError
from mmel_cli.runs.folder import RUN
from mmel_cli.types import RunInfo, Sample


@dataclass(frozen=True)
class Input:
    """The samples that a run explained, or the reason why its input cannot be read."""

    source: Source | None
    gone: str = ""  # empty if it can be read

    def samples(self) -> Iterator[Sample]:
        """The usable entries, in the order of the input."""
        if self.source is None or self.gone:
            return
        for entry in self.source:
            if isinstance(entry, Sample):
                yield entry

    def any_truth(self, ids: Container[str]) -> bool:
        """Whether any of these records has a mask or boxes."""
        return any(has_truth(sample) for sample in self.samples() if sample.id in ids)

    def any_phrases(self, ids: Container[str]) -> bool:
        """Whether any phrase of these records has a mask or boxes."""
        return any(has_truth(phrase) for sample in self.samples() if sample.id in ids for phrase in sample.phrases)

    @property
    def shown(self) -> str:
        """Place and layout, for a message."""
        if self.source is None:
            return "none"
        return f"{shown(str(self.source.request.path))} ({shown(self.source.layout)})"


def find_input(run: Path, info: RunInfo, moved: Path | None) -> Input:
    """The input of a run: where --data says, else where run.yaml says.

    Args:
        run: a run folder, a shard or a merged file; the last two have no run.yaml.
        info: of the run; where run.yaml has none, a caption, the name of a caption column and what captions are against
            are taken from it.
        moved: where the input lies now.
    """
    notes = read_notes(run)
    config = notes.get("config", info.config)
    against = group(config, "against")
    options = group(config, "input") | {"against": against.get("text"), "against_other": against.get("other")}
    try:
        return Input(reopen(options | group(notes, "input"), moved))
    except MmelError as error:
        return Input(None, f"the input cannot be read ({error}); give --data")


def read_notes(run: Path) -> dict[str, Any]:
    """run.yaml of a run folder; empty for a shard or merged file, which has none beside it, and if it is damaged."""
    path = run / RUN
    try:
        notes = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) else {}


def group(values: Any, name: str) -> dict[str, Any]:
    """A group of settings in what a file gave; empty if it has none."""
    group = values.get(name) if isinstance(values, dict) else None
    return group if isinstance(group, dict) else {}
