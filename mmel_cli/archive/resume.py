"""What an earlier call finished, and the lock that keeps two calls apart."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmel_cli.archive.safety import open_safely
from mmel_cli.archive.verify import damage
from mmel_cli.archive.writer import SHARDS
from mmel_cli.errors import DamagedError, UsageError

_DIGEST = 8  # bytes an id


class IdSet:
    """A set of record ids that keeps 8 bytes of SHA-256 each."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, record_id: str) -> None:
        """Put an id in."""
        self._digests.add(_digest(record_id))

    def __contains__(self, record_id: object) -> bool:
        return isinstance(record_id, str) and _digest(record_id) in self._digests

    def __len__(self) -> int:
        return len(self._digests)


def committed_ids(folder: Path, config_sha256: str) -> tuple[IdSet, list[str]]:
    """The ids in a folder's shards, and the names of shards that were damaged and set aside as *.damaged.

    Raises:
        UsageError: if a shard was written with another configuration, model or method.
        ArchiveError: if a shard cannot be opened or is of another version; nothing is set aside then.
    """
    done, damaged = IdSet(), []
    for path in sorted(folder.glob(SHARDS)):
        try:
            ids = _read_whole(path, config_sha256)
        except DamagedError:
            damaged.append(path)
            continue
        for name in ids:
            done.add(name)
    for path in damaged:  # only once every readable shard has turned out to be of this run
        path.rename(path.with_name(path.name + ".damaged"))
    return done, [path.name for path in damaged]


def _read_whole(path: Path, config_sha256: str) -> list[str]:
    """The ids of a shard, after every chunk was read."""
    file, info = open_safely(path)
    with file:
        if info.config_sha256 != config_sha256:
            raise UsageError(
                f"--out {path.parent.parent}: holds a run with another input, configuration, model or method "
                "(see run.yaml); give another folder, or --overwrite to start anew"
            )
        for problem in damage(file, info):
            raise DamagedError(f"{path}: {problem}")
        return [str(name) for name in file["id"].asstr()[:]]


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder for one process.

    Raises:
        UsageError: if another process holds it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"--out {folder}: another mmel is writing there; wait for it, or give another folder"
            ) from error
        yield


def _digest(record_id: str) -> bytes:
    return hashlib.sha256(record_id.encode()).digest()[:_DIGEST]
