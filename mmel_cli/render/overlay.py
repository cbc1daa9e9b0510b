"""Draw one explanation: the map over its place in the photo with the caption below it, and what stands beside it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmel_cli.render import colours
from mmel_cli.render.blend import Ground, mix
from mmel_cli.render.options import BY_PART, HeatmapOptions
from mmel_cli.render.panels import phrase_panel, sheet
from mmel_cli.render.part_strip import phrase_strip, sheet_strip
from mmel_cli.render.parts import Parts, parts_of
from mmel_cli.render.strip import caption_strip
from mmel_cli.types import Explanation

MIN_SIDE = 384  # smaller photos are enlarged to it, so that the caption can be read
_MIN_WIDTH = 420  # of each of two columns, so that a legend can be read
_GAP, _WIDE_GAP = 6, 16


@dataclass(frozen=True)
class _Column:
    """A picture and the strip below it."""

    picture: Image.Image
    strip: Image.Image | None

    @property
    def size(self) -> tuple[int, int]:
        strip = self.strip.size if self.strip else (0, 0)
        return max(self.picture.width, strip[0]), self.picture.height + strip[1]


def render(image: Image.Image, explanation: Explanation, options: HeatmapOptions, phrase: str = "mean") -> Image.Image:
    """Draw an explanation over its upright RGB original, or over what `fit` made of it; thread-safe.

    `phrase` is the run's `words.phrase`: what stands for a phrase.

    Raises:
        ValueError: for panels of phrases or words where the explanation has none (a run without --words).
    """
    photo = fit(image, options.max_side)
    ground = Ground.of(photo, explanation)
    heat = ground.place(colours.normalise(explanation.map, options.percentile)).clip(0, 1)
    coloured = colours.picture_of(heat, options.colormap)
    overlay = ground.finish(mix(photo, coloured, options.opacity * np.sqrt(heat)))
    if options.panels == "side-by-side":
        overlay = _row([photo, ground.finish(coloured), overlay], _GAP)
    parts = parts_of(explanation.caption, explanation.words, explanation.fields, phrase)
    if options.panels in BY_PART and parts is None:
        raise ValueError(f"{explanation.id}: heatmap.panels {options.panels} needs a run with --words")
    beside = parts if options.panels in (*BY_PART, "auto") else None
    width = overlay.width if beside is None else max(overlay.width, _MIN_WIDTH)
    strip = caption_strip(explanation, width, options.colormap) if options.caption else None
    columns = [_Column(overlay, strip)]
    if beside is not None:
        columns.append(_beside(ground, explanation, beside, options, width))
    return _row([_stacked(column) for column in columns], _WIDE_GAP)


def _beside(ground: Ground, explanation: Explanation, parts: Parts, options: HeatmapOptions, width: int) -> _Column:
    """What a run with --words has beside the overlay."""
    if options.panels == "words":
        strip = sheet_strip(explanation, parts, width, options) if options.caption else None
        return _Column(sheet(ground, explanation, parts, options, width), strip)
    strip = phrase_strip(explanation, parts, width, options.percentile) if options.caption else None
    return _Column(phrase_panel(ground, explanation, parts, options), strip)


def thumbnail(picture: Image.Image, side: int) -> Image.Image:
    """A smaller copy whose longer side is at most `side`."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def fit(image: Image.Image, max_side: int) -> Image.Image:
    """A copy at the size of pictures; of such a copy, the same again."""
    longest = max(image.size)
    factor = min(max_side / longest, max(1.0, min(MIN_SIDE, max_side) / longest))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    way = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    return image.resize(size, way)


def _stacked(column: _Column) -> Image.Image:
    paper = Image.new("RGB", column.size, "white")
    paper.paste(column.picture, (0, 0))
    if column.strip:
        paper.paste(column.strip, (0, column.picture.height))
    return paper


def _row(pictures: list[Image.Image], gap: int) -> Image.Image:
    """Pictures from left to right, their upper edges in a line."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    paper = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    x = 0
    for picture in pictures:
        paper.paste(picture, (x, 0))
        x += picture.width + gap
    return paper
