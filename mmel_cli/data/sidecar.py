"""Images with a text file beside them: a.jpg with a.caption or a.txt (img2dataset's `files` layout is this)."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mmel_cli.data.captions import NO_CAPTION, first_line
from mmel_cli.data.paths import file_ref, images, record_id, resolve, shown
from mmel_cli.errors import RecordError
from mmel_cli.types import Failure, Sample

CAPTION_SUFFIXES = (".caption", ".txt")  # the first that exists


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
            yield Failure(identity, error.stage, str(error))


def _caption(root: Path, name: str) -> str:
    stem = PurePosixPath(name).with_suffix("")
    for suffix in CAPTION_SUFFIXES:
        beside = f"{stem}{suffix}"
        if os.path.lexists(root / beside):  # unlike Path.exists it says False to a name that is too long
            return first_line(resolve(root, beside))
    raise RecordError("pair", f"{NO_CAPTION}: no {shown(stem.name)}{' or '.join(CAPTION_SUFFIXES)} beside the image")
