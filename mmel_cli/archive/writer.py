"""Write shards whole: in memory, then a temporary file, fsync, rename, fsync of the folder. None is ever reopened."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from mmel_cli.archive.schema import (
    COLUMNS,
    FILTERS,
    LIBVER,
    SCALE,
    TEXT,
    TEXT_CRC,
    TOKENS_TEXT,
    ArchiveOptions,
    filters,
    map_shape,
    text_crc32,
    write_info,
)
from mmel_cli.errors import ArchiveError
from mmel_cli.types import Explanation, RunInfo

SHARDS = "part-*.h5"


class ShardWriter:
    """Collects explanations and commits a shard whenever one is full.

    As a context manager it commits the rest however the block ends, unless the archive itself cannot be written.
    """

    def __init__(self, folder: Path, info: RunInfo, options: ArchiveOptions) -> None:
        self._folder, self._info, self._options = folder, info, options
        self._records: list[Explanation] = []
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp"):
            leftover.unlink()
        used = [int(path.name[5:10]) for path in folder.glob("part-*") if path.name[5:10].isdecimal()]
        self._next = max(used, default=-1) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None or not issubclass(kind, ArchiveError):
            self.commit()

    def add(self, explanation: Explanation) -> None:
        """Take one record; writes a shard when it is full.

        Raises:
            ArchiveError: when the shard cannot be written (disk full, no permission); earlier shards stay.
        """
        self._records.append(explanation)
        if len(self._records) >= self._options.shard_size:
            self.commit()

    def commit(self) -> Path | None:
        """Write what is in memory as a shard, if anything; its path."""
        if not self._records:
            return None
        path = self._folder / f"part-{self._next:05}.h5"
        write_whole(path, build(self._records, self._info, self._options))
        self._records, self._next = [], self._next + 1
        return path


def build(records: list[Explanation], info: RunInfo, options: ArchiveOptions) -> bytes:
    """The bytes of a shard."""
    with h5py.File("shard", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        write_info(file, info)
        tokens = [[*r.tokens, *[""] * (info.max_tokens - len(r.tokens))] for r in records]
        for name, (dtype, shape) in COLUMNS.items():
            if name == TEXT_CRC:
                values = [text_crc32([r.id, r.image, r.caption, *row]) for r, row in zip(records, tokens, strict=True)]
            else:
                values = [getattr(record, name) for record in records]
            data = values if dtype == TEXT else np.array(values, dtype).reshape(len(values), *shape)
            file.create_dataset(name, data=data, dtype=dtype, chunks=(1, *shape), **filters(dtype))
        for name, maps in _maps(records, info, options).items():
            _store(file, name, maps, options)
        file.create_dataset(TOKENS_TEXT, data=tokens, dtype=TEXT, chunks=(1, info.max_tokens))
        file.flush()
        return bytes(file.id.get_file_image())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        ArchiveError: naming the file and the reason; nothing is left behind.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArchiveError(
            f"{path}: cannot be written ({error.strerror}); make room, then run the same command again"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _maps(records: list[Explanation], info: RunInfo, options: ArchiveOptions) -> dict[str, np.ndarray]:
    """Every map dataset of a shard, float32."""
    maps: dict[str, list[Any]] = {"map": [r.map for r in records], "tokens/map": [_padded(r, info) for r in records]}
    if options.channels != "final":
        maps |= {f"layers/{kind}": [r.layers[kind] for r in records] for kind in records[0].layers}
    if options.channels == "all":
        maps |= {f"layers/shared_{scale}": [r.shared[scale] for r in records] for scale in records[0].shared}
    stacked = {name: np.stack(values).astype(np.float32) for name, values in maps.items()}
    for name, values in stacked.items():
        if values.shape[1:] != map_shape(name, info):
            raise ValueError(f"{name}: shape {values.shape[1:]} of a record, expected {map_shape(name, info)}")
    return stacked


def _padded(record: Explanation, info: RunInfo) -> np.ndarray:
    row = np.full(info.max_tokens, np.nan, np.float32)
    row[: len(record.token_map)] = record.token_map
    return row


def _store(file: h5py.File, name: str, maps: np.ndarray, options: ArchiveOptions) -> None:
    """Plain float32, or float16 of the record divided by its largest magnitude (gradients underflow plain float16)."""
    if options.dtype == "float16":
        axes = tuple(range(1, maps.ndim))
        factors = np.nanmax(np.abs(maps), axis=axes, initial=0).astype(np.float32)
        file.create_dataset(name + SCALE, data=factors, chunks=(1,), **FILTERS)
        maps = (maps / np.where(factors > 0, factors, 1).reshape(-1, *[1] * len(axes))).astype(np.float16)
    file.create_dataset(name, data=maps, chunks=(1, *maps.shape[1:]), **FILTERS)
