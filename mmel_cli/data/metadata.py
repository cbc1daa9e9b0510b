"""HuggingFace imagefolder: metadata.csv or metadata.jsonl, one row an image or a caption."""

import csv
import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mmel_cli.data.captions import NO_CAPTION, check_caption
from mmel_cli.data.paths import is_image, record_id, resolve, walk
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Box, Failure, Sample

NAMES = ("metadata.csv", "metadata.jsonl")
COLUMNS = ("text", "caption", "prompt", "title")  # the first that a row has
_NUMBERED = re.compile(r"caption_\d+")
_FIELD_LIMIT = 1 << 24

Row = dict[str, Any]


@dataclass
class _Seen:
    """Small digests of what rows have named: how often each image, and which files and ids at all."""

    captions: dict[bytes, int] = field(default_factory=dict)
    named: set[bytes] = field(default_factory=set)
    ids: set[bytes] = field(default_factory=set)


@dataclass(frozen=True)
class Metadata:
    """The metadata files of a folder (relative paths), and the caption column if the user named one."""

    root: Path
    files: tuple[str, ...]
    column: str | None

    def read(self) -> Iterator[Sample | Failure]:
        """Entries in the order of rows, then a failure for each image file that no row names."""
        seen = _Seen()
        for file in self.files:
            for where, row in _rows(self.root / file, file):
                if isinstance(row, RecordError):
                    yield Failure(where, row.stage, str(row))
                else:
                    yield from self._entries(file, where, row, seen)
        for name in walk(self.root):
            if is_image(name) and _digest(name) not in seen.named:
                yield Failure(record_id(name, 0), "pair", f"{NO_CAPTION}: no row of {', '.join(self.files)} names it")

    def _entries(self, file: str, where: str, row: Row, seen: _Seen) -> Iterator[Sample | Failure]:
        """The samples of one row."""
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            yield Failure(where, "pair", f"{where}: no file_name")
            return
        folder = PurePosixPath(file).parent
        image = (folder / name).as_posix()
        seen.named.add(_digest(image))
        try:
            path = resolve(self.root, image)
            mask = self._mask(folder, row, seen)
            boxes = _boxes(row.get("boxes"), where)
            captions = self._captions(row, where)
        except RecordError as error:
            yield Failure(_fallback_id(row, image, seen), error.stage, str(error))
            return
        for caption in captions:
            number = _next(seen, image)
            identity = row.get("id") or record_id(image, number)
            if len(captions) > 1 and row.get("id"):
                identity = f"{row['id']}#{number}"
            yield _sample(str(identity), image, path, (caption, where), (mask, boxes), seen)

    def _captions(self, row: Row, where: str) -> list[Any]:
        """The row's captions, unchecked; one None if it has none."""
        if self.column is not None:
            if self.column not in row:
                raise RecordError("pair", f"{NO_CAPTION}: {where} has no column {self.column!r}")
            value = row[self.column]
        else:
            numbered = sorted((key for key in row if _NUMBERED.fullmatch(key)), key=lambda key: int(key[8:]))
            named = next((row[key] for key in COLUMNS if row.get(key) not in (None, "")), None)
            value = named if named is not None else [row[key] for key in numbered if row[key] not in (None, "")]
        return (value or [None]) if isinstance(value, list) else [value]

    def _mask(self, folder: PurePosixPath, row: Row, seen: _Seen) -> Path | None:
        value = row.get("mask")
        if value in (None, ""):
            return None
        if not isinstance(value, str):
            raise RecordError("pair", "mask is no path")
        name = (folder / value).as_posix()
        seen.named.add(_digest(name))
        return resolve(self.root, name)


def find(root: Path) -> tuple[str, ...]:
    """The metadata files of a folder, relative and sorted.

    Raises:
        UsageError: if csv and jsonl are mixed.
    """
    files = tuple(name for name in walk(root) if PurePosixPath(name).name in NAMES)
    if len({PurePosixPath(name).suffix for name in files}) > 1:
        raise UsageError(f"{root}: has both metadata.csv and metadata.jsonl; keep one kind")
    return files


def columns(root: Path, files: tuple[str, ...]) -> list[str]:
    """The columns of the first readable row, for messages."""
    for file in files:
        for _, row in _rows(root / file, file):
            if not isinstance(row, RecordError):
                return list(row)
    return []


def _sample(
    identity: str,
    image: str,
    path: Path,
    said: tuple[Any, str],
    shown: tuple[Path | None, tuple[Box, ...]],
    seen: _Seen,
) -> Sample | Failure:
    caption, where = said
    try:
        text = check_caption(caption, where)
    except RecordError as error:
        return Failure(identity, error.stage, str(error))
    if "\0" in identity or _digest(identity) in seen.ids:
        return Failure(identity, "pair", f"id {identity!r} in {where} is not unique or holds a NUL")
    seen.ids.add(_digest(identity))
    return Sample(id=identity, image=image, path=path, caption=text, mask=shown[0], boxes=shown[1])


def _rows(path: Path, name: str) -> Iterator[tuple[str, Row | RecordError]]:
    """("file, line n", row) for each row; a row that cannot be read is a RecordError."""
    reader = _csv_rows if path.suffix == ".csv" else _json_rows
    try:
        yield from reader(path, name)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        yield name, RecordError("pair", f"{name}: cannot be read further ({error}); it must be UTF-8")


def _json_rows(path: Path, name: str) -> Iterator[tuple[str, Row | RecordError]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
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
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            where = f"{name}, line {reader.line_num}"
            if None in row or None in row.values():
                yield where, RecordError("pair", f"{where}: has another number of fields than the header")
            else:
                yield where, row


def _boxes(value: Any, where: str) -> tuple[Box, ...]:
    """[[x0, y0, x1, y1], ...] in pixels, or JSON text of it."""
    if value in (None, ""):
        return ()
    try:
        rows = json.loads(value) if isinstance(value, str) else value
        boxes = tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in rows)
    except (ValueError, TypeError) as error:
        raise RecordError("pair", f"{where}: boxes must be [[x0, y0, x1, y1], ...] in pixels") from error
    if any(not math.isfinite(n) for box in boxes for n in box) or any(b[2] < b[0] or b[3] < b[1] for b in boxes):
        raise RecordError("pair", f"{where}: a box is not finite or its corners are in the wrong order")
    return boxes


def _next(seen: _Seen, image: str) -> int:
    """How many captions the image has had before this one."""
    digest = _digest(image)
    number = seen.captions.get(digest, 0)
    seen.captions[digest] = number + 1
    return number


def _fallback_id(row: Row, image: str, seen: _Seen) -> str:
    return str(row.get("id") or record_id(image, _next(seen, image)))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]
