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
    def inside(self) -> np.ndarray:
        """Where the model saw the photo, bool (height, width)."""
        seen = np.zeros((self.photo.height, self.photo.width), bool)
        seen[self._part] = True
        return seen

    @cached_property
    def grey(self) -> np.ndarray:
        """The photo without colour and paler, float32 (height, width, 3)."""
        least, contrast = _GREY
        levels = np.asarray(self.photo.convert("L"), np.float32) * contrast + least
        return np.repeat(levels[..., None], 3, axis=2)

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

    def finish(self, pixels: np.ndarray) -> Image.Image:
        """Colours (height, width, 3) in 0..255 as a picture: dim outside the box, with a thin line around it."""
        picture = Image.fromarray((pixels * np.where(self.inside, 1, _OUTSIDE)[..., None]).round().astype(np.uint8))
        if not self.inside.all():
            left, top, right, bottom = self._edges
            ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline=_FRAME)
        return picture

    @property
    def _edges(self) -> tuple[int, int, int, int]:
        left, top, right, bottom = (round(edge) for edge in self.box)
        return left, top, right, bottom

    @property
    def _part(self) -> tuple[slice, slice]:
        width, height = self.photo.size
        left, top, right, bottom = self._edges
        return slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))


def mix(pixels: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A colour, or one for each pixel, laid over pixels (height, width, 3) with an opacity of 0..1 for each."""
    shown: np.ndarray = pixels * (1 - alpha[..., None]) + colour * alpha[..., None]
    return shown
