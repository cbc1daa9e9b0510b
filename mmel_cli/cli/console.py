"""What people see: messages and progress on stderr, results on stdout. No text is ever parsed as markup."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.style import Style
from rich.text import Text

PLAIN_SECONDS = 5.0
Rgb = tuple[int, int, int]


class Reporter(Protocol):
    """Receives what a run tells while it goes on."""

    def message(self, text: str) -> None: ...  # noqa: D102
    def total(self, count: int) -> None: ...  # noqa: D102
    def progress(self, done: int, failed: int) -> None: ...  # noqa: D102


def say(text: str) -> None:
    """One line on stderr."""
    Console(stderr=True, markup=False, highlight=False, soft_wrap=True).print(_clean(text))


def error(text: str, code: int, kind: str, *, json: bool) -> None:
    """One error line on stderr; with `json` also the one document on stdout."""
    say(f"Error: {text}")
    if json:
        document({"error": {"message": _clean(text), "kind": kind, "exit_code": code}})


def result(text: str) -> None:
    """A line on stdout."""
    Console(markup=False, highlight=False, soft_wrap=True).print(_clean(text))


def document(value: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


@dataclass(frozen=True)
class Screen:
    """What stdout can show: characters a line, colours, and characters beyond ASCII."""

    width: int
    colour: bool
    blocks: bool


def screen() -> Screen:
    """Of stdout now; without a terminal there are no colours."""
    console = Console()
    colour = console.is_terminal and not console.no_color and console.color_system is not None
    return Screen(console.width, colour and not _ascii(console), not _ascii(console))


def drawing(lines: list[list[tuple[str, Rgb | None, Rgb | None]]]) -> None:
    """Lines of single characters on stdout, each with the colours of its upper and lower half."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for line in lines:
        text = Text()
        for character, upper, lower in line:
            text.append(character, _style(upper, lower))
        console.print(text)


def cells(text: str) -> int:
    """How many columns a text takes when it is printed."""
    return cell_len(_clean(text))


@contextmanager
def reporter(doing: str = "Explaining", things: str = "pairs") -> Iterator[Reporter]:
    """A progress bar with rate and ETA on a terminal, else a plain line every few seconds."""
    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        lines = _Lines(things)
        yield lines
        lines.close()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, _Rate(things), TimeRemainingColumn(), console=console) as progress:
        yield _Bar(progress, doing)


class _Rate(ProgressColumn):
    """Things per second and failures so far."""

    def __init__(self, things: str) -> None:
        super().__init__()
        self._things = things

    def render(self, task: Task) -> Text:
        failed = task.fields["failed"]
        return Text(
            f"{task.finished_speed or task.speed or 0:.1f} {self._things}/s" + (f", {failed} failed" if failed else "")
        )


class _Bar:
    def __init__(self, progress: Progress, doing: str) -> None:
        self._progress = progress
        self._task = progress.add_task(doing, total=None, failed=0)
        self._failed = 0

    def message(self, text: str) -> None:
        self._progress.console.print(Text(_clean(text)))

    def total(self, count: int) -> None:
        self._progress.update(self._task, total=count)

    def progress(self, done: int, failed: int) -> None:
        self._failed += failed
        self._progress.update(self._task, advance=done + failed, failed=self._failed)


class _Lines:
    def __init__(self, things: str) -> None:
        self._things = things
        self._started = self._last = time.monotonic()
        self._done = self._failed = 0
        self._total: int | None = None

    def message(self, text: str) -> None:
        say(text)

    def total(self, count: int) -> None:
        self._total = count

    def progress(self, done: int, failed: int) -> None:
        self._done += done
        self._failed += failed
        if time.monotonic() - self._last >= PLAIN_SECONDS:
            self.close()

    def close(self) -> None:
        """Print where the run stands."""
        self._last = time.monotonic()
        seen = self._done + self._failed
        if not seen:
            return
        rate = seen / max(self._last - self._started, 1e-9)
        left = f", {(self._total - seen) / rate:.0f} s left" if self._total is not None else ""
        total = f"/{self._total}" if self._total is not None else ""
        say(f"{seen}{total} {self._things}, {self._failed} failed, {rate:.1f} {self._things}/s{left}")


def _style(upper: Rgb | None, lower: Rgb | None) -> Style | None:
    if upper is None or lower is None:
        return None
    return Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))


def _ascii(console: Console) -> bool:
    return not console.encoding.lower().startswith("utf")


def _clean(text: str) -> str:
    """Without control characters: ids and captions may carry terminal escapes."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
