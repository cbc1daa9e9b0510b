"""The rows of a metadata file or a table, one bad line at a time."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

from mmel_cli.data.paths import shown
from mmel_cli.errors import RecordError, UsageError

_FIELD_LIMIT = 1 << 24  # characters; also of a line
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

Row = dict[str, Any]


def read_rows(path: Path, name: str, delimiter: str = ",") -> Iterator[tuple[str, Row | RecordError]]:
    """("file, line n", row) for each row; a row that cannot be read is a RecordError.

    Args:
        path: a .jsonl file, or a table whose first row names the columns.
        name: what messages call it.
        delimiter: of a table.
    """
    rows = _json_rows(path, shown(name)) if path.suffix == ".jsonl" else _csv_rows(path, shown(name), delimiter)
    try:
        yield from rows
    except OSError as error:
        yield name, RecordError("pair", f"{shown(name)}: cannot be read further ({error.strerror})")


def read_header(path: Path, delimiter: str) -> list[str]:
    """The names of a table's columns, without blanks around them; empty if its first row is no row.

    Raises:
        UsageError: if the file cannot be read.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    try:
        with _open(path) as file:
            return _header(csv.reader(_lines(file), delimiter=delimiter, strict=True))
    except csv.Error:
        return []
    except OSError as error:
        raise UsageError(f"{shown(str(path))}: cannot be read ({error.strerror})") from error


def check_header(path: Path, delimiter: str = ",") -> None:
    """Refuse a table of which two columns share a name, since a cell could mean either.

    Raises:
        UsageError: naming them.
    """
    if path.suffix == ".jsonl":
        return
    twice = [name for name, times in Counter(read_header(path, delimiter)).items() if times > 1 and name]
    if twice:
        raise UsageError(f"{shown(str(path))}: has the column {shown(twice[0])} more than once; rename one")


def check_encoding(path: Path) -> None:
    """Refuse a file in UTF-16, as spreadsheets write "Unicode text".

    Raises:
        UsageError: also if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise UsageError(f"{shown(str(path))}: cannot be read ({error.strerror})") from error
    if start[:2] in _UTF16:
        raise UsageError(f"{shown(str(path))}: is UTF-16; save it as UTF-8")


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


def _csv_rows(path: Path, name: str, delimiter: str) -> Iterator[tuple[str, Row | RecordError]]:
    csv.field_size_limit(_FIELD_LIMIT)
    with _open(path) as file:
        reader = csv.reader(_lines(file), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader) if header is not None else _header(reader)
            except StopIteration:
                return
            except csv.Error as error:
                where = f"{name}, line {first}"
                rest = f" to {reader.line_num}" if reader.line_num > first else ""
                yield where, RecordError("pair", f"{where}{rest}: is not CSV ({error})")
                if header is None:
                    return
                continue
            where = f"{name}, line {reader.line_num}"
            if header is None:
                header = cells
            elif cells and len(cells) != len(header):
                yield where, RecordError("pair", f"{where}: has another number of fields than the header")
            elif cells:
                yield where, dict(zip(header, cells, strict=True))


def _header(reader: Iterator[list[str]]) -> list[str]:
    """The first row that is not empty; [] if there is none."""
    return [cell.strip() for cell in next((cells for cells in reader if cells), [])]


def _open(path: Path) -> IO[str]:
    """A byte that is not UTF-8 becomes a half surrogate pair, and so spoils its own row only."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _lines(file: IO[AnyStr]) -> Iterator[AnyStr]:
    """The lines of a file; of one that is too long only the start, which then fails as a row."""
    while line := file.readline(_FIELD_LIMIT):
        rest = line
        while len(rest) == _FIELD_LIMIT:
            rest = file.readline(_FIELD_LIMIT)
        yield line
