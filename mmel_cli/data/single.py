"""One image with --caption, or with --prompts."""

from mmel_cli.data.base import Request, Source, refuse_columns
from mmel_cli.data.captions import NO_CAPTION, check_caption
from mmel_cli.data.paths import file_ref, is_image, is_storable, record_id, shown
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, Sample

_OTHERS = (".json", ".jsonl", ".csv", ".tsv", ".tab", ".tar")  # files that hold many pairs


def recognise(request: Request) -> Source | None:
    """An image file; with --caption also a file whose suffix says nothing."""
    path = request.path
    if path.is_dir() or (not is_image(path.name) and (request.caption is None or path.suffix.lower() in _OTHERS)):
        return None
    refuse_columns(request, "one image; use --caption TEXT")
    if request.caption is None and not request.prompts:
        raise UsageError(f"{path}: is one image; say what to explain with --caption TEXT")
    if not is_storable(path.name):
        raise UsageError(f"{shown(str(path))}: its name is not UTF-8; rename the file")
    identity, ref = record_id(path.name, 0), file_ref(path)
    if request.prompts:
        bare = Failure(identity, "pair", f"{NO_CAPTION}: one image", (path.name, ref))
        return Source(request, "one image", lambda: iter([bare]))
    try:
        text = check_caption(request.caption, "--caption")
    except RecordError as error:
        raise UsageError(str(error)) from error
    sample = Sample(id=identity, image=path.name, ref=ref, caption=text)
    return Source(request, "one image with --caption", lambda: iter([sample]))
