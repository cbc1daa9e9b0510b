"""Phrases as rows give them: parts of the row's one caption, each with a mask or boxes if the row has them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from mmel_cli.data.boxes import boxes_in
from mmel_cli.data.paths import shown
from mmel_cli.data.rows import Row
from mmel_cli.errors import RecordError
from mmel_cli.names import hint
from mmel_cli.types import ImageRef, Phrase

_TRUTH = ("mask", "boxes")  # missed by no other check

MaskOf = Callable[[Row, str], ImageRef | None]
"""Reads the mask that an object names (under "mask") and says where it is wrong; RecordError if it is refused."""


def phrases_in(value: Any, captions: Sequence[Any], where: str, mask_of: MaskOf) -> tuple[Phrase, ...]:
    """[{"start": 0, "end": 12, "mask": ..., "boxes": ...}, ...] or JSON text of it, in the order of the caption.

    `start` and `end` count characters of the caption as it is given, `end` exclusive. `text` may stand instead of both,
    if the caption has it once; beside them it must be what stands there. Other keys are not read; one that looks like
    a misspelt `mask` or `boxes` is refused.

    Args:
        value: what the row gives.
        captions: the row's captions as it gives them; one that is no text is left to check_caption.
        where: what messages call the row.
        mask_of: how the row names masks.

    Raises:
        RecordError: stage "pair", naming the row and the phrase; stage "image", if a mask is missing.
    """
    if value in (None, "", []):
        return ()
    objects = _objects(value, where)
    if len(captions) != 1:
        several = f"the row has {len(captions)}; give each caption a row of its own"
        raise RecordError("pair", f"{where}: phrases go with one caption, and {several}")
    places = [f"{where}, phrases[{number}]" for number in range(len(objects))]
    masks = [mask_of(given, place) for given, place in zip(objects, places, strict=True)]
    boxes = [boxes_in(given.get("boxes"), place) for given, place in zip(objects, places, strict=True)]
    if not isinstance(captions[0], str):
        return ()
    spans = [_span(given, captions[0], place) for given, place in zip(objects, places, strict=True)]
    phrases = sorted(map(Phrase, *zip(*spans, strict=True), masks, boxes), key=lambda phrase: phrase.start)
    for one, other in pairwise(phrases):
        if other.start < one.end:
            overlap = f"{one.start} to {one.end} and {other.start} to {other.end} overlap; give each part once"
            raise RecordError("pair", f"{where}: the phrases {overlap}")
    before = len(captions[0]) - len(captions[0].lstrip())  # a record's caption has no blanks around it
    return tuple(replace(phrase, start=phrase.start - before, end=phrase.end - before) for phrase in phrases)


def _objects(value: Any, where: str) -> list[Row]:
    try:
        objects = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        objects = None
    if not isinstance(objects, list) or not all(isinstance(given, dict) for given in objects):
        form = '[{"start": 0, "end": 12}, ...] or [{"text": "a red circle"}, ...]'
        raise RecordError("pair", f"{where}: phrases must be {form}, each with mask or boxes if it has them")
    for number, given in enumerate(objects):
        for key in given.keys() - set(_TRUTH):
            if meant := hint(str(key), [name for name in _TRUTH if name not in given]):
                raise RecordError("pair", f"{where}, phrases[{number}]: {shown(repr(key))} is not read{meant}")
    return objects


def _span(given: Row, caption: str, place: str) -> tuple[int, int]:
    """Where one phrase stands in the caption."""
    start, end, text = given.get("start"), given.get("end"), given.get("text")
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise RecordError("pair", f"{place}: text is no words of the caption")
    if start is None and end is None and text is not None:
        return _only(text, caption, place)
    if type(start) is not int or type(end) is not int:  # true is an int too
        raise RecordError("pair", f"{place}: must have start and end, in characters of the caption, or its text")
    words, first = caption.strip(), len(caption) - len(caption.lstrip())
    if not first <= start < end <= first + len(words):
        inside = f"characters {first} to {first + len(words)}"
        raise RecordError("pair", f"{place}: start {start} and end {end} are no part of the caption, {inside}")
    if not caption[start:end].strip():
        raise RecordError("pair", f"{place}: nothing but blanks stands from {start} to {end}")
    if text is not None and caption[start:end] != text:
        stands = f"{shown(repr(caption[start:end]))} stands from {start} to {end}"
        raise RecordError("pair", f"{place}: {stands}, and its text is {shown(repr(text))}")
    return start, end


def _only(text: str, caption: str, place: str) -> tuple[int, int]:
    """The one place where the text stands."""
    start = caption.find(text.strip())
    if start < 0:
        raise RecordError("pair", f"{place}: the caption does not say {shown(repr(text))}")
    if caption.find(text.strip(), start + 1) >= 0:
        raise RecordError("pair", f"{place}: {shown(repr(text))} stands in the caption more than once; give start, end")
    return start, start + len(text.strip())
