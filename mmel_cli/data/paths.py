"""Which files of a folder may be read, and what records are called."""

import os
from collections.abc import Iterator
from pathlib import Path

from mmel_cli.errors import RecordError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2"))


def walk(root: Path) -> Iterator[str]:
    """Every file below `root`, relative with forward slashes, sorted folder by folder; hidden names are skipped.

    Links to folders are not followed.
    """
    yield from _walk(root, "")


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name


def is_image(name: str) -> bool:
    """Whether a name has an image's suffix."""
    return Path(name).suffix.lower() in SUFFIXES


def resolve(root: Path, name: str) -> Path:
    """The file that `name` (relative to `root`) means, if it is a regular file inside `root`.

    Raises:
        RecordError: stage "pair" if it is absolute, climbs or leads out, or is no regular file; stage "image" if it
        is missing.
    """
    if "\0" in name or not name:
        raise RecordError("pair", f"{name!r} is no file name")
    path = Path(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":/" in name:
        raise RecordError(
            "pair", f"{name}: must be a path inside the folder; absolute paths, '..' and URLs are refused"
        )
    full = root / path
    try:
        inside = full.resolve(strict=True).is_relative_to(root.resolve())
    except FileNotFoundError as error:
        raise RecordError("image", f"{full}: does not exist") from error
    except (OSError, RuntimeError) as error:
        raise RecordError("pair", f"{name}: cannot be resolved ({type(error).__name__})") from error
    if not inside:
        raise RecordError("pair", f"{name}: is a link that leads out of the folder; refused")
    if not full.is_file():
        raise RecordError("pair", f"{name}: is no regular file; refused")
    return full


def record_id(image: str, number: int) -> str:
    """The id of an image's caption `number`, from 0."""
    return f"{image}#{number}"
