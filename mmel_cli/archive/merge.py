"""Copy all shards of a run into one file."""

import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import h5py

from mmel_cli.archive.reader import archive_files
from mmel_cli.archive.safety import open_safely
from mmel_cli.archive.schema import LIBVER, TEXT, filters
from mmel_cli.archive.writer import sync_folder
from mmel_cli.errors import ArchiveError, UsageError


def merge(run: Path, out: Path) -> int:
    """Stream every record of `run` into the file `out`; returns how many.

    Raises:
        UsageError: if `out` exists.
        ArchiveError: if the shards do not belong together, an id occurs twice, or the disk is full (nothing is left).
    """
    if out.exists():
        raise UsageError(f"--out {out}: exists; give a new file")
    paths = archive_files(run)
    temporary = out.with_name(out.name + ".tmp")
    try:
        ids: set[str] = set()
        with temporary.open("wb+", buffering=0) as file:
            sink = _Sink(file)
            with h5py.File(sink, "w", libver=LIBVER) as target:
                for path in paths:
                    _append(target, path, ids)
                    sink.check()
            sink.check()
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(out)
        sync_folder(out.parent)
    except OSError as error:
        raise ArchiveError(f"{out}: cannot be written ({error.strerror or error}); make room and try again") from error
    finally:
        temporary.unlink(missing_ok=True)
    return len(ids)


class _Sink:
    """A file for HDF5 to write to that keeps the first error back: HDF5 crashes when its own file cannot grow."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._error: OSError | None = None
        self.seek, self.tell, self.read, self.readinto = file.seek, file.tell, file.read, file.readinto

    def write(self, data: memoryview) -> int:
        """Pretend, once the disk is full, so that HDF5 can close; `check` tells."""
        self._keep(lambda: self._write_all(data))
        return len(data)

    def truncate(self, size: int) -> int:
        """The same."""
        self._keep(lambda: self._file.truncate(size))
        return size

    def flush(self) -> None:
        """The same."""
        self._keep(self._file.flush)

    def check(self) -> None:
        """Raise the error that was kept back."""
        if self._error is not None:
            raise self._error

    def _write_all(self, data: memoryview) -> None:
        done = 0
        while done < len(data):  # an unbuffered file may take a part
            done += self._file.write(data[done:])

    def _keep(self, step: Callable[[], object]) -> None:
        try:
            if self._error is None:
                step()
        except OSError as error:
            self._error = error


def _append(target: h5py.File, path: Path, ids: set[str]) -> None:
    source, info = open_safely(path)
    with source:
        if "config_sha256" not in target.attrs:
            target.attrs.update(dict(source.attrs))
        if target.attrs["config_sha256"] != info.config_sha256:
            raise ArchiveError(f"{path}: is of another run than the shards before it; keep one run a folder")
        new = [str(name) for name in source["id"].asstr()[:]]
        twice = ids.intersection(new)
        if twice or len(set(new)) != len(new):
            raise ArchiveError(f"{path}: a record id occurs twice ({sorted(twice or new)[0]}); run mmel verify")
        ids.update(new)

        def copy(name: str, item: h5py.HLObject) -> None:
            if not isinstance(item, h5py.Dataset):
                return
            if name not in target:
                shape, limit = (0, *item.shape[1:]), (None, *item.shape[1:])
                dtype = TEXT if h5py.check_string_dtype(item.dtype) else item.dtype
                kept = filters(dtype)
                target.create_dataset(name, shape, dtype, maxshape=limit, chunks=item.chunks, **kept)
            at = len(target[name])
            target[name].resize(at + len(item), axis=0)
            for row in range(len(item)):
                target[name][at + row] = item[row]

        source.visititems(copy)
