"""Rows of an archive's datasets as values, and as records."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from mmel_cli.archive.schema import AGAINST, SCALE, TEXT_CRC, TOKENS_TEXT, WORDS_SPAN, WORDS_TEXT, columns
from mmel_cli.errors import DamagedError
from mmel_cli.fields import PHRASE_SPAN
from mmel_cli.types import Explanation, RunInfo, Word


def record_at(file: h5py.File, row: int, info: RunInfo) -> Explanation:
    """The record in a row of a file, with the fields of `info`."""
    return explanation({name: read(file, name, row) for name in columns_in(file, info)}, info)


def columns_in(file: h5py.File, info: RunInfo) -> list[str]:
    """The datasets that make a record with the fields of `info`, of those that the file has (version 1 lacks some)."""
    every = {*columns(info), *(field.name for field in info.fields), PHRASE_SPAN.name} - {TEXT_CRC}
    return sorted(name for name in every if name in file)


def explanation(row: dict[str, Any], info: RunInfo) -> Explanation:
    """A record from its rows of `columns_in`, without their padding."""
    tokens = tuple(str(text) for text in row[TOKENS_TEXT] if text)
    words = words_from(row[WORDS_TEXT], row[WORDS_SPAN]) if WORDS_TEXT in row else ()
    phrases = int((row[PHRASE_SPAN.name][:, 0] >= 0).sum()) if PHRASE_SPAN.name in row else 0
    own = replace(info.sizes, tokens=len(tokens), words=len(words), phrases=phrases)
    height, width = (int(n) for n in row["image_size"])
    x0, y0, x1, y1 = (float(n) for n in row["box"])
    return Explanation(
        **{name: str(row[name]) for name in ("id", "image", "caption")},
        truncated=bool(row["truncated"]),
        score=float(row["score"]),
        logit=float(row.get("logit", math.nan)),
        image_size=(height, width),
        box=(x0, y0, x1, y1),
        # copies: a record must not keep the block that it was read with
        fields={field.name: row[field.name][tuple(map(slice, field.shape(own)))].copy() for field in info.fields},
        tokens=tokens,
        words=words,
        against=str(row[AGAINST]) if info.against else None,
        against_score=float(row["against_score"]) if info.against else None,
    )


def read_rows(file: h5py.File, name: str, rows: np.ndarray) -> np.ndarray:
    """Rows of a dataset in any order: as one slice where they lie close together, else row by row."""
    first, last = int(rows.min()), int(rows.max())
    if last - first < 2 * len(rows):
        return np.asarray(read(file, name, slice(first, last + 1)))[rows - first]
    return np.concatenate([np.asarray(read(file, name, slice(int(row), int(row) + 1))) for row in rows])


def phrases_in(file: h5py.File, row: int) -> int:
    """How many phrases a record has; 0 where the run shows none."""
    return int((read(file, PHRASE_SPAN.name, row)[:, 0] >= 0).sum()) if PHRASE_SPAN.name in file else 0


def words_from(texts: Sequence[str] | np.ndarray, spans: np.ndarray) -> tuple[Word, ...]:
    """The words of a record from its rows of words/text and words/span, which are padded."""
    return tuple(Word(str(text), int(span[0]), int(span[1])) for text, span in zip(texts, spans, strict=True) if text)


def read(file: h5py.File, name: str, rows: Any) -> Any:
    """Text as str, scaled float16 as float32, the rest as it is."""
    try:
        item = file[name]
        if h5py.check_string_dtype(item.dtype):
            return item.asstr()[rows]
        values = item[rows]
        if name + SCALE in file:
            factors = np.asarray(file[name + SCALE][rows], np.float32)
            return (
                values.astype(np.float32) * factors.reshape(-1, *[1] * (item.ndim - 1))[0 if factors.ndim == 0 else ...]
            )
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{file.filename}: {name} is damaged ({error}); run mmel verify") from error
    return values
