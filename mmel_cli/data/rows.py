"""The rows of a metadata file, one bad line at a time."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

from mmel_cli.data.paths import shown
from mmel_cli.errors import RecordError

_FIELD_LIMIT = 1 << 24  # characters; also of a line

Row = dict[str, Any]


def read_rows(path: Path, name: str) -> Iterator[tuple[str, Row | RecordError]]:
    """("file, line n", row) for each row; a row that cannot be read is a RecordError."""
    reader = _csv_rows if path.suffix == ".csv" else _json_rows
    try:
        yield from reader(path, shown(name))
    except OSError as error:
        yield name, RecordError("pair", f"{shown(name)}: cannot be read further ({error.strerror})")


def _json_rows(path: Path, name: str) -> Iterator[tuple[str, Row | RecordError]]:
    with path.open("rb") as file:
        for number, line in enumerate(_lines(file), 1):
            where = f"{name}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError):
                yield where, RecordError("pair", f"{where}: is not a JSON object in UTF-8")
                continue
            yield where, row if isinstance(row, dict) else RecordError("pair", f"{where}: is not a JSON object")


def _csv_rows(path: Path, name: str) -> Iterator[tuple[str, Row | RecordError]]:
    csv.field_size_limit(_FIELD_LIMIT)
    # A byte that is not UTF-8 becomes a half surrogate pair, and so spoils its own row only.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(_lines(file), strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                where = f"{name}, line {reader.reader.line_num}"
                yield where, RecordError("pair", f"{where}: is not CSV ({error})")
                continue
            where = f"{name}, line {reader.reader.line_num}"
            if None in row or None in row.values():
                yield where, RecordError("pair", f"{where}: has another number of fields than the header")
            else:
                yield where, row


def _lines(file: IO[AnyStr]) -> Iterator[AnyStr]:
    """The lines of a file; of one that is too long only the start, which then fails as a row."""
    while line := file.readline(_FIELD_LIMIT):
        rest = line
        while len(rest) == _FIELD_LIMIT:
            rest = file.readline(_FIELD_LIMIT)
        yield line
