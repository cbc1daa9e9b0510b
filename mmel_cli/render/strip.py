"""The strip below a picture: the caption's words on the colour of their evidence, the score, and the colour scale."""

from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmel_cli.render import colours
from mmel_cli.types import Explanation

_FONT = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_PAD, _LINE, _BAR = 10, 26, (120, 10)
_FOR, _AGAINST, _INK, _FAINT = np.array([255, 170, 40]), np.array([120, 170, 255]), (20, 20, 20), (90, 90, 90)
_MAX_LINES = 6


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONT), size)


def caption_strip(explanation: Explanation, width: int, colormap: str) -> Image.Image:
    """Orange behind a token: evidence for the match; blue: against it."""
    rows = _wrap(pieces(explanation), width - 2 * _PAD)
    strip = Image.new("RGB", (width, 2 * _PAD + _LINE * len(rows) + 30), "white")
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        x = float(_PAD)
        for text, value in row:
            x = _piece(draw, (x, _PAD + number * _LINE), text, value)
    y = strip.height - 28
    draw.text((_PAD, y), f"cosine {explanation.score:+.3f}", _FAINT, _font(13))
    _scale(strip, draw, y, colormap)
    return strip


def pieces(explanation: Explanation) -> list[tuple[str, float]]:
    """(text, -1..1) of each token, in relation to the strongest; one that whitespace follows ends in a space.

    Tokens that share a character (a part of its bytes each) are one piece with the sum of their evidence.
    """
    if not explanation.words:  # an archive of version 1 holds tokens as the tokenizer writes them
        return words(explanation.tokens, explanation.token_map)
    caption, at = explanation.caption, 0
    texts: list[str] = []
    values: list[float] = []
    for token, value in zip(explanation.tokens, _finite(explanation.token_map), strict=True):
        place = caption.find(token, at)
        between = caption[at:place]
        if place >= 0 and not any(letter.isalnum() for letter in between):
            at = place + len(token)
            texts[-1:] = [text + " " * any(letter.isspace() for letter in between) for text in texts[-1:]]
        elif texts and texts[-1] == token:
            values[-1] += value
            continue
        texts.append(token)
        values.append(value)
    top = max(map(abs, values), default=0.0) or 1.0
    return [(_printable(text), value / top) for text, value in zip(texts, values, strict=True)]


def words(tokens: tuple[str, ...], values: np.ndarray) -> list[tuple[str, float]]:
    """The same of byte-level tokens, where those that end a word end in "</w>"."""
    finite = _finite(values)
    top = max(map(abs, finite), default=0.0) or 1.0
    texts = [token.removesuffix("</w>") + (" " if token.endswith("</w>") else "") for token in tokens]
    return [(_decode(text), value / top) for text, value in zip(texts, finite, strict=True)]


def _finite(values: np.ndarray) -> list[float]:
    return [float(value) for value in np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


@lru_cache(maxsize=1)
def _bytes() -> dict[str, int]:
    """The letters that byte-level BPE writes for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def _decode(text: str) -> str:
    """A token's bytes as text; half a character and control characters become a replacement mark."""
    table = _bytes()
    raw = bytes(table.get(letter, 63) if letter != " " else 32 for letter in text)
    return _printable(raw.decode("utf-8", "replace"))


def _wrap(pieces: list[tuple[str, float]], width: float) -> list[list[tuple[str, float]]]:
    """Lines of pieces, broken between words; the end of a very long caption is cut."""
    rows: list[list[tuple[str, float]]] = [[]]
    used = 0.0
    for number, (text, value) in enumerate(pieces):
        length = _font(16).getlength(text)
        begins = number == 0 or pieces[number - 1][0].endswith(" ")
        if rows[-1] and used + length > width and begins:
            if len(rows) == _MAX_LINES:
                rows[-1].append(("…", 0.0))
                break
            rows.append([])
            used = 0.0
        rows[-1].append((text, value))
        used += length
    return rows


def _piece(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, value: float) -> float:
    """Draw one token on its colour; where the next begins."""
    x, y = at
    ink = _font(16).getlength(text.rstrip(" "))
    tint = 255 + ((_FOR if value > 0 else _AGAINST) - 255) * min(abs(value), 1)
    draw.rectangle((x, y, x + ink, y + 21), fill=tuple(int(n) for n in tint))
    draw.text((x, y + 1), text, _INK, _font(16))
    return x + _font(16).getlength(text)


def _scale(strip: Image.Image, draw: ImageDraw.ImageDraw, y: int, colormap: str) -> None:
    """A labelled colour bar at the right."""
    width, height = _BAR
    ramp = np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1))
    right = strip.width - _PAD
    font = _font(13)
    label, left = "high evidence", right - int(font.getlength("high evidence"))
    draw.text((left, y), label, _FAINT, font)
    bar = left - 6 - width
    strip.paste(Image.fromarray(colours.apply(ramp, colormap).astype(np.uint8)), (bar, y + 4))
    draw.text((bar - 6 - font.getlength("low"), y), "low", _FAINT, font)
