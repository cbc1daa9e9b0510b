"""What an input holds that no source reads as it is, and how to name it: the message when nothing fits."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from mmel_cli.data import coco, table
from mmel_cli.data.base import Request
from mmel_cli.data.metadata import NAMES
from mmel_cli.data.paths import is_image, resolve, shown, walk
from mmel_cli.errors import RecordError, UsageError

LAYOUTS = "metadata.csv or metadata.jsonl, COCO captions, a table, or tar shards"
_CLUES = 3
_LOOKED_AT = 10_000  # files


def unrecognised(request: Request) -> str:
    """One line: what there is, and what to do."""
    path = shown(str(request.path))
    clues = list(islice(_folder(request) if request.path.is_dir() else _file(request), _CLUES))
    return f"{path}: {'; '.join(clues)}" if clues else f"{path}: holds no images and no captions; give {LAYOUTS}"


def _folder(request: Request) -> Iterator[str]:
    path = request.path
    for file in table.table_files(path):
        yield f"{shown(file.name)} {_columns(file, request)}"
    yield from _json(path)
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in (*table.SUFFIXES, ".json", ".tar") and not file.is_dir():
            yield from _refused(path, file.name)
    files = list(islice(walk(path), _LOOKED_AT))
    yield from _deeper(files)
    for file in sorted(path.glob("*.jsonl")):
        yield f"{shown(file.name)} is read if it is named {NAMES[1]}, or given itself as INPUT"
    pictures = sum(is_image(name) for name in files)
    if pictures:
        wanted = _wanted(request)
        what = (
            f"no {wanted}"
            if wanted
            else f"no captions for them; put a.txt beside a.jpg, give {LAYOUTS}, or say --prompts"
        )
        yield f"holds images but {what}"
    kinds = Counter(PurePosixPath(name).suffix.lower() or "files without a suffix" for name in files)
    listed = ", ".join(f"{kind} ({number})" for kind, number in kinds.most_common(5))
    if not pictures:
        yield f"holds no images{f' but {shown(listed)}' if listed else ''}; give {LAYOUTS}"


def _json(path: Path) -> Iterator[str]:
    """JSON files that are no captions of COCO."""
    for name in coco.json_files(path):
        if coco.holds(path / name, (b'"images"', b'"annotations"')):
            yield f"{shown(name)} has annotations without captions; give COCO's captions_*.json"
        else:
            yield f"{shown(name)} is no COCO captions JSON; write it as a table"


def _deeper(files: list[str]) -> Iterator[str]:
    """Tables that do not lie at the top."""
    for name in files:
        if "/" in name and PurePosixPath(name).suffix.lower() in (*table.SUFFIXES, ".jsonl"):
            yield f"{shown(name)} lies deeper; give it, or its folder, as INPUT"


def _refused(folder: Path, name: str) -> Iterator[str]:
    """Why a file is not even looked at."""
    try:
        resolve(folder, name)
    except RecordError as error:
        yield str(error)


def _wanted(request: Request) -> str:
    """What options ask for that is not there."""
    given = {"--caption-column": request.caption_column, "--image-column": request.image_column}
    options = " or ".join(f"{option} {shown(column)}" for option, column in given.items() if column is not None)
    return f"metadata.csv, metadata.jsonl, table or tar shard for {options}" if options else ""


def _file(request: Request) -> Iterator[str]:
    path, suffix = request.path, request.path.suffix.lower()
    if suffix in (*table.SUFFIXES, ".txt"):
        yield _columns(path, request)
    elif suffix == ".parquet":
        yield "is Parquet, which is not read; write it as CSV, with a column that names the image files"
    elif suffix in (".zip", ".7z", ".rar"):
        yield "is a packed archive; unpack it, and give the folder"
    else:
        yield f"is no image and no data that mmel reads ({LAYOUTS}); give the folder that holds it"


def _columns(file: Path, request: Request) -> str:
    """What a table lacks."""
    try:
        columns = table.columns_of(file)
    except UsageError as error:
        return str(error)
    lacking = [] if table.image_column(columns, request) else ["--image-column"]
    lacking += [] if table.caption_column(columns, request) else ["--caption-column"]
    listed = shown(", ".join(columns)) or "without a name"
    return f"has the columns {listed}; name one with {' and one with '.join(lacking)}"
