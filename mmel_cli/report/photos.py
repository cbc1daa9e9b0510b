"""Where the photo of an image lies: in the folder of the first run that has it."""

from collections.abc import Sequence
from pathlib import Path

from mmel_cli.render import photo_name
from mmel_cli.report.scripts import relative, url
from mmel_cli.runs.folder import PHOTOS, THUMBNAILS


class PhotoPaths:
    """URLs of photo and thumbnail by image, "" where there is none; what was asked last is remembered.

    Args:
        places: folders with `photos/` and `thumbnails/`, in the order in which they are looked at.
        folder: of the page.
    """

    def __init__(self, places: Sequence[Path], folder: Path) -> None:
        self._places = [(place, relative(place, folder)) for place in places if (place / PHOTOS).is_dir()]
        self._last: tuple[str, tuple[str, str]] = ("", ("", ""))

    def __call__(self, image: str) -> tuple[str, str]:
        """Of an image by its name in the input."""
        if image != self._last[0]:
            self._last = (image, self._find(image))
        return self._last[1]

    def __bool__(self) -> bool:
        return bool(self._places)

    def _find(self, image: str) -> tuple[str, str]:
        name = photo_name(image)
        for place, at in self._places:
            if (place / PHOTOS / name).is_file():
                start = "" if at == "." else f"{at}/"
                photo, thumb = (f"{start}{url(f'{kind}/{name}')}" for kind in (PHOTOS, THUMBNAILS))
                return photo, thumb if (place / THUMBNAILS / name).is_file() else photo
        return "", ""
