"""Where pairs come from: the registry of sources, and how an input is recognised, written down and opened again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmel_cli.data import against as rivals
from mmel_cli.data import bare, coco, metadata, sidecar, single, table, tars
from mmel_cli.data.base import OPTIONS, Recognise, Request, Source, refuse_caption
from mmel_cli.data.clues import unrecognised
from mmel_cli.data.paths import shown
from mmel_cli.data.prompts import prompted, read_prompts, refuse_captions
from mmel_cli.errors import UsageError

SOURCES: dict[str, Recognise] = {
    "image": single.recognise,
    "imagefolder": metadata.recognise,
    "coco": coco.recognise,
    "table": table.recognise,
    "sidecar": sidecar.recognise,
    "tar": tars.recognise,
    "images": bare.recognise,
}
"""By name, in the order in which an input is recognised."""


def open_source(  # noqa: PLR0913 - one parameter an option
    path: Path,
    *,
    caption: str | None = None,
    caption_column: str | None = None,
    image_column: str | None = None,
    prompts: Path | None = None,
    against: str | None = None,
    against_other: bool = False,
) -> Source:
    """The source of an input: the first of SOURCES that recognises it.

    Args:
        path: a file or a folder.
        caption: of a single image.
        caption_column: of a table.
        image_column: of a table.
        prompts: a file of texts, one a line, that every image is explained for in the place of its captions.
        against: a text that captions are explained against.
        against_other: captions are explained against another caption of their image.

    Raises:
        UsageError: if there is nothing to read, or the options do not fit.
    """
    texts = () if prompts is None else read_prompts(prompts)
    return _open_any(Request(path, caption, caption_column, image_column, texts, against, against_other))


def reopen(plain: Mapping[str, Any], moved: Path | None = None) -> Source:
    """Open again what `Source.plain` wrote down; `moved` is where it lies now, and may be of another kind there.

    Args:
        plain: as run.yaml keeps it, prompts by their texts; what an older version wrote has a path and no source.
        moved: instead of the noted path.

    Raises:
        UsageError: if no path is noted, or the texts of prompts are not, or as open_source.
    """
    noted, name = plain.get("path"), plain.get("source")
    path = moved or (Path(noted) if isinstance(noted, str) else None)
    if path is None:
        raise UsageError("no run.yaml says where it lies")
    options = {key: text for key in OPTIONS if isinstance(text := plain.get(key), str)}
    request = Request(path, **options, prompts=_noted_prompts(plain), against_other=plain.get("against_other") is True)
    if moved is not None or name is None:
        return _open_any(request)
    if name not in SOURCES:
        raise UsageError(f"run.yaml: source {shown(str(name))} is not one of {', '.join(SOURCES)}")
    try:
        return _open(request, {name: SOURCES[name]})
    except LookupError as error:
        raise UsageError(f"{shown(str(path))}: is not of the kind {name!r} any more, as it was then") from error


def _noted_prompts(plain: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts themselves; an archive alone says only where the file lay, and names no file here."""
    noted = plain.get("prompts")
    if noted is None:
        return ()
    if not isinstance(noted, list) or not all(isinstance(text, str) for text in noted):
        raise UsageError("only run.yaml keeps the texts of --prompts; give the run folder")
    return tuple(noted)


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
    if request.prompts:
        refuse_captions(request)
    for name, recognise in sources.items():
        source = recognise(request)
        if source is not None:
            return _wrapped(replace(source, name=name))
    raise LookupError


def _wrapped(source: Source) -> Source:
    """With what takes the place of captions, and with what they are explained against."""
    request = source.request
    if request.prompts:
        source = prompted(source, request.prompts)
    if request.against is not None:
        return rivals.against_text(source, request.against)
    return rivals.against_other(source) if request.against_other else source


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
