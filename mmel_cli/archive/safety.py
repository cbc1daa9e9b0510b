"""Refuse files that would make a reader open other files or fill the memory, before any data is read."""

import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mmel_cli.archive import version1
from mmel_cli.archive.schema import SCALE, TEXT, columns, read_info
from mmel_cli.errors import ArchiveError, DamagedError
from mmel_cli.types import RunInfo

MAX_RECORD_BYTES = 1 << 26  # one chunk is one record
MAX_GRID, MAX_LAYERS, MAX_TOKENS = 4096, 4096, 1 << 16
MAX_ATTRIBUTE_BYTES = 1 << 20
MAX_RATIO = 1100  # declared to stored bytes of a chunk; one gzip shrinks by 1032 at most
_FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)
_REFERENCE = 16  # bytes: what a dataset of text holds for each, 4 of length, 8 of address, 4 of index
_GROWTH, _EXTRA = 1.01, 64  # what gzip and a checksum may add to a chunk: a factor, and bytes
_INFLATABLE = 1 << 18  # stored bytes of a chunk from which it could inflate to more than 256 MB


@dataclass(frozen=True)
class Checked:
    """A file that was found safe: what it says, and what the system says of the file itself."""

    info: RunInfo
    state: tuple[int, ...]

    def still(self, file: h5py.File) -> bool:
        """Whether an open file is that one, and was not written to since."""
        return self.state == state_of(file)


def state_of(file: h5py.File) -> tuple[int, ...]:
    """Which file it is, its size, and when its content and its metadata were changed last."""
    told = os.fstat(file.id.get_vfd_handle())
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


def open_safely(path: Path, before: Checked | None = None) -> tuple[h5py.File, RunInfo]:
    """Open an archive file for reading and check all that can be checked without reading data.

    Args:
        path: of the file.
        before: of an earlier check, which holds if the file has not changed since.

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
        if before is not None and before.still(file):
            return file, before.info
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
    check_attributes(file, path)
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
    check_storage({name: file[name] for name in names}, path)
    return info


def check_attributes(file: h5py.File, path: Path) -> None:
    """Root attributes are single texts or few numbers: of an array of texts, all may be the same large one.

    Raises:
        ArchiveError: naming the attribute.
    """
    for name in file.attrs:
        item = h5py.h5a.open(file.id, name.encode("utf-8", "surrogateescape"))
        single = item.shape == () and h5py.check_string_dtype(item.dtype) is not None
        numbers = item.dtype.kind in "fiub" and math.prod(item.shape) * item.dtype.itemsize <= MAX_ATTRIBUTE_BYTES
        if not (single or numbers):
            raise ArchiveError(f"{path}: root attribute {name} is neither a text nor a few numbers; refused")


def check_storage(items: Mapping[str, h5py.Dataset], path: Path) -> None:
    """Declared against stored bytes of datasets whose shapes and types have been checked, before a value is read.

    HDF5 lets several chunks share their bytes, and several references lead to one text. Honest files do neither, so
    there all chunks and all texts together are smaller than the file.

    Args:
        items: every dataset, by name.
        path: the file.

    Raises:
        ArchiveError: naming the dataset.
    """
    stored = 0
    for name, item in items.items():
        pipeline = _pipeline(item)
        text = h5py.check_string_dtype(item.dtype) is not None
        if pipeline != [code for code in _FILTERS if code in pipeline] or (text and pipeline):
            raise ArchiveError(f"{path}: {name} has filters that the format does not allow; refused")
        declared = math.prod(item.chunks) * (_REFERENCE if text else item.dtype.itemsize)
        chunks: list[tuple[int, tuple[int, ...]]] = []
        item.id.chunk_iter(lambda chunk, chunk_list=chunks: chunk_list.append((chunk.size, chunk.chunk_offset)))
        for size, offset in chunks:
            least, most = (declared, declared) if text else (declared / MAX_RATIO, declared * _GROWTH + _EXTRA)
            if not least <= size <= most:
                raise ArchiveError(f"{path}: {name} stores {size} bytes as {declared}; refused")
            if size > _INFLATABLE and _inflates_beyond(item, offset, pipeline, declared):
                raise ArchiveError(f"{path}: {name} holds more data than it declares; refused")
        stored += sum(size for size, _ in chunks)
        if text:
            stored += _text_bytes(item, [offset for _, offset in chunks])
        if stored > path.stat().st_size:
            raise ArchiveError(f"{path}: {name} uses the same stored bytes several times; refused")


def _pipeline(item: h5py.Dataset) -> list[int]:
    """The codes of a dataset's filters, in the order of writing."""
    made = item.id.get_create_plist()
    return [made.get_filter(number)[0] for number in range(made.get_nfilters())]


def _text_bytes(item: h5py.Dataset, offsets: list[tuple[int, ...]]) -> int:
    """The lengths of all texts, from the references to them."""
    references = b"".join(item.id.read_direct_chunk(offset)[1] for offset in offsets)
    return int(np.frombuffer(references, "<u4")[::4].sum(dtype=np.int64))


def _inflates_beyond(item: h5py.Dataset, offset: tuple[int, ...], pipeline: list[int], declared: int) -> bool:
    """Whether a gzip chunk goes on after its declared bytes: HDF5 would inflate it to its end, however far that is."""
    skipped, data = item.id.read_direct_chunk(offset)
    if h5py.h5z.FILTER_DEFLATE not in pipeline or skipped >> pipeline.index(h5py.h5z.FILTER_DEFLATE) & 1:
        return False
    stream = zlib.decompressobj()
    stream.decompress(data, declared)
    return bool(stream.decompress(stream.unconsumed_tail, 1))


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
