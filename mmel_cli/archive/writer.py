"""Write shards whole: in memory, then a temporary file, fsync, rename, fsync of the folder. None is ever reopened."""

import errno
import os
import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from mmel_cli.archive.schema import (
    FILTERS,
    LIBVER,
    PAD_SPAN,
    SCALE,
    TEXT,
    TEXT_CRC,
    TOKENS_TEXT,
    WORDS_SPAN,
    WORDS_TEXT,
    ArchiveOptions,
    check_fields,
    columns,
    filters,
    text_crc32,
    write_info,
)
from mmel_cli.errors import ArchiveError
from mmel_cli.fields import Field
from mmel_cli.types import Explanation, RunInfo

SHARDS = "part-*.h5"
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV)  # of file systems without hard links


class ShardWriter:
    """Collects explanations and commits a shard whenever one is full.

    As a context manager it commits the rest however the block ends, unless the archive itself cannot be written.
    `rank` tells the shards of several writers apart.

    Raises:
        ArchiveError: for a declared field that has the name of a column.
    """

    def __init__(self, folder: Path, info: RunInfo, options: ArchiveOptions, rank: int | None = None) -> None:
        check_fields(info.fields, info)
        self._folder, self._info, self._options = folder, info, options
        self._records: list[Explanation] = []
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"{SHARDS}.tmp"):
            leftover.unlink()
        self._stem = "part-" if rank is None else f"part-r{rank:02}-"
        numbers = [path.name.removeprefix(self._stem).split(".")[0] for path in folder.glob(f"{self._stem}*")]
        used = [int(number) for number in numbers if number.isdecimal()]
        self._next = max(used, default=-1) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None or not issubclass(kind, ArchiveError):
            self.commit()

    def extend(self, explanations: Iterable[Explanation]) -> None:
        """Take the records of a batch; writes a shard when it is full, so a shard always ends with a batch.

        Raises:
            ArchiveError: when the shard cannot be written (disk full, no permission); earlier shards stay.
        """
        self._records += explanations
        if len(self._records) >= self._options.shard_size:
            self.commit()

    def commit(self) -> Path | None:
        """Write what is in memory as a shard, if anything; its path."""
        if not self._records:
            return None
        path = self._folder / f"{self._stem}{self._next:05}.h5"
        write_whole(path, build(self._records, self._info, self._options))
        self._records, self._next = [], self._next + 1
        return path


def shard_files(folder: Path) -> list[Path]:
    """The shards of an archive folder, in the order of their numbers."""
    return sorted(folder.glob(SHARDS), key=lambda path: [int(n) if n.isdecimal() else n for n in _parts(path.stem)])


def files_of(folder: Path, name: str) -> list[Path]:
    """The files that records of a planned shard lie in, in order; several where it was finished in several calls."""
    return [path for path in (folder / f"part-{name}.h5", *sorted(folder.glob(f"part-{name}_*.h5"))) if path.exists()]


def next_file(folder: Path, name: str) -> Path:
    """Where more records of a planned shard go: no file is written a second time."""
    number = 0
    while (path := folder / f"part-{name}{f'_{number:02}' if number else ''}.h5").exists():
        number += 1
    return path


def write_once(path: Path, data: bytes) -> bool:
    """Write a file whole, unless it is there; whether it was written.

    Of several processes that write the same file one wins, at once for all to see, and it stays as it is.

    Raises:
        ArchiveError: as write_whole.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        _write_durably(temporary, data)
        won = _named(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return won


def _named(temporary: Path, path: Path) -> bool:
    """Give a file its name, unless that is taken; a hard link does both in one step."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            return False
        temporary.rename(path)
    return True


def build(records: list[Explanation], info: RunInfo, options: ArchiveOptions) -> bytes:
    """The bytes of a shard; threads may build at a time, each under a name of its own."""
    with h5py.File(f"shard-{uuid.uuid4().hex}", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        write_info(file, info)
        texts = _texts(records, info)
        for name, (dtype, shape) in columns(info).items():
            values = texts[name] if name in texts else [getattr(record, name) for record in records]
            data = values if dtype == TEXT else np.array(values, dtype).reshape(len(values), *shape)
            file.create_dataset(name, data=data, dtype=dtype, chunks=(1, *shape), **filters(dtype))
        for field in info.fields:
            _store(file, field, np.stack([_padded(record, field, info) for record in records]), options)
        file.flush()
        return bytes(file.id.get_file_image())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        ArchiveError: naming the file and the reason; nothing is left behind.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        _write_durably(temporary, data)
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritten(path, error) from error


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _unwritten(path: Path, error: OSError) -> ArchiveError:
    return ArchiveError(f"{path}: cannot be written ({error.strerror}); make room, then run the same command again")


def _parts(stem: str) -> list[str]:
    """Text and numbers in turn, so that part-99999 stands before part-100000."""
    return re.split(r"(\d+)", stem)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _texts(records: list[Explanation], info: RunInfo) -> dict[str, list[Any]]:
    """Tokens and words, padded, and the checksum of all texts of a record."""
    count = info.max_tokens
    tokens = [[*r.tokens, *[""] * (count - len(r.tokens))] for r in records]
    words = [[*(word.text for word in r.words), *[""] * (count - len(r.words))] for r in records]
    none = (PAD_SPAN, PAD_SPAN)
    spans = [[*((word.start, word.end) for word in r.words), *[none] * (count - len(r.words))] for r in records]
    sums = [
        text_crc32([r.id, r.image, r.caption, *([r.against] if r.against is not None else ()), *row, *said])
        for r, row, said in zip(records, tokens, words, strict=True)
    ]
    return {TOKENS_TEXT: tokens, WORDS_TEXT: words, WORDS_SPAN: spans, TEXT_CRC: sums}


def _padded(record: Explanation, field: Field, info: RunInfo) -> np.ndarray:
    """A record's array in the shape of the run: NaN, -1 or false after its last token or word.

    Raises:
        ValueError: if it is of another shape than the field declares.
    """
    values = np.asarray(record.fields[field.name], field.dtype)
    own = record.sizes(info.sizes)
    if values.shape != field.shape(own):
        raise ValueError(f"{field.name}: shape {values.shape} of {record.id}, declared {field.shape(own)}")
    if not field.ragged:
        return values
    padding = {"float32": np.nan, "int32": -1, "bool": False}[field.dtype]
    whole = np.full(field.shape(info.sizes), padding, field.dtype)
    whole[tuple(slice(length) for length in values.shape)] = values
    return whole


def _store(file: h5py.File, field: Field, maps: np.ndarray, options: ArchiveOptions) -> None:
    """Plain float32, or float16 of the record divided by its largest magnitude (gradients underflow plain float16)."""
    if options.dtype == "float16" and field.dtype == "float32":
        axes = tuple(range(1, maps.ndim))
        factors = np.nanmax(np.abs(maps), axis=axes, initial=0).astype(np.float32)
        file.create_dataset(field.name + SCALE, data=factors, chunks=(1,), **FILTERS)
        maps = (maps / np.where(factors > 0, factors, 1).reshape(-1, *[1] * len(axes))).astype(np.float16)
    file.create_dataset(field.name, data=maps, chunks=(1, *maps.shape[1:]), **FILTERS)
