"""Four images as the quarters of one, and what each of them may be called."""

import re
from collections.abc import Iterable, Sequence

from PIL import Image

from mmel_cli.phrases import noun_phrases
from mmel_cli.types import Box, Sample

TILE = "tile"
"""The name of the copy of each original that quarters are made of."""


def squash(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A quarter of a mosaic: the image at `size` (height, width), whatever its aspect."""
    return image.resize((size[1], size[0]), Image.Resampling.BICUBIC)


def mosaic(tiles: Sequence[Image.Image]) -> Image.Image:
    """Four squashed images of one size as the quarters of one, row by row."""
    width, height = tiles[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % 2 * width, number // 2 * height))
    return sheet


def quarter(sheet: Image.Image, place: int) -> Box:
    """Where quarter 0 to 3 of a mosaic is."""
    width, height = sheet.width / 2, sheet.height / 2
    x, y = place % 2 * width, place // 2 * height
    return x, y, x + width, y + height


def name_of(sample: Sample) -> str | None:
    """What a caption calls the one thing that it names: the text of its only phrase; None if it has several, or none.

    Phrases are those of the input, else what the rule of METHOD finds.
    """
    spans = tuple((phrase.start, phrase.end) for phrase in sample.phrases) or noun_phrases(sample.caption)
    return sample.caption[slice(*spans[0])] if len(spans) == 1 else None


def mentions(captions: Iterable[str], name: str) -> bool:
    """Whether any of the captions says the name word for word, in any case."""
    said = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
    return any(said.search(caption) for caption in captions)


def listing(names: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """A caption that joins names, "a, b and c", and where each stands in it."""
    text, spans = "", []
    for number, name in enumerate(names):
        text += "" if number == 0 else " and " if number == len(names) - 1 else ", "
        spans.append((len(text), len(text) + len(name)))
        text += name
    return text, spans
