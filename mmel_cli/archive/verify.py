"""Check an archive by reading every chunk of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from mmel_cli.archive.reader import archive_files
from mmel_cli.archive.rows import phrases_in
from mmel_cli.archive.safety import open_safely
from mmel_cli.archive.schema import AGAINST, TEXT_CRC, TEXTS, TOKENS_TEXT, WORDS_TEXT, text_crc32
from mmel_cli.errors import ArchiveError
from mmel_cli.fields import Field, Sizes
from mmel_cli.types import RunInfo


@dataclass(frozen=True)
class VerifyReport:
    """What was read, and one line for each problem."""

    records: int
    files: int
    problems: list[str]


def verify(path: Path) -> VerifyReport:
    """Read everything: schema, checksums, finite values, unique ids, one run, and summary.json's count.

    Raises:
        ArchiveError: only if there is no archive at all.
    """
    paths = archive_files(path)
    problems: list[str] = []
    seen: dict[str, Path] = {}
    runs: dict[str, Path] = {}
    for part in paths:
        try:
            file, info = open_safely(part)
        except ArchiveError as error:
            problems.append(str(error))
            continue
        with file:
            runs.setdefault(info.config_sha256, part)
            problems += _read(file, part, info, seen)
    if len(runs) > 1:
        problems.append(f"{path}: shards of {len(runs)} different runs: {', '.join(p.name for p in runs.values())}")
    return VerifyReport(len(seen), len(paths), problems + _against_summary(path, len(seen)))


def _read(file: h5py.File, path: Path, info: RunInfo, seen: dict[str, Path]) -> list[str]:
    """Problems of one file; its ids go to `seen`."""
    problems = [f"{path}: {problem}" for problem in damage(file, info)]
    if not problems:
        for name in file["id"].asstr()[:]:
            if name in seen:
                problems.append(f"{path}: record id {name!r} is also in {seen[name].name}")
            seen[name] = path
    return problems


def damage(file: h5py.File, info: RunInfo) -> Iterator[str]:
    """Read every chunk of an open archive; a line for each that fails its checksum or is not finite."""
    names: list[str] = []
    try:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        fields = {field.name: field for field in info.fields}
        for name in names:
            yield from _dataset_damage(file, name, fields.get(name), info)
        yield from _text_damage(file)
    except (OSError, RuntimeError, KeyError) as error:
        yield f"damaged ({str(error).splitlines()[0][:120]})"


def _dataset_damage(file: h5py.File, name: str, field: Field | None, info: RunInfo) -> Iterator[str]:
    item = file[name]
    for row in range(len(item)):
        try:
            values = item[row]
            if field is not None and field.ragged:  # what follows the last token or word is padding
                values = values[tuple(slice(length) for length in field.shape(_own_sizes(file, row, info)))]
        except (OSError, UnicodeDecodeError) as error:
            yield f"{name}, record {row}: damaged ({str(error).splitlines()[0][:120]})"
            continue
        if item.dtype.kind == "f" and not np.isfinite(values).all():
            yield f"{name}, record {row}: not finite"


def _own_sizes(file: h5py.File, row: int, info: RunInfo) -> Sizes:
    """How many tokens, words and phrases a record has."""
    tokens, words = (
        sum(text != "" for text in file[name].asstr()[row]) if name in file else 0 for name in (TOKENS_TEXT, WORDS_TEXT)
    )
    return replace(info.sizes, tokens=tokens, words=words, phrases=phrases_in(file, row))


def _text_damage(file: h5py.File) -> Iterator[str]:
    """Text against its CRC-32."""
    for row in range(len(file["id"])):
        try:
            texts = [file[name].asstr()[row] for name in (*TEXTS, AGAINST) if name in file]
            padded = [name for name in (TOKENS_TEXT, WORDS_TEXT) if name in file]
            if text_crc32([*texts, *(text for n in padded for text in file[n].asstr()[row])]) == file[TEXT_CRC][row]:
                continue
        except (OSError, UnicodeDecodeError, ValueError):
            pass
        yield f"id, image, caption, against, tokens or words, record {row}: damaged (CRC-32)"


def _against_summary(path: Path, records: int) -> list[str]:
    """summary.json of a finished run must count what is there."""
    summary = path / "summary.json"
    if not summary.is_file():
        return []
    try:
        done = json.loads(summary.read_text("utf-8"))["done"]
    except (ValueError, KeyError):
        return [f"{summary}: is not a summary; run mmel explain again"]
    return [] if done == records else [f"{summary}: counts {done} records, the archive holds {records}"]
