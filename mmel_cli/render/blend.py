"""A photo as the ground of maps: where the grid lies on it, and what lies outside."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from mmel_cli.types import Box, Explanation

_OUTSIDE = 0.45  # brightness of what the model never saw
_FRAME = (255, 255, 255)
_GREY = (90.0, 0.6)  # of a grey photo: least brightness, and contrast, so that every colour of a phrase stands out


@dataclass(frozen=True)
class Ground:
    """A photo at the size of its picture, and where the grid of maps lies on it, in its pixels.

    The box may reach beyond the photo (letterbox): what lies outside is cut off.
    """

    photo: Image.Image
    box: Box

    @classmethod
    def of(cls, photo: Image.Image, explanation: Explanation) -> "Ground":
        """Of a copy of the original at any size."""
        height, width = explanation.image_size
        scale = (photo.width / width, photo.height / height)
        x0, y0, x1, y1 = explanation.box
        return cls(photo, (x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1]))

    @cached_property
    def grey(self) -> Image.Image:
        """The photo without colour and paler, RGB."""
        least, contrast = _GREY
        levels = [round(level * contrast + least) for level in range(256)]
        return Image.merge("RGB", [self.photo.convert("L").point(levels)] * 3)

    def place(self, values: np.ndarray) -> np.ndarray:
        """A patch map in the photo's pixels, interpolated, float32 (height, width), zero outside the box.

        Bicubic: it may go a little beyond the map's own values.
        """
        width, height = self.photo.size
        left, top, right, bottom = self._edges
        sheet = Image.fromarray(values).resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BICUBIC)
        full = np.zeros((height, width), np.float32)
        full[self._part] = np.asarray(sheet)[max(-top, 0) : height - top, max(-left, 0) : width - left]
        return full

    def finish(self, picture: Image.Image) -> Image.Image:
        """A copy that is dim outside the box, with a thin line around it."""
        width, height = picture.size
        down, across = self._part
        seen = (across.start, down.start, across.stop, down.stop)
        if seen == (0, 0, width, height):
            return picture.copy()
        shown = picture.point([round(level * _OUTSIDE) for level in range(256)] * 3)
        if seen[0] < seen[2] and seen[1] < seen[3]:
            shown.paste(picture.crop(seen), seen[:2])
        left, top, right, bottom = self._edges
        if left < right and top < bottom:
            ImageDraw.Draw(shown).rectangle((left, top, right - 1, bottom - 1), outline=_FRAME)
        return shown

    @property
    def _edges(self) -> tuple[int, int, int, int]:
        left, top, right, bottom = (round(edge) for edge in self.box)
        return left, top, right, bottom

    @property
    def _part(self) -> tuple[slice, slice]:
        width, height = self.photo.size
        left, top, right, bottom = self._edges
        return slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))


def mix(picture: Image.Image, colour: Image.Image, alpha: np.ndarray) -> Image.Image:
    """An RGB picture of colours laid over another with an opacity of 0..1 for each pixel (height, width).

    In bytes, as the picture will be kept: at most two levels of 255 from the same in real numbers, in a tenth the time.
    """
    return Image.composite(colour, picture, Image.fromarray((alpha * 255 + 0.5).astype(np.uint8)))
