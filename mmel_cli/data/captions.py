"""What may be a caption."""

from pathlib import Path

from mmel_cli.data.paths import is_storable, shown
from mmel_cli.errors import RecordError

MAX_BYTES = 100_000
NO_CAPTION = "no caption"


def check_caption(value: object, where: str) -> str:
    """A caption as text, stripped.

    Raises:
        RecordError: stage "pair"; the message begins with NO_CAPTION if there is none.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RecordError("pair", f"{NO_CAPTION}: {where} gives none")
    if not isinstance(value, str):
        raise RecordError("pair", f"caption in {where} is {type(value).__name__}, not text")
    if not is_storable(value):
        what = "is not UTF-8, or holds a NUL or half a surrogate pair, which HDF5 cannot store"
        raise RecordError("pair", f"caption in {where} {what}")
    if len(value.encode()) > MAX_BYTES:
        raise RecordError("pair", f"caption in {where} is over {MAX_BYTES} bytes")
    return value.strip()


def first_line(path: Path) -> str:
    """The first line of a sidecar file, checked as a caption.

    Raises:
        RecordError: stage "pair".
    """
    try:
        with path.open("rb") as file:
            start = file.read(MAX_BYTES + 4)
    except OSError as error:
        raise RecordError("pair", f"{shown(str(path))}: cannot be read ({error.strerror})") from error
    return check_caption(decoded_line(start, str(path)), shown(path.name))


def decoded_line(start: bytes, name: str) -> str:
    """The first line of a text file that begins so, without a byte order mark.

    Args:
        start: a few bytes more than MAX_BYTES are enough.
        name: what messages call the file.

    Raises:
        RecordError: stage "pair", if it is not UTF-8.
    """
    line = start.split(b"\n", 1)[0]
    errors = "strict" if len(line) <= MAX_BYTES else "replace"  # it is refused as too long, wherever it was cut
    try:
        return line.decode("utf-8-sig", errors).rstrip("\r")
    except UnicodeDecodeError as error:
        raise RecordError("pair", f"{shown(name)}: caption is not UTF-8; convert the file") from error
