"""Read a run folder, one shard, or a merged file alike, one record at a time."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from mmel_cli.archive.safety import open_safely
from mmel_cli.archive.schema import KINDS, SCALE
from mmel_cli.archive.writer import SHARDS
from mmel_cli.errors import ArchiveError
from mmel_cli.types import Explanation, RunInfo


def load_archive(path: str | Path) -> "Archive":
    """Open an archive.

    Args:
        path: a run folder, its archive folder, a shard, or a merged file.

    Raises:
        ArchiveError: if there is none, or a file is damaged or unsafe, or the shards are of different runs.
    """
    return Archive(archive_files(Path(path)))


def archive_files(path: Path) -> list[Path]:
    """The files of an archive, in order."""
    if path.is_file():
        return [path]
    folder = path / "archive" if (path / "archive").is_dir() else path
    files = sorted(folder.glob(SHARDS))
    if not files:
        raise ArchiveError(f"{path}: holds no archive (archive/{SHARDS}); give a run folder or an archive file")
    return files


class Archive:
    """A read-only archive; iterate for Explanations in order, or index by record id. Close it, or use `with`."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths, self._files, infos = paths, [], []
        try:
            for path in paths:
                file, info = open_safely(path)
                self._files.append(file)
                infos.append(info)
                _same_run(path, info, paths[0], infos[0])
        except ArchiveError:
            self.close()
            raise
        self.info: RunInfo = infos[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every file."""
        for file in self._files:
            file.close()

    def __len__(self) -> int:
        return sum(len(file["id"]) for file in self._files)

    @cached_property
    def ids(self) -> list[str]:
        """All record ids, in order; held in memory from the first use on."""
        return [str(value) for value in self.column("id")]

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        return {
            name: (number, row)
            for number, file in enumerate(self._files)
            for row, name in enumerate(file["id"].asstr()[:])
        }

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._places

    def __getitem__(self, record_id: str) -> Explanation:
        """The record of an id; KeyError if there is none."""
        number, row = self._places[record_id]
        return self._record(self._files[number], row)

    def __iter__(self) -> Iterator[Explanation]:
        for file in self._files:
            for row in range(len(file["id"])):
                yield self._record(file, row)

    def column(self, name: str) -> np.ndarray:
        """One whole dataset across the files, for example "score" or "map" (P, h, w); maps come back as float32.

        Raises:
            KeyError: if this archive does not hold it.
        """
        return np.concatenate([_read(file, name, slice(None)) for file in self._files])

    def _record(self, file: h5py.File, row: int) -> Explanation:
        tokens = tuple(str(text) for text in _read(file, "tokens/text", row) if text)
        kinds = [kind for kind in KINDS if f"layers/{kind}" in file]
        scales = sorted(int(k[7:]) for k in file.get("layers", ()) if k.startswith("shared_") and k[7:].isdecimal())
        height, width = (int(n) for n in file["image_size"][row])
        x0, y0, x1, y1 = (float(n) for n in file["box"][row])
        return Explanation(
            **{name: str(_read(file, name, row)) for name in ("id", "image", "caption")},
            truncated=bool(file["truncated"][row]),
            score=float(file["score"][row]),
            image_size=(height, width),
            box=(x0, y0, x1, y1),
            map=_read(file, "map", row),
            layers={kind: _read(file, f"layers/{kind}", row) for kind in kinds},
            shared={scale: _read(file, f"layers/shared_{scale}", row) for scale in scales},
            tokens=tokens,
            token_map=_read(file, "tokens/map", row)[: len(tokens)],
        )


def _same_run(path: Path, info: RunInfo, first: Path, expected: RunInfo) -> None:
    if info.config_sha256 != expected.config_sha256 or info.grid != expected.grid:
        raise ArchiveError(f"{path}: is of another run than {first}; keep one run a folder")


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
    except OSError as error:
        raise ArchiveError(f"{file.filename}: {name} is damaged ({error}); run mmel verify") from error
    return values
