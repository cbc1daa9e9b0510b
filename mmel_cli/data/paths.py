"""Which files of a folder may be read, and what records are called."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, ImageRef

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2"))
_MAX_SHOWN = 300
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_CACHED = ("datasets--", "models--", "spaces--")  # how HuggingFace's cache names a repository


def shown(text: str) -> str:
    """Untrusted text for a message: one line, control characters and half surrogate pairs escaped, cut when long."""
    cut = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def is_storable(text: str) -> bool:
    """Whether HDF5 can hold the text: no NUL, no half surrogate pair (a byte that was not UTF-8 becomes one)."""
    return _UNSTORABLE.search(text) is None


def walk(root: Path) -> Iterator[str]:
    """Every file below `root`, relative with forward slashes, sorted folder by folder; hidden names are skipped.

    Links to folders are not followed; they come out like files.

    Raises:
        UsageError: if a folder cannot be listed.
    """
    pending = [""]  # a stack and no recursion, since folders can be nested deeper than calls
    while pending:
        name = pending.pop()
        if name and not name.endswith("/"):
            yield name
            continue
        try:
            pending += reversed(_entries(root, name))
        except OSError as error:
            where = shown(str(root / name))
            raise UsageError(f"{where}: cannot be listed ({error.strerror}); make it readable or move it") from error


def _entries(root: Path, folder: str) -> list[str]:
    """The names in a folder, sorted; those of folders end in a slash."""
    with os.scandir(root / folder) as listed:
        entries = sorted((entry for entry in listed if not entry.name.startswith(".")), key=lambda entry: entry.name)
    return [f"{folder}{entry.name}{'/' if entry.is_dir(follow_symlinks=False) else ''}" for entry in entries]


def images(root: Path) -> Iterator[str | Failure]:
    """Every image file below `root`, in `walk`'s order, and a Failure for each link to a folder outside."""
    inside = root.resolve()
    for name in walk(root):
        if is_image(name):
            yield name
        elif _leads_out(root / name, inside):
            error = f"{shown(name)}: is a link to a folder outside; refused, so move or copy the folder"
            yield Failure(escaped(name), "pair", error)


def _leads_out(path: Path, root: Path) -> bool:
    """Whether it is a link to a folder outside; the files of one inside are walked by their own names."""
    return path.is_symlink() and path.is_dir() and not path.resolve().is_relative_to(root)


def is_image(name: str) -> bool:
    """Whether a name has an image's suffix."""
    return suffix_of(name).lower() in SUFFIXES


def suffix_of(name: str) -> str:
    """As PurePosixPath.suffix, many times faster: inputs of a million names ask for it."""
    base = name[name.rfind("/") + 1 :]
    at = base.rfind(".")
    return base[at:] if 0 < at < len(base) - 1 else ""


def stem_of(name: str) -> str:
    """A name without its suffix."""
    return name[: len(name) - len(suffix_of(name))]


def resolve(root: Path, name: str) -> Path:
    """The file that `name` (relative to `root`, with forward slashes) means, if it is a regular file inside `root`.

    Raises:
        RecordError: stage "pair" if it is absolute, climbs or leads out, is no regular file, or has a name that is not
        UTF-8; stage "image" if it is missing.
    """
    if not name or not is_storable(name):
        raise RecordError("pair", f"{shown(name)!r}: is no file name in UTF-8; rename the file")
    if name.startswith("/") or ".." in name.split("/") or ":/" in name:
        what = "must be a path inside the folder; absolute paths, '..' and URLs are refused"
        raise RecordError("pair", f"{shown(name)}: {what}")
    full = root / name
    try:
        inside = _is_inside(os.path.realpath(full, strict=True), full, root)
        regular = inside and stat.S_ISREG(full.stat().st_mode)
    except FileNotFoundError as error:
        raise RecordError("image", f"{shown(str(full))}: does not exist") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        raise RecordError("pair", f"{shown(name)}: cannot be resolved ({type(error).__name__})") from error
    if not inside:
        raise RecordError("pair", f"{shown(name)}: is a link that leads out of the folder; refused")
    if not regular:
        raise RecordError("pair", f"{shown(name)}: is no regular file; refused")
    return full


def readable_image(root: Path, name: str) -> tuple[str, ImageRef] | None:
    """The image of a pair of which something else is at fault: its name and bytes; None if `resolve` refuses it."""
    try:
        return name, file_ref(resolve(root, name))
    except RecordError:
        return None


def may_be_read(root: Path, name: str) -> bool:
    """Whether `resolve` gives the file."""
    try:
        resolve(root, name)
    except RecordError:
        return False
    return True


def _is_inside(resolved: str, path: Path, root: Path) -> bool:
    """Whether `path` below `root` is there below `root`, or among the blobs of the HuggingFace cache that `root` shows.

    Such a cache keeps the bytes of `<repository>/snapshots/<revision>/<name>` in `<repository>/blobs`.
    """
    if resolved == os.path.abspath(path) and ".." not in root.parts:  # noqa: PTH100 - no link on the way
        return True
    target, root = Path(resolved), root.resolve()
    if target.is_relative_to(root):
        return True
    return any(
        shelf.name == "snapshots" and shelf.parent.name.startswith(_CACHED) and target.parent == shelf.parent / "blobs"
        for shelf in (root, *root.parents)
    )


def file_ref(path: Path) -> ImageRef:
    """The reference to an image file; its key is the path as it is given."""
    return ImageRef(str(path), partial(open_file, path))


def open_file(path: Path) -> BinaryIO:
    """Open a regular file; asked before opening, since a pipe would block for ever.

    Raises:
        RecordError: stage "image", if it is another kind of file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise RecordError("image", "is no regular file")
    return path.open("rb")


def record_id(image: str, number: int) -> str:
    """The id of an image's caption `number`, from 0."""
    return f"{escaped(image)}#{number}"


def record_seed(name: str) -> int:
    """62 bits that only the name of a record or image decides: random draws that do not depend on the batch."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 2


def escaped(name: str) -> str:
    """The name itself, or for one that is not UTF-8 a spelling that is."""
    return name.encode("utf-8", "backslashreplace").decode()
