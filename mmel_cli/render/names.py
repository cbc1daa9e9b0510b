"""File names made from record ids and names of images: readable, safe, unique."""

import hashlib
import re
from pathlib import PurePosixPath

from mmel_cli.render.options import PictureFormat

ENDINGS: dict[PictureFormat, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
MAX_BYTES = 200
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def picture_name(record_id: str, file_format: PictureFormat = "png") -> PurePosixPath:
    """The picture of a record, relative: folders kept, other characters than [A-Za-z0-9._-] replaced.

    At most 200 bytes, as WebP one more: names in two formats differ in their ends alone.
    Eight hex digits of the id's SHA-256 keep names apart, also where file systems ignore case.
    """
    digest = hashlib.sha256(record_id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    parts = [part for part in record_id.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    *folders, stem = [_safe(part) for part in parts] or ["_"]
    ending = f".{digest}.png"
    room = MAX_BYTES - len(ending)
    while folders and len("/".join([*folders, stem])) > room:
        folders.pop(0)
    return PurePosixPath(*folders, stem[:room] + ending).with_suffix(ENDINGS[file_format])


def photo_name(image: str) -> PurePosixPath:
    """The JPEG of an image, relative, made from its name in the same way."""
    return picture_name(image).with_suffix(".jpg")


def _safe(part: str) -> str:
    """One component: no leading dot, no trailing dot, no device name."""
    clean = _UNSAFE.sub("_", part).strip(".") or "_"
    return f"_{clean}" if _RESERVED.match(clean) else clean
