"""A rank as a process: started, spoken with in lines, stopped; it ends once whoever started it is gone."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmel_cli.sections import WorkersConfig

_START = """import sys
if sys.argv[1] not in sys.path:
    sys.path.insert(0, sys.argv[1])
from mmel_cli.pipelines.{module} import main
main()"""  # this package, and nothing that lies in the working folder
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a rank starts with these blocked
_PATIENCE = 60  # seconds for a process to end
_OWN = ("RANK", "WORLD_SIZE", "SLURM_ARRAY_TASK_ID")  # which rank the starter is, and no business of this one


@dataclass(frozen=True)
class Said:
    """What came of a rank since it was asked last: lines of JSON, whether it goes on, and how it ended."""

    lines: list[str]
    running: bool
    ending: str = ""


class Asked(Protocol):
    """The part of a configuration that says which ranks there are, and on what."""

    @property
    def ranks(self) -> WorkersConfig:
        """How many, and what starts them."""

    @property
    def device(self) -> str:
        """Of all of them."""


class RankProcess:
    """A process that takes a part of some work; its environment is this process's, but for what is given.

    Args:
        module: of this package; its `main` is what the process runs.
        work: what it does: the first line that it reads.
        environment: variables that it gets besides.
        cores: those that it may run on; none: all.
    """

    def __init__(
        self,
        module: str,
        work: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        cores: Sequence[int] = (),
    ) -> None:
        self._process = _start(module, environment or {})
        self.tell(json.dumps(dict(work) | {"cores": list(cores)}))
        self._lines = deque[str]()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def poll(self) -> Said:
        """What it has said since the last call."""
        running = self._process.poll() is None
        if not running:
            self._listener.join()
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        return Said(lines, running, "" if running else _ending(self._process.returncode))

    def tell(self, line: str) -> None:
        """A line to it, if it is still there. Until stdin ends it knows that this process is."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """Let it know that nobody listens any more, and see it end: it commits what it has."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def stop(self, number: int) -> None:
        """Pass a signal on."""
        self._process.send_signal(number)

    def _listen(self) -> None:
        self._lines.extend(self._process.stdout or ())


def _start(module: str, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """A process that runs `main` of a module beside this one, and speaks with whoever started it in lines of UTF-8.

    Args:
        module: its name in this package.
        environment: variables that it gets besides those of this process.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _OWN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the process has them blocked until it can heed them
    try:
        return _opened(module, kept | dict(environment))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _opened(module: str, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 - this interpreter, this package
        [sys.executable, "-P", "-c", _START.format(module=module), str(Path(__file__).parents[2])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=dict(environment),
        start_new_session=True,  # so that Ctrl-C comes to it from here, and once
    )


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
