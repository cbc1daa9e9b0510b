"""Images without captions: an input only with --prompts, which gives their texts."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmel_cli.data.base import Request, Source
from mmel_cli.data.captions import NO_CAPTION
from mmel_cli.data.paths import file_ref, images, record_id, resolve
from mmel_cli.errors import RecordError
from mmel_cli.types import Failure


def recognise(request: Request) -> Source | None:
    """With prompts, any folder of images."""
    path = request.path
    if not request.prompts or not path.is_dir() or request.image_column is not None:
        return None
    if not any(isinstance(name, str) for name in images(path)):
        return None
    return Source(request, "images", partial(read, path))


def read(root: Path) -> Iterator[Failure]:
    """A pair without a caption for each image file, in the order of paths."""
    for name in images(root):
        if isinstance(name, Failure):
            yield name
            continue
        identity = record_id(name, 0)
        try:
            image = (name, file_ref(resolve(root, name)))
        except RecordError as error:
            yield Failure(identity, error.stage, str(error))
            continue
        yield Failure(identity, "pair", f"{NO_CAPTION}: give --prompts", image)
