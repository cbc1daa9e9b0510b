"""Ranks as actors of Ray (extra `ray`): on a cluster that is started here, or on one that there is.

An actor holds a rank's process and hands on what it says; records, maps and pictures go to the run folder, which every
machine must reach under the same path, and never through Ray.
"""

import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

from mmel_cli.errors import UsageError
from mmel_cli.pipelines.rank_process import SIGNALS, Asked, RankProcess, Said

_LOOPBACK = "127.0.0.1"


@contextmanager
def ray_ranks(module: str, work: Mapping[str, Any], asked: Asked, restarts: int) -> Iterator[list["RayRank"]]:
    """As many actors as the configuration asks for, restarted where they die, on whichever machine has room.

    Raises:
        UsageError: if Ray is not installed, the cluster cannot be reached, or it can never hold one of the actors.
    """
    ray = _ray()
    with redirect_stdout(sys.stderr):  # Ray prints that a worker died, and stdout is for results
        with _same_signals():
            _connect(ray, asked.ranks.address)
        try:
            yield _started(ray, module, work, asked, restarts)
        finally:
            ray.shutdown()


def _started(ray: Any, module: str, work: Mapping[str, Any], asked: Asked, restarts: int) -> list["RayRank"]:
    ranks = asked.ranks
    gpus = ranks.gpus
    if gpus is None:
        gpus = float(asked.device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0)
    wanted = {"CPU": ranks.cores, "GPU": gpus}
    for name, amount in wanted.items():
        most = max((node["Resources"].get(name, 0) for node in ray.nodes() if node["Alive"]), default=0)
        if amount > most:
            raise UsageError(
                f"--engine ray: a rank asks for {amount:g} {name}, and no machine of the cluster has more than "
                f"{most:g}; set ranks.{'cores' if name == 'CPU' else 'gpus'}"
            )
    kind = ray.remote(Actor).options(
        num_cpus=ranks.cores,
        num_gpus=gpus,
        max_restarts=restarts,
        max_task_retries=restarts,
    )
    threads = "" if gpus else str(ranks.cores)
    works = [dict(work) | {"rank": rank} for rank in range(ranks.count)]
    return [RayRank(ray, kind.remote(module, one, threads)) for one in works]


class Actor:
    """What runs on the cluster: a rank's process. Made anew when Ray restarts it, and so is the process."""

    def __init__(self, module: str, work: Mapping[str, Any], threads: str) -> None:
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads) if threads else {}
        self._process = RankProcess(module, work, limits)

    def poll(self) -> tuple[list[str], bool, str]:
        """See RankProcess.poll."""
        said = self._process.poll()
        return said.lines, said.running, said.ending

    def tell(self, line: str) -> None:
        """See RankProcess.tell."""
        self._process.tell(line)

    def stop(self, number: int) -> None:
        """Pass a signal on."""
        self._process.stop(number)


class RayRank:
    """A rank as it is seen from here; one question to its actor is under way at a time, and none is waited for."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self._asked = actor.poll.remote()
        self._last: Said | None = None  # once it has ended

    def poll(self) -> Said:
        """What it has said since the last call, as far as it has come."""
        if self._last is not None:
            return Said([], running=False, ending=self._last.ending)
        if not self._ray.wait([self._asked], timeout=0)[0]:
            return Said([], running=True)
        try:
            said = Said(*self._ray.get(self._asked))
        except self._ray.exceptions.RayError as error:
            said = Said([], running=False, ending=f"its actor is gone: {str(error).strip().splitlines()[0]}")
        if said.running:
            self._asked = self._actor.poll.remote()
        else:
            self._last = said
            self._ray.kill(self._actor)  # its room is for one that waits
        return said

    def tell(self, line: str) -> None:
        """A line to it."""
        self._actor.tell.remote(line)

    def stop(self, number: int) -> None:
        """Pass a signal on."""
        self._actor.stop.remote(number)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("--engine ray: needs Ray; pip install '.[ray]' in a clone of mmel") from error


@contextmanager
def _same_signals() -> Iterator[None]:
    """Signals act afterwards as before: Ray takes SIGTERM for itself, with which the command would abort."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connect(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one that nobody reaches from outside this machine.

    Raises:
        UsageError: if there is none at the address.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", include_dashboard=False, _node_ip_address=_LOOPBACK, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        why = str(error).strip().splitlines()[0]
        raise UsageError(f"--address {address}: no Ray cluster can be joined there ({why})") from error
