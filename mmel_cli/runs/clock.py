"""Where the time of a run goes, part by part; passed along, and free while it is off (`mmel explain --profile`)."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock
from typing import TypeVar

Item = TypeVar("Item")
_NOTHING = nullcontext()


class Part(Enum):
    """What the main thread does, one at a time, in the order of a run."""

    READ = "waiting for images"
    DEVICE = "to the device"
    MODEL = "model (forward and backward)"
    METHOD = "method (evidence and maps)"
    WORDS = "words and marks"
    PICTURES = "waiting for pictures"
    ARCHIVE = "waiting for the archive"


class Beside(Enum):
    """What threads do beside it, added up over all of them."""

    DECODE = "reading, decoding and preparing images"
    DRAW = "drawing and writing pictures"
    ARCHIVE = "compressing and writing the archive"


@dataclass
class Clock:
    """Seconds by part, if it is `on`.

    Args:
        on: whether anything is measured.
        settle: returns when the device has done what it was given; called at the end of each part, so that what an
            accelerator does meanwhile counts where it was asked for.
    """

    on: bool = False
    settle: Callable[[], object] = lambda: None
    spent: dict[Part, float] = field(default_factory=dict)
    beside: dict[Beside, float] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)
    first: float | None = None  # when the first part began
    last: float | None = None  # when the last one ended
    ended: float | None = None
    _adding: Lock = field(default_factory=Lock)

    def part(self, part: Part) -> AbstractContextManager[None]:
        """What the main thread does in the block; blocks do not lie in each other."""
        return self._part(part) if self.on else _NOTHING

    def aside(self, work: Beside) -> AbstractContextManager[None]:
        """What another thread does in the block."""
        return self._aside(work) if self.on else _NOTHING

    def beside_it(self, work: Beside, seconds: float) -> None:
        """What another thread or process has done."""
        if self.on:
            with self._adding:
                self.beside[work] = self.beside.get(work, 0.0) + seconds

    def each(self, part: Part, items: Iterable[Item]) -> Iterator[Item]:
        """The items; making each of them is the part."""
        return self._each(part, iter(items)) if self.on else iter(items)

    def end(self) -> None:
        """The run is over."""
        self.ended = time.perf_counter()

    @contextmanager
    def _part(self, part: Part) -> Iterator[None]:
        started = time.perf_counter()
        self.first = started if self.first is None else self.first
        try:
            yield
        finally:
            self.settle()
            self.last = time.perf_counter()
            self.spent[part] = self.spent.get(part, 0.0) + self.last - started

    @contextmanager
    def _aside(self, work: Beside) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.beside_it(work, time.perf_counter() - started)

    def _each(self, part: Part, items: Iterator[Item]) -> Iterator[Item]:
        over = object()
        while True:
            with self.part(part):
                item = next(items, over)
            if item is over:
                return
            yield item  # type: ignore[misc]  # it is no `over`
