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

from mmel_cli.archive.safety import Checked, open_safely, state_of
from mmel_cli.archive.schema import AGAINST, SCALE, TEXT_CRC, TOKENS_TEXT, WORDS_SPAN, WORDS_TEXT, columns
from mmel_cli.archive.writer import SHARDS, shard_files
from mmel_cli.errors import ArchiveError, DamagedError
from mmel_cli.fields import PHRASE_SPAN
from mmel_cli.types import Explanation, RunInfo, Word

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
        """All record ids, in order; held in memory from the first use on."""
        return [str(value) for value in self.column("id")]

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        places = [(number, row) for number, count in enumerate(self._counts) for row in range(count)]
        return dict(zip(self.ids, places, strict=True))

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._places

    def __getitem__(self, record_id: str) -> Explanation:
        """The record of an id; KeyError if there is none."""
        number, row = self._places[record_id]
        return _record(self._file(number), row, self.info)

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
                block = {name: _read(file, name, rows) for name in _columns(file, own)}
                for place in range(len(block["id"])):
                    yield _explanation({name: values[place] for name, values in block.items()}, own)

    def at(self, number: int) -> Explanation:
        """The record at a place in the archive's order, from 0; IndexError if there is none."""
        row = number
        for shard, count in enumerate(self._counts):
            if 0 <= row < count:
                return _record(self._file(shard), row, self.info)
            row -= count
        raise IndexError(number)

    def place(self, record_id: str) -> tuple[Path, int]:
        """The file of a record and its row there, from 0; KeyError if there is none."""
        number, row = self._places[record_id]
        return self._paths[number], row

    def column(self, name: str) -> np.ndarray:
        """One whole dataset across the files, for example "score" or "map" (P, h, w); maps come back as float32.

        Raises:
            KeyError: if this archive does not hold it.
        """
        return np.concatenate([_read(self._file(n), name, slice(None)) for n in range(len(self._paths))])

    def blocks(self, *names: str) -> Iterator[dict[str, np.ndarray]]:
        """These datasets, a block of consecutive records at a time, in order.

        Raises:
            KeyError: if this archive does not hold one.
        """
        for number, count in enumerate(self._counts):
            for start in range(0, count, _BLOCK):
                file = self._file(number)
                yield {name: _read(file, name, slice(start, start + _BLOCK)) for name in names}

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

    @property
    def starts(self) -> np.ndarray:
        """By file, the number of its first record in the archive, (files,) int64."""
        return np.cumsum([0, *self._counts[:-1]])

    def places(self, ids: Iterable[str]) -> np.ndarray:
        """Where records lie, (n, 2) int32: the number of the file in `files`, and the row in it.

        Raises:
            KeyError: for an id that there is not.
        """
        return np.array([self._places[name] for name in ids], np.int32).reshape(-1, 2)

    def take(self, names: Sequence[str], places: np.ndarray) -> dict[str, np.ndarray]:
        """These datasets of some records, in the order given, by name; all of them are in memory then.

        Records that follow each other in a file are read together.

        Args:
            names: of datasets.
            places: (n, 2), of the records, as `places` gives them.

        Raises:
            KeyError: if this archive does not hold a dataset.
        """
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        order = np.argsort(places[:, 0], kind="stable")
        for number in np.unique(places[:, 0]):
            file, rows = self._file(int(number)), places[places[:, 0] == number, 1]
            for name in names:
                parts[name].append(_rows(file, name, rows))
        back = np.argsort(order, kind="stable")
        return {name: np.concatenate(blocks)[back] for name, blocks in parts.items()}

    def digest(self, *names: str) -> str:
        """SHA-256 of the values of these numeric datasets, in order; one file's dataset is in memory at a time."""
        digest = hashlib.sha256()
        for number in range(len(self._paths)):
            for name in names:
                digest.update(np.ascontiguousarray(_read(self._file(number), name, slice(None))).tobytes())
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


def _record(file: h5py.File, row: int, info: RunInfo) -> Explanation:
    return _explanation({name: _read(file, name, row) for name in _columns(file, info)}, info)


def _columns(file: h5py.File, info: RunInfo) -> list[str]:
    """The datasets that make a record with the fields of `info`, of those that the file has (version 1 lacks some)."""
    every = {*columns(info), *(field.name for field in info.fields), PHRASE_SPAN.name} - {TEXT_CRC}
    return sorted(name for name in every if name in file)


def _explanation(row: dict[str, Any], info: RunInfo) -> Explanation:
    """A record from its rows of `_columns`, without their padding."""
    tokens = tuple(str(text) for text in row[TOKENS_TEXT] if text)
    words = words_from(row[WORDS_TEXT], row[WORDS_SPAN]) if WORDS_TEXT in row else ()
    phrases = int((row[PHRASE_SPAN.name][:, 0] >= 0).sum()) if PHRASE_SPAN.name in row else 0
    own = replace(info.sizes, tokens=len(tokens), words=len(words), phrases=phrases)
    height, width = (int(n) for n in row["image_size"])
    x0, y0, x1, y1 = (float(n) for n in row["box"])
    return Explanation(
        **{name: str(row[name]) for name in ("id", "image", "caption")},
        truncated=bool(row["truncated"]),
        score=float(row["score"]),
        logit=float(row.get("logit", math.nan)),
        image_size=(height, width),
        box=(x0, y0, x1, y1),
        # copies: a record must not keep the block that it was read with
        fields={field.name: row[field.name][tuple(map(slice, field.shape(own)))].copy() for field in info.fields},
        tokens=tokens,
        words=words,
        against=str(row[AGAINST]) if info.against else None,
        against_score=float(row["against_score"]) if info.against else None,
    )


def _rows(file: h5py.File, name: str, rows: np.ndarray) -> np.ndarray:
    """Rows of a dataset in any order: as one slice where they lie close together, else row by row."""
    first, last = int(rows.min()), int(rows.max())
    if last - first < 2 * len(rows):
        return np.asarray(_read(file, name, slice(first, last + 1)))[rows - first]
    return np.concatenate([np.asarray(_read(file, name, slice(int(row), int(row) + 1))) for row in rows])


def phrases_in(file: h5py.File, row: int) -> int:
    """How many phrases a record has; 0 where the run shows none."""
    return int((_read(file, PHRASE_SPAN.name, row)[:, 0] >= 0).sum()) if PHRASE_SPAN.name in file else 0


def words_from(texts: Sequence[str] | np.ndarray, spans: np.ndarray) -> tuple[Word, ...]:
    """The words of a record from its rows of words/text and words/span, which are padded."""
    return tuple(Word(str(text), int(span[0]), int(span[1])) for text, span in zip(texts, spans, strict=True) if text)


def _read(file: h5py.File, name: str, rows: Any) -> Any:
    """Text as str, scaled float16 as float32, the rest as it is."""
    try:
        item = file[name]
        if h5py.check_string_dtype(item.dtype):
            return item.asstr()[rows]
        values = item[rows]
        if name + SCALE in file:
            factors = np.asarray(file[name + SCALE][rows], np.float32)
            return (
                values.astype(np.float32) * factors.reshape(-1, *[1] * (item.ndim - 1))[0 if factors.ndim == 0 else ...]
            )
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{file.filename}: {name} is damaged ({error}); run mmel verify") from error
    return values
