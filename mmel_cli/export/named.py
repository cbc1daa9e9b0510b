"""What of a record has a map and a name: its caption, and its phrases if the run was made with --words."""

import math
from dataclasses import dataclass

from mmel_cli.fields import MAP, PHRASE_MAP, PHRASE_SHARE, PHRASE_SPAN
from mmel_cli.types import Explanation, Map

FIELDS = (MAP.name, PHRASE_SPAN.name, PHRASE_SHARE.name, PHRASE_MAP.name)
"""What of a record is needed."""


@dataclass(frozen=True)
class Named:
    """A caption or a phrase of it, and where in the image its evidence lies; `share` of the score is a phrase's."""

    text: str
    start: int  # characters of the caption
    end: int  # exclusive
    map: Map
    share: float | None = None

    @property
    def kind(self) -> str:
        """Caption or phrase."""
        return "caption" if self.share is None else "phrase"


def caption_of(record: Explanation) -> Named:
    """The whole caption."""
    return Named(record.caption, 0, len(record.caption), record.map)


def phrases_of(record: Explanation) -> list[Named]:
    """Its phrases in their order; none in a run without --words."""
    maps, shares = record.fields.get(PHRASE_MAP.name, ()), record.fields.get(PHRASE_SHARE.name, ())
    each = zip(record.phrases, maps, shares, strict=True)
    return [Named(phrase.text, phrase.start, phrase.end, values, float(share)) for phrase, values, share in each]


def boxed(record: Explanation) -> list[Named]:
    """What boxes are made for: phrases that add to the score (share above 0) where it has phrases, else its caption.

    A box of a phrase that takes from the score would say that a thing is there that the model does not find.
    """
    phrases = phrases_of(record)
    return [phrase for phrase in phrases if (phrase.share or 0) > 0] if phrases else [caption_of(record)]


def number(value: float) -> float | None:
    """As JSON has it: None for what is not finite."""
    return float(value) if math.isfinite(value) else None
