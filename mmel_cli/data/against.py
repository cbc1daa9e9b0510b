"""What each caption of an input is explained against (--against): one text, or another caption of the same image."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from mmel_cli.data.base import Read, Source
from mmel_cli.data.captions import check_caption
from mmel_cli.data.paths import shown
from mmel_cli.data.records import Seen
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, Sample


def against_text(source: Source, text: str) -> Source:
    """An input whose captions are explained against one text.

    Raises:
        UsageError: if that is no caption.
    """
    try:
        checked = check_caption(text, "--against")
    except RecordError as error:
        raise UsageError(str(error)) from error
    layout = f"{source.layout}; against {shown(checked)!r}"
    return source.changed(layout, lambda read: _AgainstText(read, checked))


def against_other(source: Source) -> Source:
    """An input whose captions are explained against the next other caption of their image, the last against the first.

    It is the next in the input whose text is another, wherever that stands.
    """
    return source.changed(f"{source.layout}; against other captions", _AgainstOther)


@dataclass(frozen=True)
class _AgainstText:
    read: Read
    text: str

    def __call__(self) -> Iterator[Sample | Failure]:
        """A caption that is the text itself is a failure: the difference would be 0 everywhere."""
        for entry in self.read():
            if isinstance(entry, Failure):
                yield entry
            elif entry.caption == self.text:
                yield Failure(
                    entry.id, "pair", "its caption is the text of --against itself: nothing is left to explain"
                )
            else:
                yield replace(entry, against=self.text)


@dataclass(frozen=True)
class _AgainstOther:
    read: Read

    def __call__(self) -> Iterator[Sample | Failure]:
        """Captions of an image that follow each other are in memory together; failures come out as they stand."""
        group: list[Sample] = []
        for entry in self.read():
            if isinstance(entry, Failure):
                yield entry
                continue
            if group and entry.image != group[0].image:
                yield from self._paired(group)
                group = []
            group.append(entry)
        yield from self._paired(group)

    def _paired(self, group: list[Sample]) -> Iterator[Sample | Failure]:
        ring = self._apart.get(group[0].image) if group else None
        ring = ring or list(dict.fromkeys(sample.caption for sample in group))
        places = {caption: number for number, caption in enumerate(ring)}
        for sample in group:
            if len(ring) < 2:
                error = "its image has no other caption to be explained against; give --against TEXT"
                yield Failure(sample.id, "pair", error)
            else:
                yield replace(sample, against=ring[(places[sample.caption] + 1) % len(ring)])

    @cached_property
    def _apart(self) -> dict[str, list[str]]:
        """The distinct captions of images whose captions do not follow each other: passes of their own over the names.

        They are in memory, and the images' names with them; of all others, 8 bytes an image.
        """
        begun, apart, last = Seen(), dict[str, dict[str, None]](), ""
        for sample in self._samples():
            if sample.image != last and not begun.is_new(sample.image):
                apart[sample.image] = {}
            last = sample.image
        for sample in self._samples() if apart else ():
            if sample.image in apart:
                apart[sample.image][sample.caption] = None
        return {image: list(captions) for image, captions in apart.items()}

    def _samples(self) -> Iterator[Sample]:
        return (entry for entry in self.read() if isinstance(entry, Sample))
