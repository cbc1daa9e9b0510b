"""A record by what a person types of its id, and the run folder that an archive file lies in."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from mmel_cli.data.paths import shown
from mmel_cli.errors import UsageError
from mmel_cli.names import count
from mmel_cli.runs.folder import ARCHIVE, EXPLAINED

_NAMED = 5  # ids in a message
_COMPARED = 20_000  # ids among which near ones are looked for: more would take seconds


def find_id(ids: Sequence[str], typed: str) -> str:
    """The id that is meant: exactly this one, else the only one that begins with it, else the only one that has it.

    Raises:
        UsageError: naming those that it could be, or the nearest where it is none.
    """
    if typed in ids:
        return typed
    for meant in ([name for name in ids if name.startswith(typed)], [name for name in ids if typed in name]):
        if len(meant) == 1:
            return meant[0]
        if meant:
            more = f" and {len(meant) - _NAMED} more" if len(meant) > _NAMED else ""
            raise UsageError(
                f"{shown(typed)}: {count(len(meant), 'record')} could be meant: {_listed(meant[:_NAMED])}{more}; "
                "give more of the id"
            )
    near = difflib.get_close_matches(typed, ids[:_COMPARED], 3, 0.4)
    hint = f"the nearest: {_listed(near)}" if near else f"the first: {_listed(ids[:3])}"
    raise UsageError(f"{shown(typed)}: no such record; {hint}")


def run_folder_of(path: Path) -> Path | None:
    """The run folder that is given, or that a given archive folder or shard lies in; None for a file elsewhere."""
    for folder in (path, path.parent, path.parent.parent):
        if (folder / EXPLAINED.marker).is_file() and (folder == path or ARCHIVE in (path.name, path.parent.name)):
            return folder
    return None


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in ids)
