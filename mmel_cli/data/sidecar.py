"""Images with a text file beside them: a.jpg with a.caption or a.txt (img2dataset's `files` layout is this)."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from mmel_cli.data.base import Request, Source
from mmel_cli.data.captions import NO_CAPTION, first_line
from mmel_cli.data.paths import file_ref, images, readable_image, record_id, resolve, shown
from mmel_cli.errors import RecordError
from mmel_cli.types import Failure, Sample

CAPTION_SUFFIXES = (".caption", ".txt")  # the first that exists


def recognise(request: Request) -> Source | None:
    """A folder of images of which at least one has a text file beside it."""
    path = request.path
    if not path.is_dir() or request.caption_column is not None or request.image_column is not None:
        return None
    if not any(isinstance(name, str) and _beside(path, name) for name in images(path)):
        return None
    return Source(request, "images with sidecar text files (.caption or .txt)", partial(read, path))


def read(root: Path) -> Iterator[Sample | Failure]:
    """One entry for each image file, in the order of paths."""
    for name in images(root):
        if isinstance(name, Failure):
            yield name
            continue
        identity = record_id(name, 0)
        try:
            ref = file_ref(resolve(root, name))
            yield Sample(id=identity, image=name, ref=ref, caption=_caption(root, name))
        except RecordError as error:
            yield Failure(identity, error.stage, str(error), readable_image(root, name))


def _caption(root: Path, name: str) -> str:
    beside = _beside(root, name)
    if beside is not None:
        return first_line(resolve(root, beside))
    stem = PurePosixPath(name).stem
    raise RecordError("pair", f"{NO_CAPTION}: no {shown(stem)}{' or '.join(CAPTION_SUFFIXES)} beside the image")


def _beside(root: Path, name: str) -> str | None:
    """The text file of an image."""
    stem = PurePosixPath(name).with_suffix("")
    names = (f"{stem}{suffix}" for suffix in CAPTION_SUFFIXES)
    return next((beside for beside in names if os.path.lexists(root / beside)), None)  # False for a name too long
