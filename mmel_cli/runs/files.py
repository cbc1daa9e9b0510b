"""Text files of a run folder, whole or not at all, and locks."""

import errno
import fcntl
import uuid
from pathlib import Path

TEMPORARY = ".tmp"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def write_text(path: Path, text: str) -> None:
    """Write a file, in a folder that is made if need be, so that it is there whole or not at all, whoever else does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        temporary.write_text(text, "utf-8")
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def locked(handle: int, how: int) -> bool:
    """Whether a file could be locked at once; where the file system knows no locks, one process alone goes without."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS
    return True


def can_lock(path: Path) -> bool:
    """Whether the file system of a file knows locks."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return True
