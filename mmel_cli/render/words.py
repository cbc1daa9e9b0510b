"""A caption in pieces: its words with what the score loses without them, and the colours that say so."""

from dataclasses import dataclass

import numpy as np

from mmel_cli.types import Word

FALLS, RISES = (255, 170, 40), (120, 170, 255)
"""Colours of a word without which the cosine falls (orange), and of one without which it rises (blue)."""

LEAST_SCALE = 0.01  # cosine at the ends of a caption's scale, at least: what is next to nothing is not painted strong

_INVISIBLE = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"


@dataclass(frozen=True)
class Piece:
    """A part of a caption as it stands, never empty."""

    text: str
    value: float | None = None  # of a word: the score minus the score without it
    tint: float = 0.0  # the same from -1 to 1, where 1 is the end of the caption's scale


def scale_of(values: np.ndarray | None) -> float | None:
    """The cosine at both ends of a caption's colour scale, None where there is nothing to paint."""
    finite = [] if values is None else [abs(float(value)) for value in values if np.isfinite(value)]
    return max([LEAST_SCALE, *finite]) if finite else None


def pieces(caption: str, words: tuple[Word, ...], values: np.ndarray | None) -> list[Piece]:
    """The whole caption, cut at its words; what lies between them, and a word without a value, has no colour.

    Joined again, the texts are the caption with what cannot be printed replaced.
    """
    scale, at = scale_of(values), 0
    parts: list[Piece] = []
    for word, value in zip(words, [] if values is None else values, strict=values is not None):
        known = scale is not None and np.isfinite(value)
        between, own = printable(caption[at : word.start]), printable(caption[word.start : word.end])
        parts += [Piece(between)] if between else []
        parts += [Piece(own, float(value), float(value) / scale) if known and scale else Piece(own)]
        at = word.end
    rest = printable(caption[at:])
    return [*parts, Piece(rest)] if rest else parts


def colour(tint: float) -> tuple[int, int, int]:
    """White at 0, the full colour at -1 and 1."""
    full = np.array(FALLS if tint > 0 else RISES)
    red, green, blue = (int(n) for n in (255 + (full - 255) * min(abs(tint), 1)).round())
    return red, green, blue


def printable(text: str) -> str:
    """Whitespace and joiners as they are; controls and the like as a mark."""
    return "".join(
        c if c.isprintable() or c.isspace() or c in _INVISIBLE else "\N{REPLACEMENT CHARACTER}" for c in text
    )
