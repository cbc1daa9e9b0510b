"""The records to look at first, and the next command: the end of `mmel explain`, and `mmel show RUN`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmel_cli.cli import console

if TYPE_CHECKING:
    from mmel_cli.runs.highlights import Highlight, Highlights

_CAPTION = 60  # characters of a caption that are shown


def show(archive: Path, runs: Sequence[Path], *, json: bool) -> None:
    """Print the highest, lowest and oddest records, and with what to go on.

    Args:
        archive: to read.
        runs: what the next commands name; the first is that of the archive.
        json: as one document.
    """
    if json:
        console.document(plain(archive, runs))
        return
    from mmel_cli.runs.highlights import highlights  # noqa: PLC0415 - h5py loads only when a command runs

    told = highlights(archive)
    _block("Highest scores", told.highest)
    _block("Lowest scores", told.lowest)
    _block(f"Oddest ({told.odd})", told.oddest)
    for command in _next(told, runs):
        console.say(f"Next: {command}")


def plain(archive: Path, runs: Sequence[Path]) -> dict[str, Any]:
    """The same as a JSON object, with the next commands."""
    from mmel_cli.runs.highlights import highlights  # noqa: PLC0415 - see above

    told = highlights(archive)
    return told.plain() | {"next": _next(told, runs)}


def _block(title: str, records: "tuple[Highlight, ...]") -> None:
    if not records:
        return
    console.result(f"{title}:")
    width = max(console.cells(record.id) for record in records)
    for record in records:
        cut = record.caption if len(record.caption) <= _CAPTION else record.caption[: _CAPTION - 1] + "…"
        why = f" ({record.why})" if record.why else ""
        space = " " * (width - console.cells(record.id))
        console.result(f"  {record.score:.3f}  {record.id}{space}  {' '.join(cut.split())}{why}")


def _next(told: "Highlights", runs: Sequence[Path]) -> list[str]:
    first, every = shlex.quote(str(runs[0])), shlex.join(str(run) for run in runs)
    look = []
    if told.first is not None:
        look = [f"mmel show {first} {'-- ' if told.first.startswith('-') else ''}{shlex.quote(told.first)}"]
    both = f" --out {shlex.quote(str(runs[0].parent / 'report'))}" if len(runs) > 1 else ""
    return [*look, *([f"mmel report {every}{both}"] if both else []), f"mmel eval {every}"]
