"""Where pairs come from: the registry of sources, and how an input is recognised, written down and opened again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmel_cli.data import coco, metadata, sidecar, single, table, tars
from mmel_cli.data.base import OPTIONS, Recognise, Request, Source, refuse_caption
from mmel_cli.data.clues import unrecognised
from mmel_cli.data.paths import shown
from mmel_cli.errors import UsageError

SOURCES: dict[str, Recognise] = {
    "image": single.recognise,
    "imagefolder": metadata.recognise,
    "coco": coco.recognise,
    "table": table.recognise,
    "sidecar": sidecar.recognise,
    "tar": tars.recognise,
}
"""By name, in the order in which an input is recognised."""


def open_source(
    path: Path, *, caption: str | None = None, caption_column: str | None = None, image_column: str | None = None
) -> Source:
    """The source of an input: the first of SOURCES that recognises it.

    Args:
        path: a file or a folder.
        caption: of a single image.
        caption_column: of a table.
        image_column: of a table.

    Raises:
        UsageError: if there is nothing to read, or the options do not fit.
    """
    return _open_any(Request(path, caption, caption_column, image_column))


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
    options = {key: text for key in OPTIONS if isinstance(text := plain.get(key), str)}
    if moved is not None or name is None:
        return _open_any(Request(path, **options))
    if name not in SOURCES:
        raise UsageError(f"run.yaml: source {shown(str(name))} is not one of {', '.join(SOURCES)}")
    try:
        return _open(Request(path, **options), {name: SOURCES[name]})
    except LookupError as error:
        raise UsageError(f"{shown(str(path))}: is not of the kind {name!r} any more, as it was then") from error


def _open_any(request: Request) -> Source:
    try:
        return _open(request, SOURCES)
    except LookupError as error:
        raise UsageError(unrecognised(request)) from error


def _open(request: Request, sources: Mapping[str, Recognise]) -> Source:
    """The first source that recognises the input.

    Raises:
        LookupError: if none does.
    """
    _check_there(request.path)
    if request.path.is_dir():
        refuse_caption(request)
    for name, recognise in sources.items():
        source = recognise(request)
        if source is not None:
            return replace(source, name=name)
    raise LookupError


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
