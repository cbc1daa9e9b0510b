"""The contract of a source: how the user names an input, and what one that was recognised gives."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mmel_cli.data.paths import shown
from mmel_cli.errors import UsageError
from mmel_cli.types import Failure, Sample


@dataclass(frozen=True)
class Request:
    """An input as the user names it."""

    path: Path
    caption: str | None = None  # of a single image
    caption_column: str | None = None  # of a table
    image_column: str | None = None  # of a table
    prompts: tuple[str, ...] = ()  # texts that every image is explained for, whatever captions there are
    against: str | None = None  # the text that every caption is explained against
    against_other: bool = False  # or the next other caption of the image

    @property
    def folder(self) -> Path:
        """The folder itself, or the one that holds the file."""
        return self.path if self.path.is_dir() else self.path.parent


Read = Callable[[], Iterator[Sample | Failure]]


@dataclass(frozen=True)
class Source:
    """A stream of pairs that can be read again, written down (`plain`) and opened again (`source.reopen`)."""

    request: Request
    layout: str  # how the input was recognised, in a line
    read: Read
    name: str = ""  # in SOURCES; open_source fills it in
    decides: dict[str, str] = field(default_factory=dict)  # what decides numbers besides the settings, by its name
    pieces: tuple[Read, ...] = ()  # where reading can begin: one after the other they give what `read` gives

    def __iter__(self) -> Iterator[Sample | Failure]:
        return self.read()

    @property
    def parts(self) -> tuple[Read, ...]:
        """Its pieces; an input that can only be read from its beginning is one."""
        return self.pieces or (self.read,)

    def changed(self, layout: str, change: Callable[[Read], Read]) -> "Source":
        """With other entries. No image, and so nothing that a change remembers, is in two pieces of an input."""
        return replace(self, layout=layout, read=change(self.read), pieces=tuple(map(change, self.pieces)))

    def plain(self) -> dict[str, Any]:
        """What run.yaml keeps: the name in SOURCES, the resolved path, the layout, and the options that were given."""
        given = {name: value for name, value in asdict(self.request).items() if value not in (None, (), False)}
        given |= {"prompts": list(self.request.prompts)} if self.request.prompts else {}
        return {"source": self.name} | given | {"path": str(resolved(self.request.path)), "layout": self.layout}


Recognise = Callable[[Request], Source | None]
"""Looks at an input that exists: its Source, None if it is of another kind; UsageError if it is, but not readable."""

OPTIONS = tuple(item.name for item in fields(Request) if item.name not in ("path", "prompts"))


def resolved(path: Path) -> Path:
    """The absolute path; a file keeps its own name, since one in HuggingFace's cache is a link to a nameless blob."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def refuse_caption(request: Request) -> None:
    """Refuse --caption, which goes with one image."""
    if request.caption is not None:
        kind = "a folder" if request.path.is_dir() else "a file of many"
        raise UsageError(
            f"--caption goes with one image, and {shown(str(request.path))} is {kind}; put captions into metadata.jsonl"
        )


def refuse_columns(request: Request, what: str, *, caption: bool = True) -> None:
    """Refuse --image-column, and --caption-column unless that has a meaning, for an input that is `what`."""
    if request.image_column is not None:
        raise UsageError(f"--image-column goes with a table, and {shown(str(request.path))} is {what}; leave it out")
    if caption and request.caption_column is not None:
        raise UsageError(f"--caption-column goes with a table, and {shown(str(request.path))} is {what}; leave it out")
