"""Three ways to lay a patch grid over an image, and where that grid lies on the original.

`native` is the HuggingFace processor's own resize and centre crop, `squash` resizes to the model's input without
keeping the aspect, `letterbox` keeps the whole image and pads it with the processor's mean colour.
"""

import json
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmel_cli.errors import ModelError, UsageError
from mmel_cli.tensors import Pixels
from mmel_cli.types import Box

GEOMETRIES = ("native", "squash", "letterbox")
_SETTINGS = (
    "size",
    "crop_size",
    "do_resize",
    "do_center_crop",
    "resample",
    "image_mean",
    "image_std",
    "rescale_factor",
    "do_rescale",
    "do_normalize",
    "do_convert_rgb",
)


def seen_size(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """The part of an input of `size` (height, width) that whole patches fill, from its top left corner."""
    return size[0] // patch * patch, size[1] // patch * patch


def preprocess(
    image: Image.Image, processor: Any, size: tuple[int, int], geometry: str, seen: tuple[int, int] | None = None
) -> Pixels:
    """Preprocess one upright RGB image.

    The model never looks at pixels below and to the right of `seen`: they are left out, so that the patch grid fills
    what remains, and its box is where the grid lies.

    Args:
        image: the original.
        processor: a PIL image processor of transformers.
        size: height and width that the processor gives.
        seen: height and width of the model's input, at most `size` (seen_size); None: all of it.
        geometry: one of GEOMETRIES.
    """
    if geometry == "native":
        shape = resized((image.width, image.height), processor, size)
        crop = {"height": size[0], "width": size[1]}
        options = {} if shape is None else {"size": {"height": shape[0], "width": shape[1]}, "crop_size": crop}
        values = processor(image, return_tensors="np", **options)["pixel_values"][0]
        box = native_box(image.size, processor, size)
    elif geometry == "squash":
        whole = {"height": size[0], "width": size[1]}
        values = processor(image, size=whole, do_center_crop=False, return_tensors="np")["pixel_values"][0]
        box = (0.0, 0.0, float(image.width), float(image.height))
    elif geometry == "letterbox":
        padded, box = letterbox(image, size, processor)
        values = processor(padded, do_resize=False, do_center_crop=False, return_tensors="np")["pixel_values"][0]
    else:
        raise UsageError(f"image.geometry: {geometry!r} is not one of {', '.join(GEOMETRIES)}")
    if values.shape[1:] != size:
        raise ModelError(f"the image processor gives {values.shape[1:]} pixels, the model needs {size}")
    seen = seen or size
    values, (x0, y0, x1, y1) = values[:, : seen[0], : seen[1]], box
    box = (x0, y0, x0 + (x1 - x0) * seen[1] / size[1], y0 + (y1 - y0) * seen[0] / size[0])
    return Pixels(torch.from_numpy(np.ascontiguousarray(values)), box)


def describe(processor: Any) -> dict[str, Any]:
    """Class and settings of an image processor, as plain values: everything that decides pixels."""
    settings = json.loads(processor.to_json_string())
    return {"class": type(processor).__name__} | {name: settings.get(name) for name in _SETTINGS}


def native_box(image_size: tuple[int, int], processor: Any, size: tuple[int, int]) -> Box:
    """The part of an image (width, height) that the processor's resize and centre crop keep, in original pixels."""
    width, height = image_size
    if not processor.do_center_crop:
        return (0.0, 0.0, float(width), float(height))
    down, across = resized(image_size, processor, size) or _own_resize(width, height, processor)
    left, top = (_crop_start(margin, processor) for margin in (across - size[1], down - size[0]))
    sx, sy = width / across, height / down
    return (left * sx, top * sy, (left + size[1]) * sx, (top + size[0]) * sy)


def resized(image_size: tuple[int, int], processor: Any, size: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width to resize an image (width, height) to, None where the processor's own settings give `size`.

    A processor that crops resizes so that the image just covers `size`, one that does not resizes to it.
    """
    width, height = image_size
    own = processor.crop_size if processor.do_center_crop else processor.size
    if (own.get("height"), own.get("width")) == size:
        return None
    if not processor.do_center_crop:
        return size
    scale = max(size[0] / height, size[1] / width)
    return max(size[0], round(height * scale)), max(size[1], round(width * scale))


def letterbox(image: Image.Image, size: tuple[int, int], processor: Any) -> tuple[Image.Image, Box]:
    """Fit the whole image into `size` (height, width), centred on the mean colour; the box reaches into the padding."""
    scale = min(size[1] / image.width, size[0] / image.height)
    across, down = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    left, top = (size[1] - across) // 2, (size[0] - down) // 2
    mean = tuple(round(255 * value) for value in processor.image_mean)
    padded = Image.new("RGB", (size[1], size[0]), mean)
    padded.paste(image.resize((across, down), Image.Resampling(processor.resample)), (left, top))
    sx, sy = image.width / across, image.height / down
    return padded, (-left * sx, -top * sy, (size[1] - left) * sx, (size[0] - top) * sy)


def _crop_start(margin: int, processor: Any) -> int:
    """How many of `margin` pixels the processor's crop cuts off before it."""
    own = getattr(processor, "crop_start", None)
    return margin // 2 if own is None else int(own(margin))


def _own_resize(width: int, height: int, processor: Any) -> tuple[int, int]:
    """Height and width after the processor's own resize."""
    if not processor.do_resize:
        return height, width
    size = dict(processor.size)
    if size.get("shortest_edge"):
        edge = size["shortest_edge"]
        short, long = min(width, height), max(width, height)
        other = int(edge * long / short)  # the processor truncates
        return (other, edge) if width <= height else (edge, other)
    return size["height"], size["width"]
