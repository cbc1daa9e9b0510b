"""HuggingFace imagefolder: metadata.csv or metadata.jsonl, one row an image or a caption."""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mmel_cli.data.captions import NO_CAPTION, check_caption
from mmel_cli.data.paths import file_ref, images, is_storable, record_id, resolve, shown, walk
from mmel_cli.data.rows import Row, read_rows
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Box, Failure, ImageRef, Sample

NAMES = ("metadata.csv", "metadata.jsonl")
COLUMNS = ("text", "caption", "prompt", "title")  # the first that a row has
_NUMBERED = re.compile(r"caption_\d+")


@dataclass
class _Seen:
    """8-byte digests of what rows have named: captions so far by file (none for a mask), and ids."""

    files: dict[int, int] = field(default_factory=dict)
    ids: set[int] = field(default_factory=set)


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
            for where, row in read_rows(self.root / file, file):
                if isinstance(row, RecordError):
                    yield Failure(where, row.stage, str(row))
                else:
                    yield from self._entries(file, where, row, seen)
        of = shown(", ".join(self.files))
        for name in images(self.root):
            if isinstance(name, Failure):
                yield name
            elif _digest(name) not in seen.files:
                yield Failure(record_id(name, 0), "pair", f"{NO_CAPTION}: no row of {of} names it")

    def _entries(self, file: str, where: str, row: Row, seen: _Seen) -> Iterator[Sample | Failure]:
        """The samples of one row."""
        folder = PurePosixPath(file).parent
        given = None
        try:
            image = _name(folder, row, "file_name", where)
        except RecordError as error:
            yield Failure(where, error.stage, str(error))
            return
        seen.files.setdefault(_digest(image), 0)
        try:
            given = _given_id(row, where)
            mask = self._mask(folder, row, where, seen)
            ref = file_ref(resolve(self.root, image))
            boxes = _boxes(row.get("boxes"), where)
            captions = self._captions(row, where)
        except RecordError as error:
            yield Failure(given or record_id(image, _next(seen, image)), error.stage, str(error))
            return
        for caption in captions:
            number = _next(seen, image)
            identity = given or record_id(image, number)
            if given and len(captions) > 1:
                identity = f"{given}#{number}"
            yield _sample(identity, image, ref, (caption, where), (mask, boxes), seen)

    def _captions(self, row: Row, where: str) -> list[Any]:
        """The row's captions, unchecked; one None if it has none."""
        if self.column is not None:
            if self.column not in row:
                raise RecordError("pair", f"{NO_CAPTION}: {where} has no column {self.column!r}")
            value = row[self.column]
        else:
            numbered = sorted((key for key in row if _NUMBERED.fullmatch(key)), key=lambda key: int(key[8:]))
            named = next((row[key] for key in COLUMNS if row.get(key) is not None), None)  # null is absent, "" is not
            value = named if named is not None else [row[key] for key in numbered if row[key] not in (None, "")]
        return (value or [None]) if isinstance(value, list) else [value]

    def _mask(self, folder: PurePosixPath, row: Row, where: str, seen: _Seen) -> ImageRef | None:
        if row.get("mask") in (None, ""):
            return None
        name = _name(folder, row, "mask", where)
        seen.files.setdefault(_digest(name), 0)
        return file_ref(resolve(self.root, name))


def find(root: Path) -> tuple[str, ...]:
    """The metadata files of a folder, relative and sorted.

    Raises:
        UsageError: if csv and jsonl are mixed, or one is no regular file inside the folder.
    """
    files = tuple(name for name in walk(root) if PurePosixPath(name).name in NAMES)
    if len({PurePosixPath(name).suffix for name in files}) > 1:
        raise UsageError(f"{root}: has both metadata.csv and metadata.jsonl; keep one kind")
    for name in files:
        try:
            resolve(root, name)
        except RecordError as error:
            raise UsageError(f"{root}: {error}") from error
    return files


def check_columns(root: Path, files: tuple[str, ...], column: str | None) -> None:
    """Read rows until a file_name and a caption column have turned up.

    Raises:
        UsageError: if no row of any file has them.
    """
    columns: dict[str, None] = {}
    for file in files:
        for _, row in read_rows(root / file, file):
            if isinstance(row, RecordError):
                continue
            columns.update(dict.fromkeys(row))
            named = column in columns if column else any(key in columns for key in (*COLUMNS, "caption_0"))
            if named and "file_name" in columns:
                return
    place = shown(str(root / files[0]))
    if not columns:
        raise UsageError(f"{place}: holds no readable row")
    listed = shown(", ".join(columns))
    if "file_name" not in columns:
        raise UsageError(f"{place}: has no column file_name but {listed}; rename the column that names the images")
    wanted = f"column {column!r}" if column else f"caption column ({', '.join(COLUMNS)})"
    raise UsageError(f"{place}: has no {wanted} but {listed}; name one with --caption-column")


def _sample(
    identity: str,
    image: str,
    ref: ImageRef,
    said: tuple[Any, str],
    truth: tuple[ImageRef | None, tuple[Box, ...]],
    seen: _Seen,
) -> Sample | Failure:
    caption, where = said
    try:
        text = check_caption(caption, where)
    except RecordError as error:
        return Failure(identity, error.stage, str(error))
    if _digest(identity) in seen.ids:
        return Failure(identity, "pair", f"id {shown(identity)} in {where} is not unique")
    seen.ids.add(_digest(identity))
    return Sample(id=identity, image=image, ref=ref, caption=text, mask=truth[0], boxes=truth[1])


def _name(folder: PurePosixPath, row: Row, key: str, where: str) -> str:
    """The file that a cell names, relative to the root; a path that Windows wrote is taken too."""
    value = row.get(key)
    if value in (None, ""):
        raise RecordError("pair", f"{where}: no {key}")
    if not isinstance(value, str):
        raise RecordError("pair", f"{where}: {key} is {type(value).__name__}, not a path")
    return (folder / value.replace("\\", "/")).as_posix()


def _given_id(row: Row, where: str) -> str | None:
    value = row.get("id")
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RecordError("pair", f"{where}: id is {type(value).__name__}, not text")
    if not is_storable(str(value)):
        raise RecordError("pair", f"{where}: id is not UTF-8 or holds a NUL")
    return str(value)


def _boxes(value: Any, where: str) -> tuple[Box, ...]:
    """[[x0, y0, x1, y1], ...] in pixels, or JSON text of it."""
    if value in (None, ""):
        return ()
    try:
        rows = json.loads(value) if isinstance(value, str) else value
        lists = isinstance(rows, list) and all(isinstance(row, list) for row in rows)  # text would unpack too
        boxes = tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in rows) if lists else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        boxes = None
    if boxes is None:
        raise RecordError("pair", f"{where}: boxes must be [[x0, y0, x1, y1], ...] in pixels")
    if any(not math.isfinite(n) for box in boxes for n in box) or any(b[2] < b[0] or b[3] < b[1] for b in boxes):
        raise RecordError("pair", f"{where}: a box is not finite or its corners are in the wrong order")
    return boxes


def _next(seen: _Seen, image: str) -> int:
    """How many captions the image has had before this one."""
    digest = _digest(image)
    number = seen.files.get(digest, 0)
    seen.files[digest] = number + 1
    return number


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8])
