"""Pictures as files, each by rename, so that a kill leaves no half picture."""

import os
import uuid
from pathlib import Path

from PIL import Image

from mmel_cli.render.names import photo_name
from mmel_cli.render.overlay import thumbnail

THUMBNAIL_SIDE = 320  # pixels of the longer side
_PHOTO_QUALITY = 88
_QUALITY, _FULL_COLOUR = 92, 0  # of pictures with text: 4:4:4, since half the colours would smear small coloured words
_RUNS = 3  # zlib's Z_RLE, which searches for runs alone: of photos half the time of Pillow's default or less


def save_picture(picture: Image.Image, path: Path) -> None:
    """A PNG, WebP or JPEG by the name's end, of a quality that keeps text crisp."""
    if path.suffix == ".png":
        _save(picture, path, "PNG", compress_level=1, compress_type=_RUNS)
    elif path.suffix == ".webp":
        _save(picture, path, "WEBP", quality=_QUALITY, method=0)  # the fastest: a third of the time of the default
    else:
        _save(picture, path, "JPEG", quality=_QUALITY, subsampling=_FULL_COLOUR)


def save_photo(photo: Image.Image, image: str, photos: Path, thumbnails: Path) -> None:
    """An image at the size of pictures, and small, by its name in the input; the small one is there first."""
    name = photo_name(image)
    _save(thumbnail(photo, THUMBNAIL_SIDE), thumbnails / name, "JPEG", quality=_PHOTO_QUALITY)
    _save(photo, photos / name, "JPEG", quality=_PHOTO_QUALITY)


def _save(picture: Image.Image, path: Path, kind: str, **how: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")  # ranks may keep the same photo at a time
    picture.save(temporary, kind, **how)
    os.replace(temporary, path)  # noqa: PTH105 - Path.replace is the same call; this one says it overwrites
