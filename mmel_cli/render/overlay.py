"""Draw one explanation: the map over its place in the photo, the caption with its tokens shaded, score and scale."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from mmel_cli.render import colours
from mmel_cli.render.strip import caption_strip
from mmel_cli.types import Box, Explanation

MIN_SIDE = 384  # smaller photos are enlarged to it, so that the caption can be read
_OUTSIDE = 0.45  # brightness of what the model never saw
_FRAME = (255, 255, 255)


@dataclass(frozen=True)
class HeatmapOptions:
    """How pictures look.

    A matplotlib `colormap`; the `opacity` of the strongest evidence; the `percentile` of a map that counts as
    strongest; `panels`, the overlay alone or image, map and overlay; the longest side of a panel in pixels; and
    whether the caption is shown.
    """

    colormap: str = "inferno"
    opacity: float = 0.8
    percentile: float = 99.5
    panels: Literal["overlay", "side-by-side"] = "overlay"
    max_side: int = 768
    caption: bool = True

    def __post_init__(self) -> None:
        colours.table(self.colormap)
        if not 0 <= self.opacity <= 1:
            raise ValueError("heatmap.opacity must lie in 0..1")
        if not 0 < self.percentile <= 100:
            raise ValueError("heatmap.percentile must lie in 0..100")
        if not 64 <= self.max_side <= 8192:
            raise ValueError("heatmap.max_side must lie in 64..8192")


def render(image: Image.Image, explanation: Explanation, options: HeatmapOptions) -> Image.Image:
    """Draw an explanation over its upright RGB original, or over what `fit` made of it; thread-safe."""
    photo = fit(image, options.max_side)
    height, width = explanation.image_size
    scale = (photo.width / width, photo.height / height)
    x0, y0, x1, y1 = explanation.box
    box = (x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1])
    heat, inside = place(colours.normalise(explanation.map, options.percentile), box, photo.size)
    overlay = _frame(_blend(photo, heat, inside, options), box, inside)
    panels = [overlay]
    if options.panels == "side-by-side":
        pure = colours.apply(heat, options.colormap) * np.where(inside, 1, _OUTSIDE)[..., None]
        panels = [photo, _frame(Image.fromarray(pure.astype(np.uint8)), box, inside), overlay]
    width = sum(panel.width for panel in panels) + 6 * (len(panels) - 1)
    strip = caption_strip(explanation, width, options.colormap) if options.caption else None
    canvas = Image.new("RGB", (width, photo.height + (strip.height if strip else 0)), "white")
    for number, panel in enumerate(panels):
        canvas.paste(panel, (number * (photo.width + 6), 0))
    if strip:
        canvas.paste(strip, (0, photo.height))
    return canvas


def thumbnail(picture: Image.Image, side: int = 256) -> Image.Image:
    """A smaller copy whose longer side is at most `side`."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def place(heat: np.ndarray, box: Box, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Lay a patch map over the `box` of a picture of `size` (width, height) in its pixels.

    The box may reach beyond the picture (letterbox): what lies outside is cut off.

    Returns:
        The interpolated map, float32 (height, width), zero outside the box; and where the box is, bool.
    """
    width, height = size
    left, top, right, bottom = (round(edge) for edge in box)
    sheet = Image.fromarray(heat).resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BICUBIC)
    full, inside = np.zeros((height, width), np.float32), np.zeros((height, width), bool)
    part = np.s_[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    cut = np.asarray(sheet)[max(-top, 0) : height - top, max(-left, 0) : width - left]
    full[part], inside[part] = cut.clip(0, 1), True
    return full, inside


def fit(image: Image.Image, max_side: int) -> Image.Image:
    """A copy at the size of pictures; of such a copy, the same again."""
    longest = max(image.size)
    factor = min(max_side / longest, max(1.0, min(MIN_SIDE, max_side) / longest))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    way = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    return image.resize(size, way)


def _blend(photo: Image.Image, heat: np.ndarray, inside: np.ndarray, options: HeatmapOptions) -> Image.Image:
    """Opacity follows the evidence, so regions without any show the photo as it is; what the model never saw is dim."""
    pixels = np.asarray(photo, np.float32)
    alpha = (options.opacity * np.sqrt(heat))[..., None]
    mixed = pixels * (1 - alpha) + colours.apply(heat, options.colormap) * alpha
    return Image.fromarray((mixed * np.where(inside, 1, _OUTSIDE)[..., None]).round().astype(np.uint8))


def _frame(picture: Image.Image, box: Box, inside: np.ndarray) -> Image.Image:
    """A thin line around the box, unless it is the whole picture."""
    if not inside.all():
        left, top, right, bottom = (round(edge) for edge in box)
        ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline=_FRAME)
    return picture
