"""HuggingFace imagefolder: metadata.csv or metadata.jsonl, one row an image or a caption."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmel_cli.data.base import Request, Source, refuse_caption
from mmel_cli.data.captions import NO_CAPTION
from mmel_cli.data.paths import images, readable_image, record_id, resolve, shown, walk
from mmel_cli.data.records import CAPTIONS, FIRST_NUMBERED, RowReader
from mmel_cli.data.rows import check_encoding, check_header, read_rows
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, Sample

NAMES = ("metadata.csv", "metadata.jsonl")
PARQUET = "metadata.parquet"
IMAGE_COLUMN = "file_name"


def recognise(request: Request) -> Source | None:
    """A folder with metadata.csv or metadata.jsonl, in it or deeper; or such a file itself (any .jsonl)."""
    path = request.path
    itself = path.name in NAMES or path.suffix == ".jsonl"
    files = _find(path) if path.is_dir() else (path.name,) * itself
    if not files:
        return None
    refuse_caption(request)
    root, image_column = request.folder, request.image_column or IMAGE_COLUMN
    _check_columns(root, files, image_column, request)
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    metadata = Metadata(root, files, image_column, request.caption_column, whole=path.is_dir())
    return Source(request, f"HuggingFace imagefolder ({shown(files[0])}{more})", metadata.read)


@dataclass(frozen=True)
class Metadata:
    """The metadata files of a folder (relative paths), the image column, and the caption column if the user named one.

    `whole`: the input is the folder, so that an image which no row names is a failure.
    """

    root: Path
    files: tuple[str, ...]
    image_column: str
    caption_column: str | None
    whole: bool

    def read(self) -> Iterator[Sample | Failure]:
        """Entries in the order of rows, then a failure for each image file that no row names."""
        reader = RowReader(self.root, self.image_column, self.caption_column)
        for file in self.files:
            for where, row in read_rows(self.root / file, file):
                if isinstance(row, RecordError):
                    yield Failure(where, row.stage, str(row))
                else:
                    yield from reader.entries((PurePosixPath(file).parent.as_posix(),), where, row)
        of = shown(", ".join(self.files))
        for name in images(self.root) if self.whole else ():
            if isinstance(name, Failure):
                yield name
            elif not reader.seen.named(name):
                error = f"{NO_CAPTION}: no row of {of} names it"
                yield Failure(record_id(name, 0), "pair", error, readable_image(self.root, name))


def _find(root: Path) -> tuple[str, ...]:
    """The metadata files of a folder, relative and sorted.

    Raises:
        UsageError: if kinds are mixed, the only kind is Parquet, or one is no regular file inside the folder.
    """
    files = tuple(name for name in walk(root) if PurePosixPath(name).name in (*NAMES, PARQUET))
    kinds = sorted({PurePosixPath(name).name for name in files})
    if len(kinds) > 1:
        raise UsageError(f"{root}: has both {' and '.join(kinds)}; keep one kind")
    if kinds == [PARQUET]:
        raise UsageError(f"{root}: {shown(files[0])} is Parquet, which is not read; write it as metadata.csv or .jsonl")
    for name in files:
        try:
            resolve(root, name)
        except RecordError as error:
            raise UsageError(f"{root}: {error}") from error
    return files


def _check_columns(root: Path, files: tuple[str, ...], image_column: str, request: Request) -> None:
    """Read rows until an image and, unless there are prompts, a caption column have turned up.

    Raises:
        UsageError: if no row of any file has them, or a file is no text.
    """
    columns: dict[str, None] = {}
    caption_column = request.caption_column
    for file in files:
        check_encoding(root / file)
        check_header(root / file)
        for _, row in read_rows(root / file, file):
            if isinstance(row, RecordError):
                continue
            columns.update(dict.fromkeys(row))
            named = (caption_column,) if caption_column else (*CAPTIONS, FIRST_NUMBERED)
            if image_column in columns and (request.prompts or any(name in columns for name in named)):
                return
    place = shown(str(root / files[0]))
    if not columns:
        raise UsageError(f"{place}: holds no readable row")
    listed = shown(", ".join(columns))
    if image_column not in columns:
        raise UsageError(f"{place}: has no column {image_column} but {listed}; name that of images with --image-column")
    wanted = f"column {caption_column!r}" if caption_column else f"caption column ({', '.join(CAPTIONS)})"
    raise UsageError(f"{place}: has no {wanted} but {listed}; name one with --caption-column")
