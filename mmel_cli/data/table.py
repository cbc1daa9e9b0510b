"""Tables: CSV, TSV or Flickr30k's `|`, with a column that names the image and one that captions it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mmel_cli.data.base import Request, Source, refuse_caption
from mmel_cli.data.paths import may_be_read, shown
from mmel_cli.data.places import Place, find_place
from mmel_cli.data.records import CAPTIONS, FIRST_NUMBERED, RowReader
from mmel_cli.data.rows import Row, check_encoding, check_header, read_header, read_rows
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, Sample

SUFFIXES = (".csv", ".tsv", ".tab")  # of a folder's tables
_FILES = (*SUFFIXES, ".txt")  # of one that is named itself
DELIMITERS = {"\t": "tab", "|": "|", ",": "comma", ";": "semicolon"}
IMAGES = ("file_name", "filepath", "image_path", "image", "path", "file", "image_name")  # the last is Flickr30k's
_COMMENT = "comment"  # Flickr30k's caption
_LOOKED_AT = 1000  # rows that are read to find the folder of the images


def recognise(request: Request) -> Source | None:
    """A table, or a folder that holds one at its top."""
    path = request.path
    if path.is_dir():
        tables = [table for file in table_files(path) if (table := fitting(file, request)) is not None]
        if len(tables) > 1:
            several = shown(", ".join(table.file.name for table in tables))
            raise UsageError(f"{path}: holds several tables; give one of them: {several}")
        table = tables[0] if tables else None
    else:
        table = fitting(path, request) if path.suffix.lower() in _FILES else None
    if table is None:
        return None
    refuse_caption(request)
    check_header(table.file, table.delimiter)
    if next(table.rows(), None) is None:
        raise UsageError(f"{shown(str(table.file))}: has a header and no row below it")
    names = (row[table.image] for _, row in islice(table.rows(), _LOOKED_AT) if not isinstance(row, RecordError))
    place = find_place(request.folder, table.file, names, above=False)
    return Source(request, f"table ({table.layout}{place.layout})", _Read(table, place).read)


def table_files(folder: Path) -> list[Path]:
    """The tables at the top of a folder, sorted; links that lead out are not among them."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    return [file for file in files if may_be_read(folder, file.name)]


@dataclass(frozen=True)
class Table:
    """A table, and which of its columns are read; `caption` None: those numbered from caption_0.

    `captioned` is false where prompts take the place of captions.
    """

    file: Path
    delimiter: str
    image: str
    caption: str | None
    captioned: bool = True

    @property
    def layout(self) -> str:
        """In a line."""
        captions = f", captions by {shown(self.caption or 'caption_0, caption_1, ...')}" if self.captioned else ""
        return f"{shown(self.file.name)}, {DELIMITERS[self.delimiter]}; images by {shown(self.image)}{captions}"

    def rows(self) -> Iterator[tuple[str, Row | RecordError]]:
        """Rows with several captions in a cell, as JSON, taken apart; Flickr30k has blanks around its cells."""
        for where, row in read_rows(self.file, self.file.name, self.delimiter):
            if isinstance(row, RecordError):
                yield where, row
                continue
            cells: dict[str, Any] = {name: cell.strip() for name, cell in row.items()} if self.delimiter == "|" else row
            if self.caption is not None:
                cells[self.caption] = _captions(cells[self.caption])
            yield where, cells


def fitting(file: Path, request: Request) -> Table | None:
    """The table in a file, if its header has an image and a caption column, by the first delimiter that shows both.

    With prompts in the place of captions, a column of images is enough.

    Raises:
        UsageError: if the file cannot be read, or is UTF-16.
    """
    check_encoding(file)
    for delimiter in DELIMITERS:
        columns = read_header(file, delimiter)
        image, caption = image_column(columns, request), caption_column(columns, request)
        if image and request.prompts:
            return Table(file, delimiter, image, None, captioned=False)
        if image and caption:
            return Table(file, delimiter, image, None if caption == FIRST_NUMBERED else caption)
    return None


def image_column(columns: Sequence[str], request: Request) -> str | None:
    """The column that names the image: as the user says, else the first with a usual name."""
    names = (request.image_column,) if request.image_column else IMAGES
    return next((name for name in names if name in columns), None)


def caption_column(columns: Sequence[str], request: Request) -> str | None:
    """The column of the caption, likewise; FIRST_NUMBERED stands for all that are numbered."""
    names = (request.caption_column,) if request.caption_column else (*CAPTIONS, _COMMENT, FIRST_NUMBERED)
    return next((name for name in names if name in columns), None)


def columns_of(file: Path) -> list[str]:
    """The columns of a table of which it is not known what they mean: by the delimiter that gives most."""
    return max((read_header(file, delimiter) for delimiter in DELIMITERS), key=len)


@dataclass(frozen=True)
class _Read:
    """Several passes may go on at once, each with its own memory of what it has seen."""

    table: Table
    place: Place

    def read(self) -> Iterator[Sample | Failure]:
        """Entries in the order of rows."""
        reader = RowReader(self.place.root, self.table.image, self.table.caption)
        beside = self.table.file.parent.resolve().relative_to(self.place.root).as_posix()
        for where, row in self.table.rows():
            if isinstance(row, RecordError):
                yield Failure(where, row.stage, str(row))
            else:
                yield from reader.entries((beside, self.place.folder), where, row)


def _captions(cell: str) -> str | list[str]:
    """A cell's captions: a JSON list of texts, else the text itself."""
    if not cell.startswith("["):
        return cell
    try:
        several = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return several if isinstance(several, list) and all(isinstance(text, str) for text in several) else cell
