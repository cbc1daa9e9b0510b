"""Lines of text in pictures: what they are made of, where they break, the order in which they are read."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PAD = 10
SIZE, SMALL = 16, 12
SMALL_LINE = 20
INK, FAINT = (20, 20, 20), (90, 90, 90)
_FONT = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_BAR = (100, 10)
_MARK = 18  # width and height of a mark
_SPACE = 5  # between a text and its mark, or what is small behind it

Legend = list[str | np.ndarray]
"""Texts and the tables of colour bars, from left to right."""


@lru_cache(maxsize=4)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The one font of all pictures."""
    return ImageFont.truetype(str(_FONT), size)


@lru_cache(maxsize=16384)
def text_length(text: str, size: int) -> float:
    """Pixels of a text in a size of the font: legends and common words come again in every picture."""
    return font(size).getlength(text)


@dataclass(frozen=True)
class Atom:
    """What no line break may fall into: a text, and what it stands on."""

    text: str
    size: int = SIZE
    ink: Colour = INK
    back: Colour | None = None  # colour behind it
    line: Colour | None = None  # colour of a thick line below it
    mark: str = ""  # what its mark says, before it, on the colour of its line
    small: str = ""  # in small letters behind it

    @cached_property
    def length(self) -> float:
        """Pixels."""
        return self.before + text_length(self.text, self.size) + self.behind

    @property
    def before(self) -> int:
        """Pixels that its mark takes."""
        return mark_width(self.mark) + _SPACE if self.mark else 0

    @property
    def behind(self) -> float:
        """Pixels that the small letters take."""
        return text_length(self.small, SMALL) + _SPACE if self.small else 0.0

    @property
    def leftwards(self) -> bool | None:
        """Whether it is read from right to left; None for spaces, marks of punctuation and the like."""
        kinds = {unicodedata.bidirectional(sign) for sign in self.text}
        return True if kinds & {"R", "AL"} else False if kinds & {"L", "EN", "AN"} else None


def words_of(text: str) -> list[str]:
    """A text's words and single spaces, in order."""
    parts: list[str] = []
    for number, word in enumerate(text.replace("\n", " ").replace("\t", " ").split(" ")):
        parts += [" "] * (number > 0) + [word] * bool(word)
    return parts


