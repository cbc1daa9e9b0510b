"""Check an archive by reading every chunk of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from mmel_cli.archive.reader import archive_files
from mmel_cli.archive.safety import open_safely
from mmel_cli.archive.schema import TEXT_CRC, TEXTS, TOKENS_TEXT, text_crc32
from mmel_cli.errors import ArchiveError


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
            problems += _read(file, part, seen)
    if len(runs) > 1:
        problems.append(f"{path}: shards of {len(runs)} different runs: {', '.join(p.name for p in runs.values())}")
    return VerifyReport(len(seen), len(paths), problems + _against_summary(path, len(seen)))


def _read(file: h5py.File, path: Path, seen: dict[str, Path]) -> list[str]:
    """Problems of one file; its ids go to `seen`."""
    problems = [f"{path}: {problem}" for problem in damage(file)]
    if not problems:
        for name in file["id"].asstr()[:]:
            if name in seen:
                problems.append(f"{path}: record id {name!r} is also in {seen[name].name}")
            seen[name] = path
    return problems


def damage(file: h5py.File) -> Iterator[str]:
    """Read every chunk of an open archive; a line for each that fails its checksum or is not finite."""
    names: list[str] = []
    try:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            yield from _dataset_damage(file[name], name)
        yield from _text_damage(file)
    except (OSError, RuntimeError, KeyError) as error:
        yield f"damaged ({str(error).splitlines()[0][:120]})"


def _dataset_damage(item: h5py.Dataset, name: str) -> Iterator[str]:
    for row in range(len(item)):
        try:
            values = item[row]
        except OSError as error:
            yield f"{name}, record {row}: damaged ({str(error).splitlines()[0][:120]})"
            continue
        if item.dtype.kind == "f" and not _finite(name, values):
            yield f"{name}, record {row}: not finite"


def _text_damage(file: h5py.File) -> Iterator[str]:
    """Text against its CRC-32."""
    for row in range(len(file["id"])):
        try:
            texts = [file[name].asstr()[row] for name in TEXTS]
            if text_crc32([*texts, *file[TOKENS_TEXT].asstr()[row]]) == file[TEXT_CRC][row]:
                continue
        except (OSError, UnicodeDecodeError, ValueError):
            pass
        yield f"id, image, caption or tokens, record {row}: damaged (CRC-32)"


def _finite(name: str, values: np.ndarray) -> bool:
    """NaN is allowed where tokens/map is padded: at the end of a row."""
    if name == "tokens/map":
        padding = np.isnan(values)
        values = values[: int(padding.argmax())] if padding.any() else values
    return bool(np.isfinite(values).all())


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
