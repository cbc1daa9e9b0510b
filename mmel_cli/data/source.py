"""Where pairs come from: the registry of sources, and how an input is recognised, written down and opened again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmel_cli.data import metadata, sidecar
from mmel_cli.data.captions import check_caption
from mmel_cli.data.paths import file_ref, images, is_image, is_storable, record_id, shown
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, Sample


@dataclass(frozen=True)
class Request:
    """An input as the user names it."""

    path: Path
    caption: str | None = None  # of a single image
    caption_column: str | None = None  # of a table


@dataclass(frozen=True)
class Source:
    """A stream of pairs that can be read again, written down (`plain`) and opened again (`reopen`)."""

    request: Request
    layout: str  # how the input was recognised, in a line
    read: Callable[[], Iterator[Sample | Failure]]
    name: str = ""  # in SOURCES; open_source fills it in

    def __iter__(self) -> Iterator[Sample | Failure]:
        return self.read()

    def plain(self) -> dict[str, Any]:
        """What run.yaml keeps: the name in SOURCES, the resolved path, the layout, and the options that were given."""
        options = {name: value for name, value in asdict(self.request).items() if value is not None}
        return {"source": self.name} | options | {"path": str(self.request.path.resolve()), "layout": self.layout}


Recognise = Callable[[Request], Source | None]
"""Looks at an input that exists: its Source, None if it is of another kind; UsageError if it is, but not readable."""


def open_source(path: Path, *, caption: str | None = None, caption_column: str | None = None) -> Source:
    """The source of an input: the first of SOURCES that recognises it.

    Args:
        path: a file or a folder.
        caption: of a single image.
        caption_column: of a table.

    Raises:
        UsageError: if there is nothing to read, or the options do not fit.
    """
    return _open(Request(path, caption, caption_column), SOURCES)


def reopen(plain: Mapping[str, Any], moved: Path | None = None) -> Source:
    """Open again what `Source.plain` wrote down; `moved` is where it lies now, and may be of another kind there.

    Args:
        plain: as run.yaml keeps it; what an older version wrote has a path and no source.
        moved: instead of the noted path.

    Raises:
        UsageError: if no path is noted, or as open_source.
    """
    noted, name = plain.get("path"), plain.get("source")
    path = moved or (Path(noted) if isinstance(noted, str) else None)
    if path is None:
        raise UsageError("no run.yaml says where it lies")
    options = {key: text for key in ("caption", "caption_column") if isinstance(text := plain.get(key), str)}
    if moved is not None or name is None:
        return _open(Request(path, **options), SOURCES)
    if name not in SOURCES:
        raise UsageError(f"run.yaml: source {shown(str(name))} is not one of {', '.join(SOURCES)}")
    return _open(Request(path, **options), {name: SOURCES[name]})


def _open(request: Request, sources: Mapping[str, Recognise]) -> Source:
    _check_there(request.path)
    for name, recognise in sources.items():
        source = recognise(request)
        if source is not None:
            return replace(source, name=name)
    raise UsageError(_unrecognised(request))


def _check_there(path: Path) -> None:
    """A file or a folder that can be looked at."""
    try:
        if path.is_dir() or path.is_file():
            return
        there = path.exists()
    except OSError as error:
        raise UsageError(f"{shown(str(path))}: cannot be opened ({error.strerror})") from error
    what = "is neither a file nor a folder" if there else "does not exist"
    raise UsageError(f"{shown(str(path))}: {what}; give an image or a folder of images with captions")


def _unrecognised(request: Request) -> str:
    path, column = request.path, request.caption_column
    if path.is_file():
        return f"{path}: is no image; give the folder that holds it"
    if column is not None:
        return f"--caption-column {column}: {path} has no metadata.csv or metadata.jsonl"
    return f"{path}: holds no images; give a folder with metadata.jsonl, or images with .txt files"


def _single(request: Request) -> Source | None:
    """One image with --caption."""
    path = request.path
    if path.is_dir() or (request.caption is None and not is_image(path.name)):
        return None
    if request.caption_column is not None:
        raise UsageError(f"--caption-column goes with a folder, and {path} is a file; use --caption TEXT")
    if request.caption is None:
        raise UsageError(f"{path}: is one image; say what to explain with --caption TEXT")
    if not is_storable(path.name):
        raise UsageError(f"{shown(str(path))}: its name is not UTF-8; rename the file")
    try:
        text = check_caption(request.caption, "--caption")
    except RecordError as error:
        raise UsageError(str(error)) from error
    sample = Sample(id=record_id(path.name, 0), image=path.name, ref=file_ref(path), caption=text)
    return Source(request, "one image with --caption", lambda: iter([sample]))


def _imagefolder(request: Request) -> Source | None:
    """A folder with HuggingFace's metadata.csv or metadata.jsonl, in it or deeper."""
    path, column = request.path, request.caption_column
    files = metadata.find(path) if path.is_dir() else ()
    if not files:
        return None
    _refuse_caption(request)
    metadata.check_columns(path, files, column)
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return Source(request, f"HuggingFace imagefolder ({files[0]}{more})", metadata.Metadata(path, files, column).read)


def _sidecar(request: Request) -> Source | None:
    """A folder of images with text files beside them."""
    path = request.path
    if not path.is_dir():
        return None
    _refuse_caption(request)
    if request.caption_column is not None or next(images(path), None) is None:
        return None
    return Source(request, "images with sidecar text files (.caption or .txt)", partial(sidecar.read, path))


def _refuse_caption(request: Request) -> None:
    if request.caption is not None:
        raise UsageError(
            f"--caption goes with one image, and {request.path} is a folder; put captions into metadata.jsonl"
        )


SOURCES: dict[str, Recognise] = {"image": _single, "imagefolder": _imagefolder, "sidecar": _sidecar}
"""By name, in the order in which an input is recognised."""
