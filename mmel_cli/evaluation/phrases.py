"""Maps of phrases: where a record has them, and whether each finds what its phrase names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmel_cli.fields import PHRASE_MAP, WORD_MAP
from mmel_cli.geometry import Mask, PixelMap
from mmel_cli.types import Explanation, Map


@dataclass(frozen=True)
class NamedPhrase:
    """A phrase of a record's caption with its truth."""

    start: int  # characters of the caption
    end: int  # exclusive
    truth: Mask  # at the original's size


def kind_of(fields: Iterable[str], vector: str) -> str:
    """What stands for the map of a phrase in a run with these fields and this words.phrase, for the report."""
    names = set(fields)
    if PHRASE_MAP.name in names:
        return f"phrases/map (words.phrase: {vector})"
    if WORD_MAP.name in names:
        return "the sum of words/map over the words of the phrase"
    return "the one map of the caption, the same for every phrase"


def is_read(record: Explanation, start: int, end: int) -> bool:
    """Whether the model reads a word of the phrase; a record without words (an old archive) does not say."""
    return not record.words or bool(_words(record, start, end))


def map_of(record: Explanation, start: int, end: int) -> Map | None:
    """The map of the phrase at these characters; None if the run has maps of phrases, and not of this one.

    By what the run has: phrases/map, else the sum of words/map over the words that share a character with the phrase,
    else the caption's one map.
    """
    if PHRASE_MAP.name in record.fields:
        spans = [(phrase.start, phrase.end) for phrase in record.phrases]
        return record.fields[PHRASE_MAP.name][spans.index((start, end))] if (start, end) in spans else None
    if WORD_MAP.name in record.fields:
        return record.fields[WORD_MAP.name][_words(record, start, end)].sum(0)
    return record.map


def choice(values: PixelMap, own: Mask, objects: Sequence[Mask]) -> float | None:
    """1 if, of these objects, the own has the highest value within it; tied objects share it; None if it is the only.

    Objects of the same mask are one.

    Args:
        values: a map.
        own: one of the objects; none is empty.
        objects: of all phrases of the record.
    """
    others = [mask for mask in objects if not np.array_equal(mask, own)]
    distinct = [mask for number, mask in enumerate(others) if not any(np.array_equal(mask, m) for m in others[:number])]
    if not distinct:
        return None
    highest, rivals = values[own].max(), [values[mask].max() for mask in distinct]
    return 0.0 if max(rivals) > highest else 1 / (1 + sum(value == highest for value in rivals))


def _words(record: Explanation, start: int, end: int) -> list[int]:
    """Which words share a character with the phrase."""
    return [number for number, word in enumerate(record.words) if word.start < end and start < word.end]
