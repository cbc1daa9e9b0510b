"""failures.jsonl: which pairs failed, and why."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import IO

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
            line = {"id": failure.id, "stage": failure.stage, "error": failure.error}
            self._file.write(json.dumps(line, ensure_ascii=True) + "\n")
            self.stages[failure.stage] += 1
            self.without_caption += failure.error.startswith("no caption")
        if failures:
            self._file.flush()
            os.fsync(self._file.fileno())


def read_failures(folder: Path) -> list[Failure]:
    """The failures of the last call."""
    lines = (folder / NAME).read_text("utf-8").splitlines()
    return [Failure(**json.loads(line)) for line in lines]
