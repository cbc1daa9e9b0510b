"""Runs scored by several processes here: each takes every n-th batch, and what they say is taken in the input's order.

Batches are cut as one process cuts them, and the logs are written here alone, batch after batch: they are those of one
process at any moment, whatever becomes of a rank. Processes speak in lines of JSON; scoring_process is the other end.
"""

import json
import signal
import subprocess
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, Self, cast

from mmel_cli.config import EvalConfig
from mmel_cli.errors import ArchiveError, MmelError, ModelError, UsageError
from mmel_cli.idsets import IdSet
from mmel_cli.pipelines import scores
from mmel_cli.pipelines.local_ranks import placed
from mmel_cli.pipelines.measure import Measured
from mmel_cli.pipelines.origin import find_input
from mmel_cli.pipelines.rank_process import start
from mmel_cli.pipelines.subjects import missing
from mmel_cli.runs import Events
from mmel_cli.runs.together import Common, Opened

_ERRORS = {error.kind: error for error in (UsageError, ArchiveError, ModelError, MmelError)}
_PATIENCE = 10  # seconds for a process to end


@dataclass(frozen=True)
class _Rank:
    """A process, and what it is called in messages."""

    name: str
    process: subprocess.Popen[str]

    def tell(self, **said: object) -> None:
        """A line to it; one that is gone is found out when it is heard."""
        try:
            cast("IO[str]", self.process.stdin).write(json.dumps(said) + "\n")
            cast("IO[str]", self.process.stdin).flush()
        except BrokenPipeError:
            pass

    def hear(self, events: Events | None, *keys: str) -> dict[str, Any]:
        """What it says next of one of these keys; messages until then go to `events`.

        Raises:
            MmelError: if it ends before, with what it said or by which signal.
        """
        for line in cast("IO[str]", self.process.stdout):
            try:
                said = json.loads(line)
            except ValueError:  # of a library
                continue
            if any(key in said for key in keys):
                return cast("dict[str, Any]", said)
            if "error" in said:
                raise _ERRORS.get(said["error"]["kind"], MmelError)(said["error"]["message"])
            if "message" in said and events is not None:
                events.message(said["message"])
        code = self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise MmelError(
            f"{self.name} (process {self.process.pid}) {how}; what is scored is saved, so run the same command again "
            "to go on"
        )


class ScoringRanks:
    """The processes that a configuration asks for; they end with the block.

    Args:
        runs: all runs of the evaluation, in the order in which they will be scored.
        names: of the numbers to score.
        config: says how many.
        events: takes what the first of them says, as all say the same.
    """

    def __init__(self, runs: Sequence[Opened], names: Sequence[str], config: EvalConfig, events: Events) -> None:
        work = {"runs": [str(run.path) for run in runs], "names": list(names), "config": config.plain()}
        self._config, self._events = config, events
        self._ranks = [_start(work | {"rank": rank}, rank, config) for rank in range(config.ranks)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for rank in self._ranks:
            rank.process.terminate()
        for rank in self._ranks:
            try:
                rank.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                rank.process.kill()
                rank.process.wait()
            for end in (rank.process.stdin, rank.process.stdout):
                cast("IO[str]", end).close()

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


def _start(work: Mapping[str, Any], rank: int, config: EvalConfig) -> _Rank:
    """A process with a GPU, or its share of the cores."""
    environment, cores = placed(rank, config.ranks, config.device)
    process = start("scoring_process", environment)
    started = _Rank(f"rank {rank} of {config.ranks}", process)
    started.tell(**work, cores=cores)
    return started
