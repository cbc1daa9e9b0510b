"""What starts ranks, and how they are spoken with: processes here, or actors of Ray; for explain and eval alike."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from mmel_cli.errors import ArchiveError, MmelError, ModelError, UsageError
from mmel_cli.pipelines.local_ranks import local_ranks
from mmel_cli.pipelines.rank_process import Asked, Said
from mmel_cli.pipelines.ray_ranks import ray_ranks

_ERRORS = {error.kind: error for error in (UsageError, ArchiveError, ModelError, MmelError)}


class Worker(Protocol):
    """A rank, wherever it runs: a process here (rank_process.py), or an actor of Ray (ray_ranks.py)."""

    def poll(self) -> Said:
        """What it has said since the last call; never waits."""

    def tell(self, line: str, /) -> None:
        """A line to it; one that is gone is found out when it is polled."""

    def stop(self, number: int, /) -> None:
        """Pass a signal on, so that it commits what it has and ends."""


Engine = Callable[[str, Mapping[str, Any], Asked, int], AbstractContextManager[Sequence[Worker]]]
"""Starts as many ranks as are asked for: each runs a module of this package (its name) and takes the work, with its
number as "rank", as its first line. The last argument is how often one that dies may be begun anew, by an engine that
can. They end with the block."""

ENGINES: dict[str, Engine] = {"local": local_ranks, "ray": ray_ranks}


def start_workers(
    module: str, work: Mapping[str, Any], asked: Asked, *, restarts: int = 0
) -> AbstractContextManager[Sequence[Worker]]:
    """With the engine that is asked for; see Engine.

    Raises:
        UsageError: if an address is given to an engine that has none.
    """
    ranks = asked.ranks
    if ranks.address is not None and ranks.engine != "ray":
        raise UsageError(f"--address {ranks.address}: is of a Ray cluster, and goes with --engine ray")
    return ENGINES[ranks.engine](module, work, asked, restarts)


def error_of(said: Mapping[str, str]) -> MmelError:
    """The error that a rank ended with, as it was raised there."""
    return _ERRORS.get(said["kind"], MmelError)(said["message"])
