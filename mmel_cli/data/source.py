"""Recognise how a folder pairs images with captions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmel_cli.data import metadata, sidecar
from mmel_cli.data.captions import check_caption
from mmel_cli.data.paths import is_image, record_id, walk
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
    if not path.exists():
        raise UsageError(f"{path}: does not exist; give an image or a folder of images with captions")
    if path.is_file():
        return _single(path, caption)
    if caption is not None:
        raise UsageError(f"--caption goes with one image, and {path} is a folder; put captions into metadata.jsonl")
    files = metadata.find(path)
    if files:
        return _imagefolder(path, files, caption_column)
    if caption_column is not None:
        raise UsageError(f"--caption-column {caption_column}: {path} has no metadata.csv or metadata.jsonl")
    if not any(is_image(name) for name in walk(path)):
        raise UsageError(f"{path}: holds no images; give a folder with metadata.jsonl, or images with .txt files")
    return Source("images with sidecar text files (.caption or .txt)", partial(sidecar.read, path))


def _single(path: Path, caption: str | None) -> Source:
    if caption is None:
        raise UsageError(f"{path}: is one image; say what to explain with --caption TEXT")
    try:
        text = check_caption(caption, "--caption")
    except RecordError as error:
        raise UsageError(str(error)) from error
    sample = Sample(id=record_id(path.name, 0), image=path.name, path=path, caption=text)
    return Source("one image with --caption", lambda: iter([sample]))


def _imagefolder(path: Path, files: tuple[str, ...], column: str | None) -> Source:
    found = metadata.columns(path, files)
    usable = column in found if column else any(c in found or "caption_0" in found for c in metadata.COLUMNS)
    if found and not usable:
        wanted = f"column {column!r}" if column else f"caption column ({', '.join(metadata.COLUMNS)})"
        raise UsageError(f"{path / files[0]}: has no {wanted} but {', '.join(found)}; name one with --caption-column")
    if not found:
        raise UsageError(f"{path / files[0]}: holds no readable row")
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return Source(f"HuggingFace imagefolder ({files[0]}{more})", metadata.Metadata(path, files, column).read)
