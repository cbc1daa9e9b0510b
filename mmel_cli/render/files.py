"""Pictures as files, each by rename, so that a kill leaves no half picture."""

import os
from pathlib import Path

from PIL import Image

from mmel_cli.render.names import photo_name
from mmel_cli.render.overlay import thumbnail

THUMBNAIL_SIDE = 320  # pixels of the longer side
_QUALITY = 88
_RUNS = 3  # zlib's Z_RLE, which searches for runs alone: of photos half the time of Pillow's default or less


def save_picture(picture: Image.Image, path: Path) -> None:
    """A PNG, WebP or JPEG by the name's end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    if path.suffix == ".png":
        picture.save(temporary, "PNG", compress_level=1, compress_type=_RUNS)
    elif path.suffix == ".webp":
        picture.save(temporary, "WEBP", quality=_QUALITY, method=0)  # the fastest: a third of the time of the default
    else:
        picture.save(temporary, "JPEG", quality=_QUALITY)
    os.replace(temporary, path)  # noqa: PTH105 - Path.replace is the same call; this one says it overwrites


def save_photo(photo: Image.Image, image: str, photos: Path, thumbnails: Path) -> None:
    """An image at the size of pictures, and small, by its name in the input; the small one is there first."""
    name = photo_name(image)
    save_picture(thumbnail(photo, THUMBNAIL_SIDE), thumbnails / name)
    save_picture(photo, photos / name)
