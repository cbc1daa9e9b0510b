"""What a thread or a process does for a picture; the seconds that it took."""

import time
from dataclasses import replace
from pathlib import Path

from PIL import Image

from mmel_cli.fields import MAP
from mmel_cli.render.files import save_photo, save_picture
from mmel_cli.render.options import HeatmapOptions
from mmel_cli.render.overlay import render
from mmel_cli.types import Explanation

_SHOWN = ("words/", "phrases/", "tokens/")


def draw(image: Image.Image, explanation: Explanation, options: HeatmapOptions, phrase: str, path: Path) -> float:
    """Draw an explanation and write it; see `render`."""
    began = time.perf_counter()
    save_picture(render(image, explanation, options, phrase), path)
    return time.perf_counter() - began


def keep_photo(photo: Image.Image, image: str, photos: Path, thumbnails: Path) -> float:
    """Write an image as a photo and small; see `save_photo`."""
    began = time.perf_counter()
    save_photo(photo, image, photos, thumbnails)
    return time.perf_counter() - began


def drawable(explanation: Explanation) -> Explanation:
    """With the fields alone that a picture may show: what goes to another process."""
    shown = {name: value for name, value in explanation.fields.items() if name == MAP.name or name.startswith(_SHOWN)}
    return replace(explanation, fields=shown)
