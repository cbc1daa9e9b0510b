"""Every image of an input with every text of a list, in the place of its captions (--prompts)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mmel_cli.data.base import Read, Request, Source
from mmel_cli.data.captions import check_caption
from mmel_cli.data.paths import record_id, shown
from mmel_cli.data.records import Seen
from mmel_cli.data.rows import check_encoding
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.names import count
from mmel_cli.types import Failure, Sample

_MAX_BYTES = 1 << 20  # of the file; run.yaml keeps its texts


def read_prompts(path: Path) -> tuple[str, ...]:
    """The texts of a file, one a line, in order; blank lines say nothing.

    Raises:
        UsageError: if it cannot be read, is not UTF-8, holds no text or over 1 MB; or by line number, for a text that
            is no caption or is there twice.
    """
    name = f"--prompts {shown(str(path))}"
    if not path.is_file():
        raise UsageError(f"{name}: is no file; give a text file, one prompt a line")
    check_encoding(path)
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise UsageError(f"{name}: is over {_MAX_BYTES} bytes; give fewer prompts")
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not UTF-8; convert the file") from error
    numbers: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text = check_caption(line, f"line {number}")
        except RecordError as error:
            raise UsageError(f"{name}: {error}") from error
        if text in numbers:
            raise UsageError(f"{name}: line {number} repeats line {numbers[text]} ({shown(text)}); take one out")
        numbers[text] = number
    if not numbers:
        raise UsageError(f"{name}: holds no text; give one prompt a line")
    return tuple(numbers)


def refuse_captions(request: Request) -> None:
    """Refuse the options that say what captions are.

    Raises:
        UsageError: naming the option.
    """
    for option, value in (("--caption", request.caption), ("--caption-column", request.caption_column)):
        if value is not None:
            raise UsageError(f"{option} goes with captions, and --prompts takes their place; leave one out")


def prompted(source: Source, texts: tuple[str, ...]) -> Source:
    """An input whose images are explained for these texts."""
    decides = {"prompts (SHA-256)": hashlib.sha256(json.dumps(texts).encode()).hexdigest()}
    layout = f"{source.layout}; each image with {count(len(texts), 'prompt')}"
    return replace(source.changed(layout, lambda read: _Prompted(read, texts)), decides=source.decides | decides)


@dataclass(frozen=True)
class _Prompted:
    """Captions, masks, boxes and phrases of the input are of its captions, and do not apply."""

    read: Read
    texts: tuple[str, ...]

    def __call__(self) -> Iterator[Sample | Failure]:
        """Each distinct image once, where it first stands, with every text in order.

        What is wrong with a caption is no fault here; an image that cannot be read stays a failure.
        """
        seen = Seen()
        for entry in self.read():
            image = (entry.image, entry.ref) if isinstance(entry, Sample) else entry.image
            if image is None:
                yield entry
                continue
            name, ref = image
            if not seen.is_new(name):
                continue
            for number, text in enumerate(self.texts):
                yield Sample(record_id(name, number), name, ref, text)
