"""What a caller is told while a command goes on, and how it is asked to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from mmel_cli.runs.clock import Clock


@dataclass(frozen=True)
class Events:
    """What a caller may want to know while a run goes on; every callback may be left out."""

    message: Callable[[str], None] = lambda _text: None
    total: Callable[[int], None] = lambda _count: None
    progress: Callable[[int, int], None] = lambda _done, _failed: None  # since the last call
    clock: Clock = field(default_factory=Clock)  # where the time goes, if that is asked


class Stop:
    """Set by SIGINT or SIGTERM: finish the batch, commit, and say how to go on.

    Args:
        at_once: let signals act as they do anyway, for a command that has nothing to finish.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
        self.signal: int | None = None

    def asked(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Catch both signals (in the main thread; a second one acts at once)."""
        if self._at_once or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._set) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _set(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
