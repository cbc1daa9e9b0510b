"""Pairs from the rows of metadata and tables: which file a cell names, its captions, id, mask, boxes and phrases."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mmel_cli.data.boxes import boxes_in
from mmel_cli.data.captions import NO_CAPTION, check_caption
from mmel_cli.data.paths import file_ref, is_storable, readable_image, record_id, resolve, shown
from mmel_cli.data.phrases import phrases_in
from mmel_cli.data.rows import Row
from mmel_cli.errors import RecordError
from mmel_cli.idsets import IdSet, NameCounts
from mmel_cli.types import Failure, ImageRef, Sample

CAPTIONS = ("text", "caption", "captions", "prompt", "title")  # the first that a row has
FIRST_NUMBERED = "caption_0"
_NUMBERED = re.compile(r"caption_\d+")


@dataclass
class Seen:
    """What rows have named: captions so far by file (none for a mask), and ids; 12 and 8 bytes each."""

    files: NameCounts = field(default_factory=NameCounts)
    ids: IdSet = field(default_factory=IdSet)

    def name(self, file: str) -> None:
        """A row names a file."""
        self.files.add(file, 0)

    def named(self, file: str) -> bool:
        """Whether a row has named it."""
        return file in self.files

    def number(self, image: str) -> int:
        """How many captions the image has had before this one."""
        return self.files.add(image)

    def is_new(self, identity: str) -> bool:
        """Whether no record had this id before; from now on one has."""
        return self.ids.add(identity)


@dataclass(frozen=True)
class RowReader:
    """Makes the pairs of rows; nothing that they name may lie outside `root`."""

    root: Path
    image_column: str
    caption_column: str | None  # None: the first of CAPTIONS that the row has, else caption_0, caption_1, ...
    seen: Seen = field(default_factory=Seen)
    _last: dict[str, ImageRef] = field(default_factory=dict)

    def entries(self, folders: Sequence[str], where: str, row: Row) -> Iterator[Sample | Failure]:
        """The samples of one row.

        Args:
            folders: below `root`: images are relative to the last, masks to the first that has them.
            where: what messages call the row.
            row: column to value.
        """
        given = None
        try:
            image = _name(folders[-1], row, self.image_column, where)
        except RecordError as error:
            yield Failure(where, error.stage, str(error))
            return
        self.seen.name(image)
        try:
            given = _given_id(row, where)
            mask = self._mask(folders, row, where)
            ref = self._ref(image)
            boxes = boxes_in(row.get("boxes"), where)
            captions = captions_in(row, self.caption_column, where)
            phrases = phrases_in(row.get("phrases"), captions, where, partial(self._mask, folders))
        except RecordError as error:
            identity = given or record_id(image, self.seen.number(image))
            yield Failure(identity, error.stage, str(error), readable_image(self.root, image))
            return
        for caption in captions:
            number = self.seen.number(image)
            identity = given or record_id(image, number)
            if given and len(captions) > 1:
                identity = f"{given}#{number}"
            try:
                text = check_caption(caption, where)
            except RecordError as error:
                yield Failure(identity, error.stage, str(error), (image, ref))
                continue
            if self.seen.is_new(identity):
                yield Sample(identity, image, ref, text, mask, boxes, phrases)
            else:
                yield Failure(identity, "pair", f"id {shown(identity)} in {where} is not unique", (image, ref))

    def _ref(self, image: str) -> ImageRef:
        """The image's file; captions of one image mostly follow each other, so the last one is kept."""
        if image not in self._last:
            ref = file_ref(resolve(self.root, image))
            self._last.clear()
            self._last[image] = ref
        return self._last[image]

    def _mask(self, folders: Sequence[str], row: Row, where: str) -> ImageRef | None:
        if row.get("mask") in (None, ""):
            return None
        names = [_name(folder, row, "mask", where) for folder in folders]
        name = next((name for name in names if os.path.lexists(self.root / name)), names[-1])
        self.seen.name(name)
        try:
            return file_ref(resolve(self.root, name))
        except RecordError as error:
            raise RecordError(error.stage, f"{where}: mask {error}") from error


def captions_in(row: Row, column: str | None, where: str) -> list[Any]:
    """A row's captions, unchecked; one None if it has none.

    Raises:
        RecordError: stage "pair", if it lacks the column that the user named.
    """
    if column is not None:
        if column not in row:
            raise RecordError("pair", f"{NO_CAPTION}: {where} has no column {column!r}")
        value = row[column]
    else:
        numbered = sorted((key for key in row if _NUMBERED.fullmatch(key)), key=lambda key: int(key[8:]))
        named = next((row[key] for key in CAPTIONS if row.get(key) is not None), None)  # null is absent, "" is not
        value = named if named is not None else [row[key] for key in numbered if row[key] not in (None, "")]
    return (value or [None]) if isinstance(value, list) else [value]


def _name(folder: str, row: Row, key: str, where: str) -> str:
    """The file that a cell names, relative to the root; a path that Windows wrote is taken too."""
    value = row.get(key)
    if value in (None, ""):
        raise RecordError("pair", f"{where}: no {key}")
    if not isinstance(value, str):
        raise RecordError("pair", f"{where}: {key} is {type(value).__name__}, not a path")
    return (PurePosixPath(folder) / value.replace("\\", "/")).as_posix()


def _given_id(row: Row, where: str) -> str | None:
    value = row.get("id")
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RecordError("pair", f"{where}: id is {type(value).__name__}, not text")
    if not is_storable(str(value)):
        raise RecordError("pair", f"{where}: id is not UTF-8 or holds a NUL")
    return str(value)
