"""Where pictures are drawn: in threads, or in processes of their own, which no interpreter lock holds up."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Self

from mmel_cli.runs.clock import Beside, Clock

Work = Callable[..., float]
"""Draws and writes; the seconds that it took. A function of a module, so that processes know it by its name."""


@dataclass
class Drawing:
    """Does what it is given in threads, or in `processes`; a context manager.

    Where a process dies, what it had is done again in threads, and so is all that comes after.

    Args:
        threads: the run's pool.
        processes: how many; 0: none.
        say: told if a process dies.
        clock: where the time goes.
    """

    threads: ThreadPoolExecutor
    processes: int = 0
    say: Callable[[str], None] = lambda _text: None
    clock: Clock = field(default_factory=Clock)
    _pool: ProcessPoolExecutor | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        if self.processes:
            context = multiprocessing.get_context("spawn")  # a forked child would hold locks of threads that it has not
            self._pool = ProcessPoolExecutor(self.processes, context, initializer=_begin)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, work: Work, *what: Any) -> "Drawn":
        """Begin; `Drawn.result` waits for the end."""
        if self._pool is None:
            return Drawn(self, self.threads.submit(work, *what), work, what)
        try:
            return Drawn(self, self._pool.submit(work, *what), work, what)
        except BrokenProcessPool:
            return Drawn(self, self.in_threads().submit(work, *what), work, what)

    def in_threads(self) -> Executor:
        """From now on, since a process died."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None
                self.say("Warning: a process that draws pictures ended early; threads draw from now on")
        return self.threads


@dataclass(frozen=True)
class Drawn:
    """What was begun."""

    drawing: Drawing
    future: Future[float]
    work: Work
    what: tuple[Any, ...]

    def result(self) -> None:
        """Wait for its end.

        Raises:
            OSError: if it cannot be written.
        """
        try:
            seconds = self.future.result()
        except (BrokenProcessPool, CancelledError):  # cancelled when another one broke
            seconds = self.drawing.in_threads().submit(self.work, *self.what).result()
        self.drawing.clock.beside_it(Beside.DRAW, seconds)


def _begin() -> None:
    """Of a process: Ctrl-C is for the one that started it, and it does not outlive that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_until_alone, daemon=True).start()


def _until_alone() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
