"""failures.jsonl: which pairs failed, and why."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from mmel_cli.runs.files import write_text
from mmel_cli.types import Failure

NAME = "failures.jsonl"


class FailureLog:
    """One line a failed pair, on disk before the next batch; failures are tried again on every call."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8")
        self.stages: Counter[str] = Counter()
        self.without_caption = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def add(self, failures: list[Failure]) -> None:
        """Write and fsync."""
        for failure in failures:
            self._file.write(_line(failure))
            self.stages[failure.stage] += 1
            self.without_caption += failure.error.startswith("no caption")
        if failures:
            self._file.flush()
            os.fsync(self._file.fileno())


def write_failures(folder: Path, failures: Iterable[Failure]) -> None:
    """The log of a run as its end knows it, in the place of those that were written meanwhile."""
    write_text(folder / NAME, "".join(_line(failure) for failure in failures))


def read_failures(folder: Path, most: int) -> tuple[list[Failure], int]:
    """The first `most` failures of the last call in a run folder, and how many there are; none without a log."""
    failures: list[Failure] = []
    number = 0
    for path in sorted(folder.glob(NAME.replace(".", "*."))):
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                if len(failures) < most:
                    failures += _parsed(line)
    return failures, number


def _line(failure: Failure) -> str:
    said = {"id": failure.id, "stage": failure.stage, "error": failure.error}
    return json.dumps(said, ensure_ascii=True) + "\n"


def _parsed(line: str) -> list[Failure]:
    """The failure of a line; nothing of a line that was torn by a kill, or is none of ours."""
    try:
        said = json.loads(line)
        return [Failure(str(said["id"]), str(said["stage"]), str(said["error"]))]
    except (ValueError, KeyError, TypeError):
        return []
