"""What is known of the shards of a plan: a note for each that was worked on, and where the run as a whole stands."""

import json
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmel_cli.runs.files import write_text
from mmel_cli.types import Failure

FOLDER, _STATE = "shards", "state.json"


@dataclass(frozen=True)
class Note:
    """What became of a shard's entries; notes, and not the archive, say what failed."""

    shard: int
    plan: str  # SHA-256 of the plan that the shard is of
    call: int  # the call that wrote it (State.call)
    complete: bool  # every entry was explained or failed
    truncated: int  # captions of records of that call that were not read to their end
    failures: tuple[Failure, ...]
    files: tuple[str, ...]  # of the archive that held its records then

    def holds(self, files: Container[str]) -> bool:
        """Whether its files are still among these."""
        return all(name in files for name in self.files)


@dataclass(frozen=True)
class State:
    """Where a run stands. Processes that work together are one call."""

    plan: str
    call: int
    job: str | None  # what tells a job's processes from those of another
    resumed: int  # records that earlier calls had finished
    started: float  # seconds since 1970
    ended: bool = False  # summary and report are written


def note_path(folder: Path, name: str) -> Path:
    """Of a shard's note in a run folder."""
    return folder / FOLDER / f"{name}.json"


def write_note(folder: Path, name: str, note: Note) -> None:
    """So that it is there whole or not at all."""
    failures = [{"id": f.id, "stage": f.stage, "error": f.error} for f in note.failures]
    write_text(note_path(folder, name), json.dumps(asdict(note) | {"failures": failures}) + "\n")


def read_note(folder: Path, name: str, plan: str) -> Note | None:
    """A shard's note; None if there is none of this plan."""
    said = _json(note_path(folder, name))
    try:
        failures = tuple(Failure(str(f["id"]), str(f["stage"]), str(f["error"])) for f in said["failures"])
        note = Note(**said | {"failures": failures, "files": tuple(map(str, said["files"]))})
    except (KeyError, TypeError):
        return None
    return note if note.plan == plan else None


def drop_notes(folder: Path, names: Iterable[str]) -> None:
    """Shards are open again."""
    for name in names:
        note_path(folder, name).unlink(missing_ok=True)


def drop_all_notes(folder: Path) -> None:
    """Every shard is open again."""
    for path in (folder / FOLDER).glob("[0-9]*.json"):
        path.unlink(missing_ok=True)


def read_state(folder: Path) -> State | None:
    """Where a run stands; None if it was not planned yet."""
    try:
        return State(**_json(folder / FOLDER / _STATE))
    except TypeError:
        return None


def write_state(folder: Path, state: State) -> None:
    """So that it is there whole or not at all."""
    write_text(folder / FOLDER / _STATE, json.dumps(asdict(state)) + "\n")


def _json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
