"""Refuse files that would make a reader open other files or fill the memory, before any data is read."""

from pathlib import Path
from typing import Any

import h5py

from mmel_cli.archive import version1
from mmel_cli.archive.schema import SCALE, TEXT, columns, read_info
from mmel_cli.errors import ArchiveError, DamagedError
from mmel_cli.types import RunInfo

MAX_RECORD_BYTES = 1 << 26  # one chunk is one record
MAX_GRID, MAX_LAYERS, MAX_TOKENS = 4096, 4096, 1 << 16


def open_safely(path: Path) -> tuple[h5py.File, RunInfo]:
    """Open an archive file for reading and check all that can be checked without reading data.

    Raises:
        ArchiveError: naming the file and what is wrong with it.
    """
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise ArchiveError(f"{path}: cannot be opened ({error.strerror}); fix its permissions") from error
        raise DamagedError(f"{path}: is not a readable HDF5 file ({_short(error)}); write it again") from error
    try:
        return file, check(file, path)
    except ArchiveError:
        file.close()
        raise
    except Exception as error:  # h5py raises many kinds on files that are damaged or made to confuse it
        file.close()
        raise DamagedError(f"{path}: is damaged ({_short(error)}); write it again") from error


def check(file: h5py.File, path: Path) -> RunInfo:
    """Links, storage, shapes and types of every object against the schema."""
    names = list(_walk(file, "", path))
    version, info = read_info(file, str(path))
    if not (0 < max(info.grid) <= MAX_GRID and min(info.grid) > 0 and 0 < len(info.layers) <= MAX_LAYERS):
        raise ArchiveError(f"{path}: absurd grid {info.grid} or layer count {len(info.layers)}")
    if not 0 < info.max_tokens <= MAX_TOKENS:
        raise ArchiveError(f"{path}: absurd token count {info.max_tokens}")
    known = columns(info)
    if version == 1:
        known = {name: kind for name, kind in known.items() if name not in version1.LATER}
    missing = {*known, *(field.name for field in info.fields)} - set(names)
    if missing:
        raise ArchiveError(f"{path}: dataset {sorted(missing)[0]} is missing; write the archive again")
    records = len(file["id"])
    for name in names:
        _check_dataset(file[name], name, records, (known, info), path)
    return info


def _walk(group: h5py.Group, prefix: str, path: Path) -> list[str]:
    """Names of all datasets; only hard links are followed."""
    names = []
    for key in group:
        name = prefix + key
        if type(group.get(key, getlink=True)) is not h5py.HardLink:
            raise ArchiveError(f"{path}: {name} is a link to elsewhere; refused")
        item = group[key]
        if isinstance(item, h5py.Group):
            if prefix:
                raise ArchiveError(f"{path}: {name} is a group in a group; refused")
            names += _walk(item, f"{name}/", path)
        else:
            names.append(name)
    return names


def _check_dataset(
    item: h5py.Dataset, name: str, records: int, format_: tuple[dict[str, Any], RunInfo], path: Path
) -> None:
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.chunks is None:
        raise ArchiveError(f"{path}: {name} keeps its data elsewhere or is no chunked dataset; refused")
    shape, text = _declared(name, *format_)
    if shape is None or item.shape != (records, *shape):
        raise ArchiveError(f"{path}: {name} has shape {item.shape}, which the format does not allow; refused")
    if text != (h5py.check_string_dtype(item.dtype) is not None) or not (text or item.dtype.kind in "fiub"):
        raise ArchiveError(f"{path}: {name} has type {item.dtype}, which the format does not allow; refused")
    if item.chunks != (1, *shape):
        raise ArchiveError(f"{path}: {name} is not stored one record a chunk; refused")
    size = item.dtype.itemsize
    for length in shape:
        size *= length
    if size > MAX_RECORD_BYTES or item.id.get_num_chunks() != records:
        raise ArchiveError(f"{path}: {name} declares data that it does not hold, or too much of it; refused")


def _declared(name: str, known: dict[str, Any], info: RunInfo) -> tuple[tuple[int, ...] | None, bool]:
    """The shape of one record in a dataset (None: there is no such dataset), and whether it holds text."""
    if name in known:
        return known[name][1], known[name][0] is TEXT
    shapes: dict[str, tuple[int, ...]] = {}
    for field in info.fields:
        shapes |= {field.name: field.shape(info.sizes)} | ({field.name + SCALE: ()} if field.dtype == "float32" else {})
    return shapes.get(name), False


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
