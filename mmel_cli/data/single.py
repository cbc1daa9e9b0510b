"""One image with --caption."""

from mmel_cli.data.base import Request, Source, refuse_columns
from mmel_cli.data.captions import check_caption
from mmel_cli.data.paths import file_ref, is_image, is_storable, record_id, shown
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Sample

_OTHERS = (".json", ".jsonl", ".csv", ".tsv", ".tab", ".tar")  # files that hold many pairs


def recognise(request: Request) -> Source | None:
    """An image file; with --caption also a file whose suffix says nothing."""
    path = request.path
    if path.is_dir() or (not is_image(path.name) and (request.caption is None or path.suffix.lower() in _OTHERS)):
        return None
    refuse_columns(request, "one image; use --caption TEXT")
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
