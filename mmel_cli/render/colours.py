"""Colormap tables and the normalisation of maps for the eye."""

import difflib
from functools import lru_cache

import matplotlib as mpl
import numpy as np
from PIL import Image

_PLAIN = ((0, 190, 255), (255, 0, 200), (0, 200, 80), (255, 255, 255))  # cyan, magenta, green, white


@lru_cache(maxsize=8)
def table(name: str) -> np.ndarray:
    """A matplotlib colormap as (256, 3) float32 in 0..255.

    Raises:
        ValueError: with the nearest names, if there is no such colormap.
    """
    try:
        colormap = mpl.colormaps[name]
    except KeyError as error:
        near = ", ".join(difflib.get_close_matches(name, list(mpl.colormaps), 3)) or "inferno, viridis, jet"
        raise ValueError(f"no matplotlib colormap {name!r}; for example {near}") from error
    return (colormap(np.linspace(0, 1, 256))[:, :3] * 255).astype(np.float32)


def strongest(values: np.ndarray, percentile: float) -> float:
    """What counts as the strongest evidence for the caption: that percentile of a map whose negative values are 0.

    Its maximum where that is 0; 0 without a positive finite value.
    """
    positive = _positive(values)
    return float(np.percentile(positive, percentile)) or float(positive.max())


def normalise(values: np.ndarray, percentile: float) -> np.ndarray:
    """Evidence for the caption as 0..1, float32, for pictures only (the archive keeps sign and size).

    Negative values become 0; the rest is divided by its own `percentile` and clipped, so that one extreme patch does
    not darken all others. A map without a positive finite value is all 0.
    """
    positive, top = _positive(values), strongest(values, percentile)
    return (positive / top).clip(0, 1) if top > 0 else np.zeros_like(positive)


def apply(values: np.ndarray, name: str) -> np.ndarray:
    """Colours (..., 3) float32 in 0..255 of values in 0..1."""
    return table(name)[(values * 255 + 0.5).astype(np.uint8)]


def picture_of(values: np.ndarray, name: str) -> Image.Image:
    """The RGB picture of values (height, width) in 0..1, the colours as in `apply`, rounded."""
    return painted((values * 255 + 0.5).astype(np.uint8), table(name))


def painted(numbers: np.ndarray, tints: np.ndarray) -> Image.Image:
    """The RGB picture of numbers uint8 (height, width) of colours (at most 256, 3) in 0..255."""
    picture = Image.fromarray(numbers)
    picture.putpalette(tints.round().astype(np.uint8).tobytes())
    return picture.convert("RGB")


def unlike(name: str) -> np.ndarray:
    """Of a few plain colours the one that is farthest from all of a colormap's, (3,) float32 in 0..255."""
    plain = np.array(_PLAIN, np.float32)
    bright = table(name)[64:]  # what is below is laid on too thin to be mistaken
    distances = np.linalg.norm(plain[:, None] - bright, axis=-1).min(axis=1)
    chosen: np.ndarray = plain[distances.argmax()]
    return chosen


def _positive(values: np.ndarray) -> np.ndarray:
    positive: np.ndarray = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)
    return positive
