"""Several processes on one run: which of them this one is, and local ones started, listened to and stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from mmel_cli.config import RunConfig
from mmel_cli.errors import ArchiveError, MmelError, ModelError, UsageError
from mmel_cli.names import count
from mmel_cli.pipelines.planning import Rank
from mmel_cli.runs import EXPLAINED, Events, RunFolder, Stop
from mmel_cli.runs.folder import SUMMARY
from mmel_cli.runs.summary import Summary

_ERRORS = {error.kind: error for error in (UsageError, ArchiveError, ModelError, MmelError)}
_POLL = 0.05  # seconds


def rank_of(shard: str | None, environment: Mapping[str, str]) -> Rank | None:
    """Which rank this process is: as --shard i/n says, else torchrun (RANK, WORLD_SIZE), else an array job of Slurm.

    Raises:
        UsageError: if --shard is no i/n with i from 0 to n - 1.
    """
    if shard is not None:
        parts = re.fullmatch(r"(\d+)/(\d+)", shard)
        if not parts or int(parts[1]) >= int(parts[2]):
            raise UsageError(f"--shard {shard}: must be i/n with i from 0 to n - 1, for example 0/4")
        return Rank(int(parts[1]), int(parts[2]))
    for number, of, job in (
        ("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_JOB_ID"),
    ):
        own, every = environment.get(number, ""), environment.get(of, "")
        if own.isdecimal() and every.isdecimal() and int(every) > 1:
            said = environment.get(job)
            return Rank(int(own), int(every), None if said in (None, "none") else f"{job} {said}")
    return None


@dataclass
class _Child:
    """A process that was started here, and what it has said."""

    rank: int
    process: subprocess.Popen[str]
    says: dict[str, Any] = field(default_factory=dict)  # "error" or "summaries", at its end

    def listen(self, events: Events) -> None:
        """Pass on what it says, until it ends; what every rank says alike is passed on once, from the first."""
        for line in self.process.stdout or ():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if "progress" in said:
                events.progress(*said["progress"])
            elif "total" in said:
                events.total(said["total"])
            elif "message" in said:
                if self.rank == 0 or "Warning" in said["message"]:
                    events.message(said["message"])
            else:
                self.says |= said


def explain_by_ranks(
    source: Path, places: Mapping[Path, RunConfig], *, overwrite: bool, events: Events
) -> tuple[list[Summary], int | None]:
    """Start the ranks that the configuration asks for, one a GPU or each with its share of the cores, and see them end.

    A rank that dies does not end the others, which take over its shards.

    Raises:
        MmelError: what the first rank that failed says, if no rank could finish.
    """
    stop, first = Stop(), next(iter(places.values()))
    for out in places:
        RunFolder(out, EXPLAINED, overwrite=overwrite).check()
    if overwrite:
        for out in places:
            with RunFolder(out, EXPLAINED, overwrite=True):
                pass
    configs = {str(out): config.plain() for out, config in places.items()}
    work = {"source": str(source), "places": configs, "of": first.ranks.count, "job": uuid.uuid4().hex}
    with stop.watch():
        children = [_start(work, rank, first) for rank in range(first.ranks.count)]
        listeners = [threading.Thread(target=child.listen, args=(events,), daemon=True) for child in children]
        for listener in listeners:
            listener.start()
        told = False
        while any(child.process.poll() is None for child in children):
            if stop.signal is not None and not told:
                told = True
                for child in children:
                    child.process.send_signal(stop.signal)
            time.sleep(_POLL)
        for listener in listeners:
            listener.join()
    return _outcome(children, list(places), events), stop.signal


def shares(ranks: int, cores: Sequence[int]) -> list[list[int]]:
    """The cores of each rank: consecutive ones, or all where there are fewer cores than ranks."""
    if ranks > len(cores):
        return [list(cores)] * ranks
    ends = [len(cores) * number // ranks for number in range(ranks + 1)]
    return [list(cores[a:b]) for a, b in pairwise(ends)]


def _start(work: Mapping[str, Any], rank: int, config: RunConfig) -> _Child:
    """A process of its own session, so that Ctrl-C reaches it from here, and once."""
    environment = dict(os.environ)
    for name in ("RANK", "WORLD_SIZE", "SLURM_ARRAY_TASK_ID"):
        environment.pop(name, None)
    gpus = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    cores: list[int] = []
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        known = visible if len(visible) == gpus else [str(number) for number in range(gpus)]
        environment["CUDA_VISIBLE_DEVICES"] = known[rank % gpus]
    elif hasattr(os, "sched_getaffinity"):
        cores = shares(config.ranks.count, sorted(os.sched_getaffinity(0)))[rank]
        threads = max(1, len(os.sched_getaffinity(0)) // config.ranks.count)
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    process = subprocess.Popen(
        [sys.executable, "-m", "mmel_cli.pipelines.rank"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdin is not None  # noqa: S101 - a pipe
    process.stdin.write(json.dumps(dict(work) | {"rank": rank, "cores": cores}) + "\n")
    process.stdin.flush()  # and stays open: its end tells the rank that this process is gone
    return _Child(rank, process)


def _outcome(children: Sequence[_Child], outs: Sequence[Path], events: Events) -> list[Summary]:
    """The summaries of the run as a whole."""
    whole = [child for child in children if "summaries" in child.says]
    for child in children:
        if child not in whole and whole:
            events.message(f"Warning: rank {child.rank} ended early ({_why(child)}); the others took its shards over")
    if not whole:
        error = next((child.says["error"] for child in children if "error" in child.says), None)
        if error is None:
            text = (
                f"{count(len(children), 'rank')} ended early ({_why(children[0])}); run the same command again to go on"
            )
            raise MmelError(text)
        raise _ERRORS.get(error["kind"], MmelError)(error["message"])
    by_out = [[Summary(**child.says["summaries"][number]) for child in whole] for number in range(len(outs))]
    return [
        Summary(**json.loads((out / SUMMARY).read_text("utf-8")))
        if any(summary.complete for summary in said)
        else max(said, key=lambda summary: summary.done)
        for out, said in zip(outs, by_out, strict=True)
    ]


def _why(child: _Child) -> str:
    if "error" in child.says:
        return str(child.says["error"]["message"])
    code = child.process.returncode
    return f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"


def plain(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """As a rank hands them over."""
    return [asdict(summary) for summary in summaries]
