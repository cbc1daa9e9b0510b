"""Several processes on one run: which of them this one is; ranks started by an engine, listened to and stopped."""

import json
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmel_cli.config import RunConfig
from mmel_cli.errors import MmelError, StoppedError, UsageError
from mmel_cli.names import count
from mmel_cli.pipelines.planning import Rank
from mmel_cli.pipelines.workers import Worker, error_of, start_workers
from mmel_cli.runs import EXPLAINED, Events, RunFolder, Stop
from mmel_cli.runs.folder import SUMMARY
from mmel_cli.runs.summary import Summary

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
            local = environment.get("LOCAL_RANK", "") if number == "RANK" else ""
            told = None if said in (None, "none") else f"{job} {said}"
            return Rank(int(own), int(every), told, local=int(local) if local.isdecimal() else None)
    return None


@dataclass
class _Bounded:
    """Progress that ends with the input: what a rank that died had done is done, and told, once more."""

    events: Events
    left: int | None = None  # entries; None: not known yet

    def total(self, entries: int) -> None:
        """Every rank tells it, and all the same."""
        if self.left is None:
            self.left = entries
            self.events.total(entries)

    def progress(self, done: int, failed: int) -> None:
        """Since the last call."""
        left = self.left or 0
        done = min(done, left)
        failed = min(failed, left - done)
        self.left = left - done - failed
        self.events.progress(done, failed)


@dataclass
class _Heard:
    """A rank, and what came of it."""

    rank: int
    worker: Worker
    ending: str | None = None  # None: it goes on
    says: dict[str, Any] = field(default_factory=dict)  # "error" or "summaries", at its end

    def listen(self, events: Events) -> bool:
        """Pass on what it says; what every rank says alike is passed on once, from the first. Whether it goes on."""
        said = self.worker.poll()
        self.ending = None if said.running else said.ending
        for line in said.lines:
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if not isinstance(told, dict):  # what a library prints
                continue
            if "progress" in told:
                events.progress(*told["progress"])
            elif "total" in told:
                events.total(told["total"])
            elif "message" in told:
                if self.rank == 0 or "Warning" in told["message"]:
                    events.message(told["message"])
            else:
                self.says |= told
        return said.running


def explain_by_ranks(
    source: Path, places: Mapping[Path, RunConfig], *, overwrite: bool, events: Events
) -> tuple[list[Summary], int | None]:
    """Start the ranks that the configuration asks for, with the engine that it names, and see them end.

    A rank that dies does not end the others, which take over its shards.

    Raises:
        MmelError: what the first rank that failed says, if no rank could finish.
    """
    stop, first = Stop(), next(iter(places.values()))
    bounded = _Bounded(events)
    events = Events(events.message, bounded.total, bounded.progress)
    for out in places:
        RunFolder(out, EXPLAINED, overwrite=overwrite).check()
    if overwrite:
        for out in places:
            with RunFolder(out, EXPLAINED, overwrite=True):
                pass
    configs = {str(out): config.plain() for out, config in places.items()}
    work = {"source": str(source), "places": configs, "of": first.ranks.count, "job": uuid.uuid4().hex}
    work["began"] = time.time()
    work["folder"] = os.getcwd()  # noqa: PTH109 - what relative paths are relative to
    with stop.watch(), start_workers("rank", work, first, restarts=first.ranks.restarts) as workers:
        heard = [_Heard(rank, worker) for rank, worker in enumerate(workers)]
        told = False
        while any([one.listen(events) for one in heard]):  # noqa: C419 - all are listened to
            if stop.signal is not None and not told:
                told = True
                for one in heard:
                    one.worker.stop(stop.signal)
            time.sleep(_POLL)
    if stop.signal is not None and not any("summaries" in one.says for one in heard):
        raise StoppedError(stop.signal)
    return _outcome(heard, list(places), events), stop.signal


def _outcome(heard: Sequence[_Heard], outs: Sequence[Path], events: Events) -> list[Summary]:
    """The summaries of the run as a whole."""
    whole = [one for one in heard if "summaries" in one.says]
    for one in heard:
        if one not in whole and whole:
            events.message(f"Warning: rank {one.rank} ended early ({_why(one)}); the others took its shards over")
    if not whole:
        error = next((one.says["error"] for one in heard if "error" in one.says), None)
        if error is None:
            text = f"{count(len(heard), 'rank')} ended early ({_why(heard[0])}); run the same command again to go on"
            raise MmelError(text)
        raise error_of(error)
    by_out = [[Summary(**one.says["summaries"][number]) for one in whole] for number in range(len(outs))]
    return [
        Summary(**json.loads((out / SUMMARY).read_text("utf-8")))
        if any(summary.complete for summary in said)
        else max(said, key=lambda summary: summary.done)
        for out, said in zip(outs, by_out, strict=True)
    ]


def _why(one: _Heard) -> str:
    return str(one.says["error"]["message"]) if "error" in one.says else str(one.ending)


def plain(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """As a rank hands them over."""
    return [asdict(summary) for summary in summaries]
