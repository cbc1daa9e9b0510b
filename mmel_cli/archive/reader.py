"""Read a run folder, one shard, or a merged file alike, one record at a time."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from mmel_cli.archive.rows import columns_in, explanation, read, read_rows, record_at
from mmel_cli.archive.safety import Checked, open_safely, state_of
from mmel_cli.archive.writer import SHARDS, shard_files
from mmel_cli.errors import ArchiveError
from mmel_cli.idsets import IdIndex, digests
from mmel_cli.types import Explanation, RunInfo

_BLOCK, _BLOCK_BYTES = 256, 1 << 24  # records, and of their fields


def load_archive(path: str | Path) -> "Archive":
    """Open an archive.

    Args:
        path: a run folder, its archive folder, a shard, or a merged file.

    Raises:
        ArchiveError: if there is none, or a file is damaged or unsafe, or the shards are of different runs.
    """
    return Archive(archive_files(Path(path)))


def archive_files(path: Path) -> list[Path]:
    """The files of an archive, in order.

    Raises:
        ArchiveError: if there is nothing there, or no archive.
    """
    if not path.exists():
        raise ArchiveError(f"{path}: does not exist; give a run folder or an archive file")
    if path.is_file():
        return [path]
    folder = path / "archive" if (path / "archive").is_dir() else path
    files = shard_files(folder)
    if not files:
        raise ArchiveError(f"{path}: holds no archive (archive/{SHARDS}); give a run folder or an archive file")
    return files


class Archive:
    """A read-only archive; iterate for Explanations in order, or index by record id. Close it, or use `with`."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._open: tuple[int, h5py.File] | None = None  # one file at a time, however many shards there are
        self._counts: list[int] = []
        self._checked: list[Checked] = []
        first: tuple[RunInfo, list[str]] | None = None
        for path in paths:
            file, info = open_safely(path)
            with file:
                info = first[0] if first and first[0] == info else info  # one in memory, however many shards there are
                described = (info, _datasets(file))
                self._counts.append(len(file["id"]))
                self._checked.append(Checked(info, state_of(file)))
            first = first or described
            if described[0].config_sha256 != first[0].config_sha256 or described[1] != first[1]:
                raise ArchiveError(f"{path}: is of another run than {paths[0]}; keep one run a folder")
            self.info = info

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the open file."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def __len__(self) -> int:
        return sum(self._counts)

    @cached_property
    def ids(self) -> list[str]:
        """All record ids, in order; held in memory from the first use on (`rows("id")` streams them)."""
        return [str(name) for (name,) in self.rows("id")]

    @cached_property
    def index(self) -> IdIndex:
        """The number of each record, from 0, by its id; 12 bytes a record, held in memory from the first use on."""
        return IdIndex.of(digests(str(name) for (name,) in self.rows("id")))

    def number(self, record_id: str) -> int:
        """The number of a record in the archive's order, from 0; KeyError if there is none."""
        for number in self.index.candidates(record_id):
            shard, row = self._place(number)
            if read(self._file(shard), "id", row) == record_id:
                return number
        raise KeyError(record_id)

    def __contains__(self, record_id: object) -> bool:
        try:
            return isinstance(record_id, str) and self.number(record_id) >= 0
        except KeyError:
            return False

    def __getitem__(self, record_id: str) -> Explanation:
        """The record of an id; KeyError if there is none."""
        return self.at(self.number(record_id))

    def several(self, record_ids: Sequence[str]) -> list[Explanation]:
        """Records of these ids, in their order; those that lie together in a file are read together.

        Raises:
            KeyError: for an id that there is not.
        """
        numbers = [self.index.number(name) for name in record_ids]
        if any(number is None for number in numbers):
            raise KeyError(next(name for name, number in zip(record_ids, numbers, strict=True) if number is None))
        # a name that shares its digest with another's is looked for by itself
        records = self.numbered(np.array(numbers))
        return [record if record.id == name else self[name] for record, name in zip(records, record_ids, strict=True)]

    def numbered(self, numbers: np.ndarray) -> list[Explanation]:
        """Records by their numbers in the archive's order, from 0, in the order given; read like `several`."""
        if not len(numbers):
            return []
        places = self.places_of(numbers)
        block = self.take(columns_in(self._file(int(places[0, 0])), self.info), places)
        return [
            explanation({name: values[row] for name, values in block.items()}, self.info) for row in range(len(places))
        ]

    def __iter__(self) -> Iterator[Explanation]:
        return self.records(field.name for field in self.info.fields)

    def records(self, fields: Iterable[str]) -> Iterator[Explanation]:
        """Every record in order with these fields, of those that the archive has; 16 MB of them are in memory."""
        wanted = set(fields)
        own = replace(self.info, fields=tuple(field for field in self.info.fields if field.name in wanted))
        size = sum(4 * math.prod(field.shape(own.sizes)) for field in own.fields)
        most = max(1, min(_BLOCK, _BLOCK_BYTES // max(1, size)))
        for number, count in enumerate(self._counts):
            for start in range(0, count, most):
                file, rows = self._file(number), slice(start, start + most)
                block = {name: read(file, name, rows) for name in columns_in(file, own)}
                for place in range(len(block["id"])):
                    yield explanation({name: values[place] for name, values in block.items()}, own)

    def at(self, number: int) -> Explanation:
        """The record at a place in the archive's order, from 0; IndexError if there is none."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        shard, row = self._place(number)
        return record_at(self._file(shard), row, self.info)

    def place(self, record_id: str) -> tuple[Path, int]:
        """The file of a record and its row there, from 0; KeyError if there is none."""
        shard, row = self._place(self.number(record_id))
        return self._paths[shard], row

    def _place(self, number: int) -> tuple[int, int]:
        """The file of the record of a number, and its row there."""
        shard = int(np.searchsorted(self._starts, number, "right")) - 1
        return shard, number - int(self._starts[shard])

    def column(self, name: str) -> np.ndarray:
        """One whole dataset across the files, for example "score" or "map" (P, h, w); maps come back as float32.

        Raises:
            KeyError: if this archive does not hold it.
        """
        return np.concatenate([read(self._file(n), name, slice(None)) for n in range(len(self._paths))])

    def blocks(self, *names: str) -> Iterator[dict[str, np.ndarray]]:
        """These datasets, a block of consecutive records at a time, in order.

        Raises:
            KeyError: if this archive does not hold one.
        """
        for number, count in enumerate(self._counts):
            for start in range(0, count, _BLOCK):
                file = self._file(number)
                yield {name: read(file, name, slice(start, start + _BLOCK)) for name in names}

    def rows(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """These datasets record by record, with no more than a block of records in memory.

        Raises:
            KeyError: if this archive does not hold one.
        """
        for block in self.blocks(*names):
            yield from zip(*(block[name] for name in names), strict=True)

    @property
    def files(self) -> list[Path]:
        """The files of the archive, in order."""
        return list(self._paths)

    @cached_property
    def _starts(self) -> np.ndarray:
        """By file, the number of its first record in the archive, (files,) int64."""
        return np.cumsum([0, *self._counts[:-1]])

    def places_of(self, numbers: np.ndarray) -> np.ndarray:
        """Where records lie, (n, 2) int32: the number of the file in `files`, and the row in it.

        Args:
            numbers: (n,), of records in the archive's order, from 0.
        """
        shards = np.searchsorted(self._starts, numbers, "right") - 1
        return np.stack([shards, numbers - self._starts[shards]], 1).astype(np.int32)

    def take(self, names: Sequence[str], places: np.ndarray) -> dict[str, np.ndarray]:
        """These datasets of some records, in the order given, by name; all of them are in memory then.

        Records that follow each other in a file are read together.

        Args:
            names: of datasets.
            places: (n, 2), of the records, as `places_of` gives them.

        Raises:
            KeyError: if this archive does not hold a dataset.
        """
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        order = np.argsort(places[:, 0], kind="stable")
        for number in np.unique(places[:, 0]):
            file, rows = self._file(int(number)), places[places[:, 0] == number, 1]
            for name in names:
                parts[name].append(read_rows(file, name, rows))
        back = np.argsort(order, kind="stable")
        return {name: np.concatenate(blocks)[back] for name, blocks in parts.items()}

    def digest(self, *names: str) -> str:
        """SHA-256 of the values of these numeric datasets, file by file, in order; a block is in memory at a time."""
        digest = hashlib.sha256()
        for number, count in enumerate(self._counts):
            for name in names:
                for start in range(0, count, _BLOCK):
                    rows = read(self._file(number), name, slice(start, start + _BLOCK))
                    digest.update(np.ascontiguousarray(rows).tobytes())
        return digest.hexdigest()

    def _file(self, number: int) -> h5py.File:
        """File `number`, checked again when it is opened again, if it was changed meanwhile."""
        if self._open is None or self._open[0] != number:
            self.close()
            self._open = (number, open_safely(self._paths[number], self._checked[number])[0])
        return self._open[1]


def _datasets(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names
