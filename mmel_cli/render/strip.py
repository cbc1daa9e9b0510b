"""The strip below a picture: the caption's words on the colour of their values, the score, and the scales of colour."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from mmel_cli.render import colours
from mmel_cli.render.text import (
    FAINT,
    INK,
    PAD,
    SMALL,
    SMALL_LINE,
    Atom,
    Legend,
    draw_legend,
    draw_rows,
    fitting,
    font,
    legend_length,
    words_of,
    wrap,
)
from mmel_cli.render.words import Piece, colour, pieces, printable, scale_of
from mmel_cli.types import Explanation

_LINE = 26
_MAX_LINES = 6


def caption_strip(explanation: Explanation, width: int, colormap: str) -> Image.Image:
    """Orange behind a word: without it the cosine falls; blue: it rises. Without word values there is no colour.

    Where a difference is explained, what the caption is against stands below it.
    """
    values, room = explanation.word_values, width - 2 * PAD
    scale = scale_of(values)
    rows = wrap(_atoms(pieces(explanation.caption, explanation.words, values), room, scale), room, _MAX_LINES)
    legends = _word_legend(scale, room) if scale is not None else []
    others = wrap(_rather_than(explanation, room), room, _MAX_LINES) if explanation.against is not None else []
    below = PAD + _LINE * (len(rows) + len(others)) + 4
    strip = Image.new("RGB", (width, below + SMALL_LINE * (len(legends) + 1) + PAD), "white")
    draw_rows(strip, (PAD, PAD), rows, _LINE)
    draw_rows(strip, (PAD, PAD + _LINE * len(rows)), others, _LINE)
    for legend in legends:
        draw_legend(strip, (PAD, below), legend)
        below += SMALL_LINE
    ImageDraw.Draw(strip).text((PAD, below), f"cosine {explanation.score:+.3f}", FAINT, font(SMALL))
    heat: Legend = ["low", colours.table(colormap), "high evidence"]
    draw_legend(strip, (width - PAD - legend_length(heat), below), heat)
    return strip


def _rather_than(explanation: Explanation, width: float) -> list[Atom]:
    """What the caption is explained against, its cosine first: a long text is cut at its end."""
    text = printable(f"rather than (cosine {explanation.against_score:+.3f}): {explanation.against}")
    return [piece for word in words_of(text) for piece in fitting(Atom(word, ink=FAINT), width)]


def _word_legend(scale: float, width: float) -> list[Legend]:
    """What the colour of a word means, with its scale, in one line where there is room, else in two."""
    says = "Without the word the cosine"
    bar: Legend = [f"rises by {scale:.3f}", _ramp(), f"falls by {scale:.3f}"]
    return [[says, *bar]] if legend_length([says, *bar]) <= width else [[says], bar]


@cache
def _ramp() -> np.ndarray:
    """The colours of words from rising to falling, (256, 3) float32: the same below every picture."""
    return np.array([colour(tint) for tint in np.linspace(-1, 1, 256)], np.float32)


def _atoms(parts: list[Piece], width: float, scale: float | None) -> list[Atom]:
    """Words with a value whole, the rest word by word; what is longer than a line in parts."""
    atoms: list[Atom] = []
    ink = INK if scale is None else FAINT  # faint: the model did not read it
    for part in parts:
        if part.value is not None:
            atoms += fitting(Atom(" ".join(part.text.split()), back=colour(part.tint)), width)
        else:
            atoms += [piece for text in words_of(part.text) for piece in fitting(Atom(text, ink=ink), width)]
    return atoms
