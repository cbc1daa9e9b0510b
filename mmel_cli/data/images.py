"""Decode images from strangers: upright RGB, or a RecordError of one line."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mmel_cli.data.paths import shown
from mmel_cli.errors import RecordError
from mmel_cli.types import ImageRef

# No EPS (it runs Ghostscript), no PDF, no formats that only files from another age use.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Once, since catch_warnings is not safe in threads: ImageLimits is stricter than the warnings about large images, and
# what Pillow says of damaged tags either ends in an error here or does not touch the pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")
# The C library gives blocks above 32 MB back to the system as soon as they are free; Pillow's usual 16 MB stay with the
# thread that decoded: 16 threads held 1.4 GB after photos of 12 megapixels.
Image.core.set_block_size(1 << 26)  # type: ignore[attr-defined] # the same as PILLOW_BLOCK_SIZE, which it documents


@dataclass(frozen=True)
class ImageLimits:
    """Larger images are refused before a pixel is decoded: pixels, longer over shorter side, and file size in bytes."""

    max_pixels: int = 100_000_000
    max_aspect: float = 20.0
    max_bytes: int = 200_000_000

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or self.max_bytes < 1 or not self.max_aspect >= 1:
            raise ValueError("image.limits must be at least 1")


def decode(ref: ImageRef, limits: ImageLimits = ImageLimits()) -> Image.Image:
    """The first frame of an image, upright (EXIF), as RGB; transparency over white. It carries no metadata.

    Raises:
        RecordError: stage "image", one line naming the image by its key, and the fault.
    """
    with _decoded(ref, limits) as image:
        rgb = to_rgb(_upright(image))
        rgb.info.clear()  # a stale orientation would turn it again
        return rgb


def read_mask(ref: ImageRef, size: tuple[int, int], limits: ImageLimits = ImageLimits()) -> np.ndarray:
    """A mask image as bool (height, width): true where a channel is not zero and the pixel is not transparent.

    Raises:
        RecordError: stage "image", also if it is not of `size` (height, width).
    """
    with _decoded(ref, limits) as image:
        inside = _inside(_upright(image))
        if inside.shape != size:
            height, width = inside.shape
            raise RecordError("image", f"mask is {width}x{height}, its image {size[1]}x{size[0]}")
        return inside


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB; 16-bit grey is scaled to 8 bits, floating point is refused (its range is unknown)."""
    if image.mode == "F":
        raise RecordError("image", "floating-point pixels have no known range; save the image with 8 or 16 bits")
    if image.mode.startswith("I"):
        wide = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def _inside(image: Image.Image) -> np.ndarray:
    """Booleans (height, width); a palette counts by its colours, and grey of any depth by its own values."""
    if image.has_transparency_data:
        values = np.asarray(image.convert("RGBA"))
        return np.asarray(values[..., :3].any(-1) & (values[..., 3] > 0))
    if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        return np.asarray(np.asarray(image) != 0)
    return np.asarray(np.asarray(image.convert("RGB")).any(-1))


@contextmanager
def _decoded(ref: ImageRef, limits: ImageLimits) -> Iterator[Image.Image]:
    """The decoded first frame; whatever goes wrong up to the end of the block is a RecordError that names the image."""
    name = shown(ref.key)
    try:
        with ref.open() as file, Image.open(_checked(file, limits), formats=FORMATS) as image:
            _check_size(image.size, limits)
            image.load()
            yield image
    except RecordError as error:
        raise RecordError(error.stage, f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise RecordError("image", f"{name}: is no image of a format that mmel reads; replace the file") from error
    except Image.DecompressionBombError as error:
        raise RecordError("image", f"{name}: has far too many pixels ({_short(error)})") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise RecordError("image", f"{name}: cannot be decoded ({_short(error)}); replace the file") from error


def _checked(file: BinaryIO, limits: ImageLimits) -> BinaryIO:
    """The file at its start, unless it is empty or too large."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise RecordError("image", "is empty; replace the file")
    if size > limits.max_bytes:
        raise RecordError("image", f"is {size} bytes, over image.limits.max_bytes={limits.max_bytes}")
    file.seek(0)
    return file


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    """Before decoding a pixel."""
    width, height = size
    aspect = max(width, height) / max(1, min(width, height))
    if width * height > limits.max_pixels:
        over = f"max_pixels={limits.max_pixels}"
    elif aspect > limits.max_aspect:
        over = f"max_aspect={limits.max_aspect:g}"
    else:
        return
    raise RecordError("image", f"{width}x{height} pixels is over image.limits.{over}; resize or crop it")


def _upright(image: Image.Image) -> Image.Image:
    """Turn it as its EXIF says, if the EXIF can be read."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block says nothing of the pixels
        turn = None
    return image if turn is None else image.transpose(turn)


def _short(error: Exception) -> str:
    text = str(error).strip()
    return shown(text.splitlines()[0][:120]) if text else type(error).__name__
