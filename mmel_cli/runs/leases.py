"""Who works on what in a folder that several processes share, on one machine or on many.

A lease is a file made with O_EXCL whose holder keeps its time of change fresh. One that stays as it is for a while, by
the clock of whoever watches it, is stale and may be taken over; so is one of a process of this machine that is gone.
Nothing hangs on clocks that agree. Should two processes ever hold the same,
the files that they write decide (archive/writer.py).
"""

import json
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ENDING = ".lease"
_BEATS = 6  # in the time after which a lease is stale


@dataclass(frozen=True)
class Lease:
    """One that this process holds, or held."""

    path: Path
    token: str

    def mine(self) -> bool:
        """Whether it was not taken over."""
        return _said(self.path).get("token") == self.token

    def release(self) -> None:
        """Give it back, if it is still this process's."""
        if self.mine():
            self.path.unlink(missing_ok=True)


@dataclass
class Leases:
    """The leases of one process in a folder; a context manager that keeps them fresh and gives them back."""

    folder: Path
    seconds: float  # without a sign of life until a lease is stale
    _held: dict[str, Lease] = field(default_factory=dict)
    _watched: dict[str, tuple[Any, float]] = field(default_factory=dict)  # what a lease looked like, and since when
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        for lease in list(self._held.values()):
            self.release(lease)

    def claim(self, name: str) -> Lease | None:
        """Take a lease if it is free or stale; None if another process holds it."""
        path = self.folder / f"{name}{ENDING}"
        if path.exists() and not self._set_aside(path):
            return None
        lease = Lease(path, uuid.uuid4().hex)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        with os.fdopen(handle, "w") as file:
            json.dump({"token": lease.token} | _process(os.getpid()), file)
        self._held[name] = lease
        self._watched.pop(name, None)
        return lease

    def release(self, lease: Lease) -> None:
        """Give one back."""
        self._held.pop(lease.path.name.removesuffix(ENDING), None)
        lease.release()

    def _beat(self) -> None:
        while not self._over.wait(self.seconds / _BEATS):
            for lease in list(self._held.values()):
                if lease.mine():
                    try:
                        os.utime(lease.path)
                    except OSError:  # taken over, or the file system is away: then others may
                        continue

    def _set_aside(self, path: Path) -> bool:
        """Whether a lease was stale and is out of the way now.

        Two may find it stale at a time; who moved the lease of the faster one puts it back.
        """
        name, said = path.name, _said(path)
        try:
            look = (said.get("token"), path.stat().st_mtime_ns)
        except OSError:
            return True  # given back meanwhile
        before = self._watched.setdefault(name, (look, time.monotonic()))
        if before[0] != look:
            self._watched[name] = (look, time.monotonic())
            before = self._watched[name]
        if not _gone(said) and time.monotonic() - before[1] < self.seconds:
            return False
        aside = path.with_name(f"{name}.{uuid.uuid4().hex}")
        try:
            path.rename(aside)
        except OSError:
            return False
        same = _said(aside).get("token") == said.get("token")
        if not same:
            try:
                os.link(aside, path)
            except OSError:
                same = False  # a third has it by now
        aside.unlink(missing_ok=True)
        self._watched.pop(name, None)
        return same


def _said(path: Path) -> dict[str, Any]:
    """What a lease says; nothing while it is being written, or once it is gone."""
    try:
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _gone(said: dict[str, Any]) -> bool:
    """Whether a lease is of a process of this machine that has ended; of another machine nobody knows."""
    here = _process(os.getpid())
    if not here.get("machine") or said.get("machine") != here["machine"] or not isinstance(said.get("pid"), int):
        return False
    return _process(said["pid"]).get("begun") != said.get("begun")


def _process(pid: int) -> dict[str, Any]:
    """What tells a process from every other: boot, space of process ids, its id and when it began (Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return {"pid": pid}
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        begun = None if fields[0] in ("Z", "X") else fields[19]  # a dead process that nobody waited for
    except (OSError, IndexError):
        begun = None
    return {"pid": pid, "machine": f"{boot}:{space}", "begun": begun}