def fitting(atom: Atom, width: float) -> list[Atom]:
    """An atom in parts that fit a line; the mark goes with the first, what is small with the last."""
    count, text = 1, atom.text
    while text_length(text, atom.size) / count > width * 0.9:
        count += 1
    size = -(-len(text) // count) or 1
    texts = [text[start : start + size] for start in range(0, len(text), size)]
    parts = [replace(atom, text=part, mark="", small="") for part in texts]
    if parts:
        parts[0] = replace(parts[0], mark=atom.mark)
        parts[-1] = replace(parts[-1], small=atom.small)
    return parts


def wrap(atoms: Sequence[Atom], width: float, most: int) -> list[list[Atom]]:
    """Lines of at most `width` pixels; the end of what takes more than `most` lines is cut."""
    rows: list[list[Atom]] = [[]]
    used = 0.0
    for atom in atoms:
        if used and used + atom.length > width:
            if len(rows) == most:
                rows[-1].append(Atom("…", atom.size, FAINT))
                break
            rows.append([])
            used = 0.0
            if not atom.text.strip():
                continue
        rows[-1].append(atom)
        used += atom.length
    return rows


def sentences(text: str, width: float) -> list[list[Atom]]:
    """A text in small faint lines."""
    return wrap([Atom(part, SMALL, FAINT) for part in words_of(text)], width, 100)


def draw_rows(strip: Image.Image, at: tuple[int, int], rows: list[list[Atom]], step: int) -> int:
    """Draw lines `step` pixels apart, each from left to right or from right to left as its text begins; where y ends.

    What is read the other way inside a line is put in its own order, word by word.
    """
    draw = ImageDraw.Draw(strip)
    x0, y = at
    leftwards = next((way for row in rows for atom in row if (way := atom.leftwards) is not None), False)
    for row in rows:
        x = strip.width - x0 - sum(atom.length for atom in row) if leftwards else float(x0)
        for atom in in_order(row, leftwards):
            _draw(draw, (x, y), atom)
            x += atom.length
        y += step
    return y


def in_order(row: Sequence[Atom], leftwards: bool) -> list[Atom]:
    """A line's atoms as they stand from left to right; `leftwards`: its text is read from right to left."""
    ways = [leftwards if atom.leftwards is None else atom.leftwards for atom in row]
    for n, atom in enumerate(row):  # a space between two words of one way goes with them
        if atom.leftwards is None and 0 < n < len(row) - 1 and ways[n - 1] == row[n + 1].leftwards:
            ways[n] = ways[n - 1]
    runs: list[tuple[bool, list[Atom]]] = []
    for way, atom in zip(ways, row, strict=True):
        if not runs or runs[-1][0] != way:
            runs.append((way, []))
        runs[-1][1].append(atom)
    placed = [run[::-1] if way else run for way, run in (runs[::-1] if leftwards else runs)]
    return [atom for run in placed for atom in run]


def _draw(draw: ImageDraw.ImageDraw, at: tuple[float, float], atom: Atom) -> None:
    x, y = at
    end = x + atom.length
    if atom.back is not None:
        draw.rectangle((x, y, end - 1, y + 21), fill=atom.back)
    if atom.line is not None:
        draw.rectangle((x, y + 22, end - 1, y + 25), fill=atom.line)
    if atom.leftwards:
        mark, text, small = end - mark_width(atom.mark), x + atom.behind, x
    else:
        mark, text, small = x, x + atom.before, end - atom.behind + _SPACE
    if atom.mark:
        draw_mark(draw, (mark, y + 1), atom.mark, atom.line or FAINT)
    draw.text((text, y + 1), atom.text, atom.ink, font(atom.size))
    if atom.small:
        draw.text((small, y + 5 if atom.text else y + 1), atom.small, FAINT, font(SMALL))


def mark_width(mark: str) -> int:
    """Pixels of a mark."""
    return max(_MARK, int(text_length(mark, SMALL)) + 8) if mark else 0


def draw_mark(draw: ImageDraw.ImageDraw, at: tuple[float, float], mark: str, colour: Colour) -> None:
    """A number on its colour, `at` its upper left corner, with a thin edge of the number's own black or white."""
    x, y = round(at[0]), round(at[1])
    bright = float(np.dot(colour, (0.3, 0.59, 0.11)))
    ink: Colour = (0, 0, 0) if bright > 140 else (255, 255, 255)
    box = (x, y, x + mark_width(mark) - 1, y + _MARK - 1)
    draw.rounded_rectangle(box, radius=_MARK // 2 - 1, fill=colour, outline=ink)
    draw.text(((box[0] + box[2]) / 2 + 0.5, (box[1] + box[3]) / 2), mark, ink, font(SMALL), anchor="mm")


def legend_length(legend: Legend) -> int:
    """Pixels."""
    lengths = [text_length(part, SMALL) if isinstance(part, str) else _BAR[0] for part in legend]
    return int(sum(lengths)) + 6 * (len(legend) - 1)


def draw_legend(strip: Image.Image, at: tuple[int, int], legend: Legend) -> None:
    """Draw it."""
    draw = ImageDraw.Draw(strip)
    x, y = at
    for part in legend:
        if isinstance(part, str):
            draw.text((x, y), part, FAINT, font(SMALL))
            x += int(text_length(part, SMALL)) + 6
            continue
        width, height = _BAR
        ramp = part[np.linspace(0, len(part) - 1, width).round().astype(int)].astype(np.uint8)
        strip.paste(Image.fromarray(np.tile(ramp, (height, 1, 1))), (x, y + 3))
        draw.rectangle((x, y + 3, x + width - 1, y + 2 + height), outline=(170, 170, 170))
        x += width + 6
