"""Runs scored by several processes: each takes every n-th batch, and what they say is taken in the input's order.

Batches are cut as one process cuts them, and the logs are written here alone, batch after batch: they are those of one
process at any moment, whatever becomes of a rank. Processes speak in lines of JSON; scoring_process is the other end.
"""

import json
import os
import time
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from mmel_cli.config import EvalConfig
from mmel_cli.errors import MmelError
from mmel_cli.idsets import IdSet
from mmel_cli.pipelines import scores
from mmel_cli.pipelines.measure import Measured
from mmel_cli.pipelines.origin import find_input
from mmel_cli.pipelines.subjects import missing
from mmel_cli.pipelines.workers import Worker, error_of, start_workers
from mmel_cli.runs import Events
from mmel_cli.runs.together import Common, Opened

_POLL = 0.02  # seconds


@dataclass
class _Rank:
    """A rank, and what it is called in messages."""

    name: str
    worker: Worker
    _lines: deque[str] = field(default_factory=deque)

    def tell(self, **said: object) -> None:
        """A line to it."""
        self.worker.tell(json.dumps(said))

    def hear(self, events: Events | None, *keys: str) -> dict[str, Any]:
        """What it says next of one of these keys; messages until then go to `events`.

        Raises:
            MmelError: if it ends before, with what it said or how it ended.
        """
        for line in self._heard():
            try:
                said = json.loads(line)
            except ValueError:  # of a library
                continue
            if not isinstance(said, dict):
                continue
            if any(key in said for key in keys):
                return said
            if "error" in said:
                raise error_of(said["error"])
            if "message" in said and events is not None:
                events.message(said["message"])
        raise AssertionError  # _heard ends with an error alone

    def _heard(self) -> Iterator[str]:
        """Its lines as they come."""
        while True:
            while self._lines:
                yield self._lines.popleft()
            said = self.worker.poll()
            self._lines.extend(said.lines)
            if not said.lines and not said.running:
                raise MmelError(
                    f"{self.name} ended early ({said.ending}); what is scored is saved, so run the same command again "
                    "to go on"
                )
            if not said.lines:
                time.sleep(_POLL)


class ScoringRanks:
    """The ranks that a configuration asks for; they end with the block.

    Args:
        runs: all runs of the evaluation, in the order in which they will be scored.
        names: of the numbers to score.
        config: says how many.
        events: takes what the first of them says, as all say the same.
    """

    def __init__(self, runs: Sequence[Opened], names: Sequence[str], config: EvalConfig, events: Events) -> None:
        self._config, self._events = config, events
        work = {"runs": [str(run.path) for run in runs], "names": list(names), "config": config.plain()}
        work["folder"] = os.getcwd()  # noqa: PTH109 - what relative paths are relative to
        self._workers = start_workers("scoring_process", work, config)  # none anew: it would not know what was agreed
        self._ranks: list[_Rank] = []

    def __enter__(self) -> Self:
        names = (f"rank {rank} of {self._config.ranks.count}" for rank in count())
        self._ranks = [_Rank(name, worker) for name, worker in zip(names, self._workers.__enter__(), strict=False)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    def of(self, run: Opened, wanted: Common, folder: Path) -> "_RankedScoring":
        """Of the next run; `folder` is that of the evaluation."""
        return _RankedScoring(run, wanted, folder, self._config, self._ranks, self._events)


@dataclass(frozen=True)
class _RankedScoring:
    """One run (scoring.Scorer)."""

    run: Opened
    wanted: Common
    folder: Path
    config: EvalConfig
    ranks: Sequence[_Rank]
    events: Events

    def refusals(self) -> dict[str, str]:
        """See Scorer; all ranks find the same."""
        said = [rank.hear(self._of(rank), "refused")["refused"] for rank in self.ranks]
        return cast("dict[str, str]", said[0])

    def batches(self, done: Mapping[str, Container[str]]) -> Iterator[Measured]:
        """See Scorer."""
        paths = {family: scores.log_path(self.folder, self.run, family) for family in done}
        for rank in self.ranks:
            rank.tell(logs={family: str(path.resolve()) for family, path in paths.items()})
        for number in count():
            rank = self.ranks[number % len(self.ranks)]
            said = rank.hear(self._of(rank), "batch", "end")
            if "end" in said:
                break
            yield Measured.of(said["batch"])
        for other in self.ranks:  # no batch comes after one that is not there
            if other is not rank:
                other.hear(self._of(other), "end")
        source = find_input(self.run.path, self.run.archive.info, self.config.data)
        seen = IdSet(sample.id for sample in source.samples())
        for failures in missing(self.run.archive, source, self.wanted, seen, scores.DoneInAll(list(done.values()))):
            yield Measured({}, failures, 0)

    def _of(self, rank: _Rank) -> Events | None:
        return self.events if rank is self.ranks[0] else None
