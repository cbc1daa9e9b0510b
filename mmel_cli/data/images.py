"""Decode images from strangers: upright RGB, or a RecordError of one line."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmel_cli.errors import RecordError

# No EPS (it runs Ghostscript), no PDF, no formats that only files from another age use.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
_WHITE = (255, 255, 255, 255)


@dataclass(frozen=True)
class ImageLimits:
    """Larger images are refused before a pixel is decoded: pixels, longer over shorter side, and file size in bytes."""

    max_pixels: int = 100_000_000
    max_aspect: float = 20.0
    max_bytes: int = 200_000_000


def decode(path: Path, limits: ImageLimits = ImageLimits()) -> Image.Image:
    """The first frame of an image file, upright (EXIF), as RGB; transparency over white.

    Raises:
        RecordError: stage "image", naming the file and the fault.
    """
    with _open(path, limits) as image:
        try:
            return to_rgb(_upright(image))
        except RecordError:
            raise
        except Exception as error:  # decoders raise many kinds on damaged files
            raise RecordError("image", f"{path}: cannot be decoded ({_short(error)}); replace the file") from error


def read_mask(path: Path, size: tuple[int, int], limits: ImageLimits = ImageLimits()) -> np.ndarray:
    """A mask image as bool (height, width), true where any channel is not zero.

    Raises:
        RecordError: stage "image", also if it is not of `size` (height, width).
    """
    values = np.asarray(decode(path, limits)).any(-1)
    if values.shape != size:
        raise RecordError(
            "image", f"{path}: mask is {values.shape[1]}x{values.shape[0]}, its image {size[1]}x{size[0]}"
        )
    return values


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB; 16-bit grey is scaled to 8 bits, floating point is refused (its range is unknown)."""
    if image.mode == "F":
        raise RecordError("image", "floating-point pixels have no known range; save the image with 8 or 16 bits")
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")
    return image.convert("RGB")


def _open(path: Path, limits: ImageLimits) -> Image.Image:
    """Open and check the header."""
    try:
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise RecordError("image", f"{path}: is {size} bytes, over image.limits.max_bytes={limits.max_bytes}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limits below say it
            image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError as error:
        kind = "is empty" if not path.stat().st_size else "is no image of a format that mmel reads"
        raise RecordError("image", f"{path}: {kind}; replace the file") from error
    except Image.DecompressionBombError as error:
        raise RecordError("image", f"{path}: has far too many pixels ({_short(error)})") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise RecordError("image", f"{path}: cannot be read ({_short(error)}); replace the file") from error
    width, height = image.size
    aspect = max(width, height) / max(1, min(width, height))
    if width * height > limits.max_pixels or aspect > limits.max_aspect:
        image.close()
        what = (
            f"max_pixels={limits.max_pixels}"
            if width * height > limits.max_pixels
            else f"max_aspect={limits.max_aspect:g}"
        )
        raise RecordError("image", f"{path}: {width}x{height} pixels is over image.limits.{what}; resize or crop it")
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Decode the first frame; turn it as its EXIF says, if the EXIF can be read."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing of the pixels
        return image


def _short(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__
