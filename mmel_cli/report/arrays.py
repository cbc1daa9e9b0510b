"""The arrays of each record: maps, and what words and phrases are, in files of MAPS; by layer and word, of DETAILS."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmel_cli.archive.schema import WORDS_SPAN
from mmel_cli.fields import (
    MAP,
    PHRASE_MAP,
    PHRASE_SHARE,
    PHRASE_SPAN,
    WORD_ERROR,
    WORD_MAP,
    WORD_REST,
    WORD_SHARE,
    WORD_VALUE,
)
from mmel_cli.report.layout import DETAILS, MAPS, details_file, maps_file
from mmel_cli.report.run import ReportRun
from mmel_cli.report.scripts import call, numbers, packed, units

_RAGGED = (WORD_VALUE, WORD_SHARE, WORD_ERROR, WORD_MAP, WORD_REST, PHRASE_SPAN, PHRASE_SHARE, PHRASE_MAP)


def array_files(run: ReportRun, number: int, stamp: str) -> Iterator[tuple[str, str]]:
    """Name and text of every file of a run's arrays, MAPS records in memory at a time.

    Args:
        run: whose arrays.
        number: of the run in the report.
        stamp: of the build.
    """
    if run.archive is None:
        return
    declared = {field.name for field in run.info.fields}
    words = [WORDS_SPAN] if run.has(WORD_VALUE.name) or run.has(WORD_SHARE.name) else []
    ragged = [field.name for field in _RAGGED if field.name in declared]
    names = [MAP.name, "box", "caption", *words, *ragged, *run.layer_fields]
    for start in range(0, len(run.places), MAPS):
        read = run.archive.take(names, run.places[start : start + MAPS])
        block = _Block(read, run.layer_fields)
        yield maps_file(number, start // MAPS), call("maps", number, start // MAPS, block.maps(), stamp)
        for first in range(0, len(read["box"]), DETAILS):
            k = (start + first) // DETAILS
            yield (
                details_file(number, k),
                call("details", number, k, block.details(slice(first, first + DETAILS)), stamp),
            )


class _Block:
    """What was read of a few records, padded as the archive has it."""

    def __init__(self, read: dict[str, np.ndarray], layer_fields: list[str]) -> None:
        self._read, self._layers, self._records = read, layer_fields, range(len(read["box"]))
        none = np.zeros(len(self._records), int)
        self._words = (read[WORDS_SPAN][:, :, 0] >= 0).sum(1) if WORDS_SPAN in read else none
        self._phrases = (read[PHRASE_SPAN.name][:, :, 0] >= 0).sum(1) if PHRASE_SPAN.name in read else none

    def maps(self) -> dict[str, Any]:
        """Of all of them."""
        return {
            "map": packed(self._read[MAP.name]),
            "box": numbers(self._read["box"]),
            "words": [self._spans(WORDS_SPAN, k, self._words[k]) for k in self._records],
            "values": self._of_words(WORD_VALUE.name),
            "shares": self._of_words(WORD_SHARE.name),
            "errors": self._of_words(WORD_ERROR.name),
            "phrases": [self._of_phrases(k) for k in self._records],
        }

    def details(self, part: slice) -> dict[str, Any]:
        """Of some of them."""
        records = self._records[part]
        return {
            "layers": {name: packed(self._read[name][part]) for name in self._layers},
            "words": [self._packed(WORD_MAP.name, k, self._words[k]) for k in records],
            "phrases": [self._packed(PHRASE_MAP.name, k, self._phrases[k]) for k in records],
            "rests": self._of_words(WORD_REST.name)[part],
        }

    def _spans(self, name: str, record: int, count: int) -> list[list[int]]:
        if name not in self._read:
            return []
        places = units(str(self._read["caption"][record]))
        spans = self._read[name][record][:count].tolist()
        return spans if places is None else [[places[start], places[end]] for start, end in spans]

    def _of_words(self, name: str) -> list[Any]:
        """A number a word; None for a run without."""
        if name not in self._read:
            return [None for _ in self._records]
        return [numbers(self._read[name][k][: self._words[k]]) for k in self._records]

    def _of_phrases(self, record: int) -> list[list[Any]]:
        if not self._phrases[record]:
            return []
        count = self._phrases[record]
        shares = numbers(self._read[PHRASE_SHARE.name][record][:count])
        spans = self._spans(PHRASE_SPAN.name, record, count)
        return [[*span, share] for span, share in zip(spans, shares, strict=True)]

    def _packed(self, name: str, record: int, count: int) -> str | None:
        return packed(self._read[name][record][:count]) if name in self._read else None
