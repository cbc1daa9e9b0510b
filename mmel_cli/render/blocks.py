"""A map as text: half blocks in colour, or shades where there is no colour."""

from dataclasses import dataclass

import numpy as np

from mmel_cli.render import colours
from mmel_cli.render.text import Colour
from mmel_cli.render.words import FALLS, RISES
from mmel_cli.types import Box, Map

UPPER_HALF = "\N{UPPER HALF BLOCK}"
SHADES = (" ", "\N{LIGHT SHADE}", "\N{MEDIUM SHADE}", "\N{DARK SHADE}", "\N{FULL BLOCK}")
PLAIN_SHADES = (" ", ".", ":", "+", "#")  # where the terminal has no blocks
AGAINST_SHADES = (" ", "-", "-", "=", "=")  # evidence against the caption
_WIDEST = 48  # characters: of a map of many cells, fewer are shown
_TALLEST = 24  # lines


@dataclass(frozen=True)
class Cell:
    """One character and the colours of its upper and lower half; none where shades are used."""

    text: str
    upper: Colour | None = None
    lower: Colour | None = None


def coloured(values: Map, box: Box, width: int, *, signed: bool, colormap: str, percentile: float) -> list[list[Cell]]:
    """Lines of half blocks, two rows of squares a line, which fit `width` characters.

    Args:
        values: (h, w), laid over `box`.
        box: on the original; its shape is that of what is shown.
        width: characters of a line, at most.
        signed: also show evidence against the caption, in blue; for it is orange then, and the colormap is not used.
        colormap: a matplotlib name.
        percentile: of the map that counts as strongest, as in pictures.
    """
    squares = _resampled(scaled(values, percentile, signed=signed), box, width)
    if signed:
        full = np.where(squares[..., None] >= 0, np.array(FALLS), np.array(RISES))
        levels = np.abs(squares)[..., None] * full
    else:
        levels = colours.apply(squares, colormap)
    pixels = levels.round().astype(int)
    return [
        [
            Cell(UPPER_HALF, _rgb(pixels[row, column]), _rgb(pixels[row + 1, column]))
            for column in range(pixels.shape[1])
        ]
        for row in range(0, len(pixels), 2)
    ]


def shaded(values: Map, box: Box, width: int, *, signed: bool, percentile: float, plain: bool) -> list[list[Cell]]:
    """The same without colour: in a frame; a character is two squares, by their mean; `plain`: of ASCII alone."""
    squares = _resampled(scaled(values, percentile, signed=signed), box, max(1, width - 2))
    means = squares.reshape(len(squares) // 2, 2, -1).mean(1)
    steps = (np.abs(means) * (len(SHADES) - 1)).round().astype(int)
    own = PLAIN_SHADES if plain else SHADES
    lines = [
        "".join((own if mean >= 0 else AGAINST_SHADES)[step] for mean, step in zip(*row, strict=True))
        for row in zip(means, steps, strict=True)
    ]
    edge = f"+{'-' * means.shape[1]}+"
    return [[Cell(character) for character in line] for line in (edge, *(f"|{line}|" for line in lines), edge)]


def scaled(values: Map, percentile: float, *, signed: bool) -> Map:
    """Evidence divided by what counts as strongest: 0..1, or with `signed` -1..1 where |evidence| is what counts."""
    if not signed:
        return colours.normalise(values, percentile)
    known = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = colours.strongest(np.abs(known), percentile)
    return (known / top).clip(-1, 1) if top > 0 else np.zeros_like(known)


def _resampled(values: Map, box: Box, width: int) -> Map:
    """Squares of equal size over the box, an even number of rows: each the cell at its centre."""
    aspect = (box[3] - box[1]) / max(box[2] - box[0], 1e-9)
    columns = max(1, min(width, _WIDEST, int(2 * _TALLEST / max(aspect, 1e-9))))
    rows = max(2, min(2 * _TALLEST, round(columns * aspect)))
    rows += rows % 2
    down = ((np.arange(rows) + 0.5) * values.shape[0] / rows).astype(int)
    across = ((np.arange(columns) + 0.5) * values.shape[1] / columns).astype(int)
    squares: Map = values[np.ix_(down, across)]
    return squares


def _rgb(levels: np.ndarray) -> Colour:
    red, green, blue = (int(level) for level in levels)
    return red, green, blue
