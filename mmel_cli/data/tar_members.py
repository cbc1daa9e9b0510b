"""The members of an uncompressed tar file: header by header, nothing unpacked, bytes read again by their offset."""

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from mmel_cli.data.paths import is_storable, open_file, shown
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import ImageRef

_BLOCK = tarfile.BLOCKSIZE
_HEADER_LIMIT = 1 << 20  # bytes of a header with its long name; a longer one would be read into memory whole
_CHUNK = 1 << 20
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_BROKEN = (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError, UnicodeError)


@dataclass(frozen=True)
class Member:
    """A regular file in a tar."""

    shard: Path
    name: str  # without a leading "./"
    offset: int
    size: int
    stamp: tuple[int, int]  # of the shard: bytes, and when it was written

    @property
    def ref(self) -> ImageRef:
        """Its key is the shard's path with the member's name."""
        return ImageRef(f"{self.shard}/{self.name}", partial(_open_member, self))

    def read(self, limit: int) -> bytes:
        """Its first `limit` bytes.

        Raises:
            RecordError: stage "image".
        """
        try:
            with self.ref.open() as file:
                return file.read(limit)
        except OSError as error:
            raise RecordError("image", f"{shown(self.ref.key)}: cannot be read ({error.strerror})") from error


def read_members(path: Path, name: str) -> Iterator[tuple[str, Member | RecordError]]:
    """(member's name, Member) in the order of the tar, or what is refused; folders and hidden files are skipped.

    What makes the rest of the shard unreadable comes last, with an empty name: a header that is no header, data that
    are cut off, no end mark, more data after that mark.

    Args:
        path: the tar.
        name: what messages call it.
    """
    name = shown(name)
    try:
        with open_file(path) as file:
            yield from _members(file, path, name)
    except RecordError as error:
        yield "", RecordError(error.stage, f"{name}: {error}")
    except _BROKEN as error:
        yield "", RecordError("image", f"{name}: cannot be read further ({_short(error)}); write the shard again")


def check_uncompressed(path: Path) -> None:
    """Refuse a tar that is compressed whatever its name: members cannot be found again in it without unpacking.

    Raises:
        UsageError: also if it cannot be read.
    """
    try:
        with open_file(path) as file:
            start = file.read(8)
    except (OSError, RecordError) as error:
        raise UsageError(f"{shown(str(path))}: cannot be read ({_short(error)})") from error
    if start.startswith(_COMPRESSED):
        raise UsageError(f"{shown(str(path))}: is compressed; unpack it to a plain .tar first (gunzip, unzstd, ...)")


def _members(file: BinaryIO, path: Path, name: str) -> Iterator[tuple[str, Member | RecordError]]:
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    stamp, before = _stamp(file), -1
    tar = tarfile.TarFile(fileobj=cast("Any", _Headers(file)), mode="r")
    while (info := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined] # else every header stays in memory
        if info.offset_data <= before or info.size < 0:
            raise ValueError("a header points backwards")
        before = info.offset_data
        if info.isreg() and info.offset_data + info.size > length:
            yield "", RecordError("image", f"{name}: is cut off in {shown(info.name)}; write the shard again")
            return
        member = _checked(info, name, path, stamp)
        if member is not None:
            yield info.name, member
    fault = _end_fault(file, tar.offset, length)
    if fault:
        yield "", RecordError("image", f"{name}: {fault}; write the shard again")


def _checked(info: tarfile.TarInfo, name: str, path: Path, stamp: tuple[int, int]) -> Member | RecordError | None:
    """A member that may be read; None for one that is none of ours."""
    where, parts = f"{name}/{shown(info.name)}", PurePosixPath(info.name).parts
    if info.name.startswith("/") or ".." in parts:
        return RecordError("pair", f"{where}: must be a path inside the shard; absolute paths and '..' are refused")
    if info.isdir() or not parts or any(part.startswith(".") for part in parts):
        return None
    if not is_storable(info.name):
        return RecordError("pair", f"{where}: is no file name in UTF-8; rename the file")
    if info.issparse() or not info.isreg():
        kind = "link" if info.issym() or info.islnk() else "special file"
        return RecordError("pair", f"{where}: is a {kind} in the shard; refused")
    return Member(path, PurePosixPath(info.name).as_posix(), info.offset_data, info.size, stamp)


def _end_fault(file: BinaryIO, offset: int, length: int) -> str:
    """What is wrong where the members end; `tarfile` takes a broken header there for the end and says nothing."""
    file.seek(offset)
    mark = file.read(_BLOCK)
    if len(mark) < _BLOCK:
        return f"ends without an end mark at byte {length}, so it may be cut off"
    if any(mark):
        return f"is damaged at byte {offset}; what follows is not read"
    while chunk := file.read(_CHUNK):
        if any(chunk):
            return "goes on after its end mark, as tars that were joined do; what follows is not read"
    return ""


def _open_member(member: Member) -> BinaryIO:
    """The bytes of a member as a file.

    Raises:
        RecordError: if the shard was written anew meanwhile, since something else may lie there now.
    """
    file = open_file(member.shard)
    if _stamp(file) != member.stamp:
        file.close()
        raise RecordError("image", "its shard has changed while it was read; run the command again")
    return io.BufferedReader(_Window(file, member.offset, member.size))


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


class _Headers:
    """A file for `tarfile` that refuses to read as much as only a hostile header asks for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = ""
        self.mode = "rb"
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """At most _HEADER_LIMIT bytes."""
        if not 0 <= size <= _HEADER_LIMIT:
            raise ValueError("a header is too long")
        return self._file.read(size)


class _Window(io.RawIOBase):
    """A part of a file, as a file; closing it closes that one."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # any writable buffer
        length = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._offset + self._at)
        content = self._file.read(length)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _short(error: BaseException) -> str:
    text = str(error).strip()
    return shown(text.splitlines()[0][:120]) if text else type(error).__name__
