"""What a caption is shown by in the pictures of words x regions: its phrases, or its words where it has no phrase."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmel_cli.fields import PHRASE_MAP, PHRASE_SHARE, PHRASE_SPAN, WORD_ERROR, WORD_MAP, WORD_SHARE
from mmel_cli.render.text import Colour
from mmel_cli.render.words import printable
from mmel_cli.types import Explanation, Word

PALETTE: tuple[Colour, ...] = (
    (238, 51, 119),  # magenta
    (0, 153, 136),  # teal
    (240, 228, 66),  # yellow
    (51, 34, 136),  # indigo
    (102, 204, 238),  # cyan
    (170, 68, 153),  # purple
    (17, 119, 51),  # green
    (153, 153, 51),  # olive
)
"""Of the first parts of a caption: any two can be told apart with each of the three kinds of colour blindness."""

SHARES = {
    "mean": "the mean of what the phrase alone adds to the cosine of no text, and of what the cosine loses without it",
    "alone": "what the phrase alone adds to the cosine of no text",
    "left-out": "what the cosine loses without the phrase",
    "words": "the sum of the shares of its words, which for all words is the cosine minus that of no words",
}
"""What a phrase's share is, by the run's `words.phrase`."""

FAINTEST = 0.05
"""Of the strongest part of a caption, the least that is painted."""

GREY: Colour = (150, 150, 150)


@dataclass(frozen=True)
class Part:
    """A phrase or word of a caption: where it stands in it (characters), and its share of the cosine."""

    number: int  # from 1, in the caption's order
    start: int
    end: int  # exclusive
    text: str
    share: float

    @property
    def coloured(self) -> bool:
        """Whether there is a colour left for it."""
        return self.number <= len(PALETTE)

    @property
    def colour(self) -> Colour:
        """Its own, or grey."""
        return PALETTE[self.number - 1] if self.coloured else GREY


@dataclass(frozen=True)
class Parts:
    """The parts of one caption, in its order.

    `phrase`: what stands for a phrase, a key of SHARES; `whole`: the one phrase is all that the model reads; `error`:
    the greatest standard error of the shares.
    """

    kind: Literal["phrase", "word"]
    each: tuple[Part, ...]
    phrase: str = "mean"
    whole: bool = False
    error: float = 0.0

    @property
    def says(self) -> str:
        """What a share is, literally."""
        if self.kind == "word":
            sampled = f" They are estimated, with standard errors of up to {self.error:.3f}." if self.error else ""
            return f"its share of the cosine; shares of all words sum to the cosine minus that of no words.{sampled}"
        if self.whole and self.phrase != "words":
            return (
                "its share of the cosine: this phrase is all that the model reads, so the cosine minus that of no text."
            )
        return f"its share of the cosine: {SHARES[self.phrase]}."


def parts_of(
    caption: str, words: tuple[Word, ...], fields: Mapping[str, np.ndarray], phrase: str = "mean"
) -> Parts | None:
    """The parts of a caption, None for a run without words x regions.

    Args:
        caption: as it stands.
        words: that the model reads.
        fields: of Explanation; more rows than there are words or phrases may stand in them.
        phrase: the run's `words.phrase`, a key of SHARES.
    """
    if WORD_SHARE.name not in fields:
        return None
    spans = [(int(start), int(end)) for start, end in fields.get(PHRASE_SPAN.name, ()) if start >= 0]
    if spans:
        within = [[word.start < end and start < word.end for word in words] for start, end in spans]
        each = _numbered(caption, spans, fields[PHRASE_SHARE.name])
        return Parts("phrase", each, phrase, whole=any(map(all, within)))
    each = _numbered(caption, [(word.start, word.end) for word in words], fields[WORD_SHARE.name])
    errors = fields[WORD_ERROR.name][: len(words)]
    return Parts("word", each, error=float(errors.max(initial=0)))


def maps_of(explanation: Explanation, parts: Parts) -> np.ndarray:
    """Where each part's share comes from, (parts, rows, columns) float32, signed."""
    name = PHRASE_MAP.name if parts.kind == "phrase" else WORD_MAP.name
    return np.nan_to_num(explanation.fields[name][: len(parts.each)], nan=0.0, posinf=0.0, neginf=0.0)


def drawn(tops: Sequence[float]) -> list[bool]:
    """Which parts have a colour in the picture, by what counts as strongest in each.

    On a scale of its own even next to nothing would be painted strong: what is below 5 % of the strongest part is not.
    """
    return [top > 0 and top >= FAINTEST * max(tops) for top in tops]


def further(parts: Parts, most: int) -> str:
    """Those behind the first `most`, named: "phrases 9 to 12", "phrase 9"; empty if there are none."""
    left = len(parts.each) - most
    if left <= 0:
        return ""
    return f"{parts.kind}s {most + 1} to {len(parts.each)}" if left > 1 else f"{parts.kind} {most + 1}"


def _numbered(caption: str, spans: list[tuple[int, int]], shares: np.ndarray) -> tuple[Part, ...]:
    texts = (" ".join(printable(caption[start:end]).split()) for start, end in spans)
    both = zip(spans, texts, shares[: len(spans)], strict=True)
    return tuple(Part(n, *span, text, float(share)) for n, (span, text, share) in enumerate(both, 1))
