"""Recognise how a folder pairs images with captions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmel_cli.data import metadata, sidecar
from mmel_cli.data.captions import check_caption
from mmel_cli.data.paths import images, is_image, is_storable, record_id, shown
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, Sample


@dataclass(frozen=True)
class Source:
    """A stream of pairs that can be read again; `layout` says in a line how they were recognised."""

    layout: str
    _read: Callable[[], Iterator[Sample | Failure]]

    def __iter__(self) -> Iterator[Sample | Failure]:
        return self._read()


def open_source(path: Path, *, caption: str | None = None, caption_column: str | None = None) -> Source:
    """Recognise the layout of `path`: one image with `caption`, HF imagefolder metadata, or sidecar text files.

    Raises:
        UsageError: if there is nothing to read, or the options do not fit.
    """
    if _is_single(path):
        return _single(path, caption, caption_column)
    if caption is not None:
        raise UsageError(f"--caption goes with one image, and {path} is a folder; put captions into metadata.jsonl")
    files = metadata.find(path)
    if files:
        return _imagefolder(path, files, caption_column)
    if caption_column is not None:
        raise UsageError(f"--caption-column {caption_column}: {path} has no metadata.csv or metadata.jsonl")
    if next(images(path), None) is None:
        raise UsageError(f"{path}: holds no images; give a folder with metadata.jsonl, or images with .txt files")
    return Source("images with sidecar text files (.caption or .txt)", partial(sidecar.read, path))


def _is_single(path: Path) -> bool:
    """Whether the input is a file; False for a folder."""
    try:
        if path.is_dir():
            return False
        if path.is_file():
            return True
        there = path.exists()
    except OSError as error:
        raise UsageError(f"{shown(str(path))}: cannot be opened ({error.strerror})") from error
    what = "is neither a file nor a folder" if there else "does not exist"
    raise UsageError(f"{shown(str(path))}: {what}; give an image or a folder of images with captions")


def _single(path: Path, caption: str | None, column: str | None) -> Source:
    if column is not None:
        raise UsageError(f"--caption-column goes with a folder, and {path} is a file; use --caption TEXT")
    if caption is None and not is_image(path.name):
        raise UsageError(f"{path}: is no image; give the folder that holds it")
    if caption is None:
        raise UsageError(f"{path}: is one image; say what to explain with --caption TEXT")
    if not is_storable(path.name):
        raise UsageError(f"{shown(str(path))}: its name is not UTF-8; rename the file")
    try:
        text = check_caption(caption, "--caption")
    except RecordError as error:
        raise UsageError(str(error)) from error
    sample = Sample(id=record_id(path.name, 0), image=path.name, path=path, caption=text)
    return Source("one image with --caption", lambda: iter([sample]))


def _imagefolder(path: Path, files: tuple[str, ...], column: str | None) -> Source:
    metadata.check_columns(path, files, column)
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return Source(f"HuggingFace imagefolder ({files[0]}{more})", metadata.Metadata(path, files, column).read)
