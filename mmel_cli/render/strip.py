"""The strip below a picture: the caption's words on the colour of their values, the score, and the scales of colour."""

from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmel_cli.render import colours
from mmel_cli.render.words import Piece, colour, pieces, scale_of
from mmel_cli.types import Explanation

_FONT = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_PAD, _LINE, _SMALL_LINE = 10, 26, 20
_SIZE, _SMALL = 16, 12
_BAR = (100, 10)
_INK, _FAINT = (20, 20, 20), (90, 90, 90)
_MAX_LINES = 6

Legend = list[str | np.ndarray]
"""Texts and the tables of colour bars, from left to right."""

Row = list[tuple[str, float | None]]
"""Texts from left to right; a tint from -1 to 1 stands behind those that have one."""


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONT), size)


def caption_strip(explanation: Explanation, width: int, colormap: str) -> Image.Image:
    """Orange behind a word: without it the cosine falls; blue: it rises. Without word values there is no colour.

    Where a difference is explained, what the caption is against stands below it.
    """
    values = explanation.word_values
    parts = pieces(explanation.caption, explanation.words, values)
    rows, scale = _wrap(parts, width - 2 * _PAD), scale_of(values)
    legends = _word_legend(scale, width - 2 * _PAD) if scale is not None else []
    others = (
        _wrap(pieces(_rather_than(explanation), (), None), width - 2 * _PAD) if explanation.against is not None else []
    )
    below = _PAD + _LINE * (len(rows) + len(others)) + 4
    strip = Image.new("RGB", (width, below + _SMALL_LINE * (len(legends) + 1) + _PAD), "white")
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        x = float(_PAD)
        for text, tint in row:
            ink = _INK if scale is None or tint is not None else _FAINT  # faint: the model did not read it
            x = _piece(draw, (x, _PAD + number * _LINE), (text, ink), tint)
    for number, row in enumerate(others, len(rows)):
        _piece(draw, (_PAD, _PAD + number * _LINE), ("".join(text for text, _ in row), _FAINT), None)
    for legend in legends:
        _legend(strip, (_PAD, below), legend)
        below += _SMALL_LINE
    draw.text((_PAD, below), f"cosine {explanation.score:+.3f}", _FAINT, _font(_SMALL))
    heat: Legend = ["low", colours.table(colormap), "high evidence"]
    _legend(strip, (width - _PAD - _length(heat), below), heat)
    return strip


def _rather_than(explanation: Explanation) -> str:
    """What the caption is explained against, its cosine first: a long text is cut at its end."""
    return f"rather than (cosine {explanation.against_score:+.3f}): {explanation.against}"


def _word_legend(scale: float, width: float) -> list[Legend]:
    """What the colour of a word means, with its scale, in one line where there is room, else in two."""
    ramp = np.array([colour(tint) for tint in np.linspace(-1, 1, 256)], np.float32)
    says = "Without the word the cosine"
    bar: Legend = [f"rises by {scale:.3f}", ramp, f"falls by {scale:.3f}"]
    return [[says, *bar]] if _length([says, *bar]) <= width else [[says], bar]


def _length(legend: Legend) -> int:
    lengths = [_font(_SMALL).getlength(part) if isinstance(part, str) else _BAR[0] for part in legend]
    return int(sum(lengths)) + 6 * (len(legend) - 1)


def _legend(strip: Image.Image, at: tuple[int, int], legend: Legend) -> None:
    """Draw it."""
    draw, font = ImageDraw.Draw(strip), _font(_SMALL)
    x, y = at
    for part in legend:
        if isinstance(part, str):
            draw.text((x, y), part, _FAINT, font)
            x += int(font.getlength(part)) + 6
            continue
        width, height = _BAR
        ramp = part[np.linspace(0, len(part) - 1, width).round().astype(int)].astype(np.uint8)
        strip.paste(Image.fromarray(np.tile(ramp, (height, 1, 1))), (x, y + 3))
        draw.rectangle((x, y + 3, x + width - 1, y + 2 + height), outline=(170, 170, 170))
        x += width + 6


def _wrap(parts: list[Piece], width: float) -> list[Row]:
    """Lines, broken between words; longer words are broken, and the end of a very long caption is cut."""
    rows: list[Row] = [[]]
    used = 0.0
    for text, tint in _atoms(parts, width):
        length = _font(_SIZE).getlength(text)
        if used and used + length > width:
            if len(rows) == _MAX_LINES:
                rows[-1].append(("…", None))
                break
            rows.append([])
            used = 0.0
            if not text.strip():
                continue
        rows[-1].append((text, tint))
        used += length
    return rows


def _atoms(parts: list[Piece], width: float) -> Row:
    """What no line break may fall into: words, spaces, and what fits a line of longer ones."""
    atoms: Row = []
    for part in parts:
        if part.value is not None:
            atoms += [(text, part.tint) for text in _fitting(" ".join(part.text.split()), width)]
            continue
        for number, text in enumerate(part.text.replace("\n", " ").replace("\t", " ").split(" ")):
            atoms += [(" ", None)] * (number > 0) + [(piece, None) for piece in _fitting(text, width) if piece]
    return atoms


def _fitting(text: str, width: float) -> list[str]:
    """A text in parts that fit a line."""
    count = 1
    while _font(_SIZE).getlength(text) / count > width * 0.9:
        count += 1
    size = -(-len(text) // count) or 1
    return [text[start : start + size] for start in range(0, len(text), size)]


def _piece(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], inked: tuple[str, tuple[int, int, int]], tint: float | None
) -> float:
    """Draw one text on its colour; where the next begins."""
    (x, y), (text, ink) = at, inked
    end = x + _font(_SIZE).getlength(text)
    if tint is not None:
        draw.rectangle((x, y, end - 1, y + 21), fill=colour(tint))
    draw.text((x, y + 1), text, ink, _font(_SIZE))
    return end
