"""plan.jsonl: which entries of the input each shard of a run takes, so that any number of processes can work on it.

A line says what the plan was made from, a line each shard says its entries, and the last sums them up. A shard begins
and ends with a batch, so batches are those of one process that goes from the first entry to the last.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mmel_cli.runs.files import TEMPORARY
from mmel_cli.types import Failure, Sample

PLAN = "plan.jsonl"
_FORMAT, _VERSION = "mmel-plan", 1


@dataclass(frozen=True)
class Shard:
    """A slice of the input: entries `first` to `first + entries`, and the SHA-256 of what they are."""

    number: int
    first: int
    entries: int
    sha256: str

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.number:05}"


@dataclass(frozen=True)
class Head:
    """What a plan is made from. `pictures` and `limit` do not decide what a shard holds, but must be those of all."""

    identity: str  # SHA-256 of everything that decides numbers
    batch_size: int
    size: int  # entries a shard, a multiple of the batch size; archive.shard_size decides it
    limit: int | None
    pictures: str  # SHA-256 of the settings that decide pictures
    before: tuple[str, ...] = ()  # files that the archive had when the plan was made, of another plan or of none

    def differences(self, other: "Head") -> list[str]:
        """What two processes of one run must have alike besides its identity, with both values."""
        mine, others = asdict(self), asdict(other)
        told = [
            f"{said} was {mine[name]}, is now {others[name]}"
            for name, said in (("batch_size", "batch_size"), ("size", "a shard's entries"), ("limit", "limit"))
            if mine[name] != others[name]
        ]
        return told + ["heatmap: pictures look otherwise"] * (self.pictures != other.pictures)


@dataclass(frozen=True)
class Plan:
    """All shards of a run."""

    head: Head
    entries: int
    sha256: str
    shards: list[Shard] = field(repr=False)
    parts: list[int] = field(repr=False)  # the first entry of each part of the input at which reading can begin


def shard_entries(shard_size: int, batch_size: int) -> int:
    """Entries a shard: the least multiple of the batch size that is no less than the size asked for."""
    return -(-shard_size // batch_size) * batch_size


def digest(entries: Iterable[Sample | Failure]) -> str:
    """SHA-256 of what entries are: ids, images, captions, and what these are against."""
    total = hashlib.sha256()
    for entry in entries:
        if isinstance(entry, Sample):
            line = "\0".join(
                (entry.id, entry.image, entry.caption, *(() if entry.against is None else (entry.against,)))
            )
        else:
            line = f"\1{entry.id}\0{entry.stage}"
        total.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return total.hexdigest()


def write_plan(path: Path, head: Head, parts: Iterable[Iterable[Sample | Failure]]) -> Plan:
    """Read an input to its end and write the plan, to a file that is not yet the run's; one shard is in memory.

    Args:
        path: of the plan.
        head: what it is made from.
        parts: of the input, one after the other; each is read once.
    """
    begins, shards, total = list[int](), list[Shard](), 0
    entries = islice(_counted(parts, begins), head.limit)
    every = hashlib.sha256(f"{head.identity} {head.batch_size} {head.size}".encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"format": _FORMAT, "version": _VERSION} | asdict(head)) + "\n")
        while own := list(islice(entries, head.size)):
            shard = Shard(len(shards), total, len(own), digest(own))
            file.write(json.dumps(asdict(shard)) + "\n")
            every.update(f"{shard.entries} {shard.sha256}\n".encode())
            shards.append(shard)
            total += len(own)
        sums = {"shards": len(shards), "entries": total, "sha256": every.hexdigest(), "parts": begins}
        file.write(json.dumps(sums) + "\n")
    return Plan(head, total, every.hexdigest(), shards, begins)


def _counted(parts: Iterable[Iterable[Sample | Failure]], begins: list[int]) -> Iterator[Sample | Failure]:
    """All entries; `begins` takes the number of the first of each part."""
    total = 0
    for part in parts:
        begins.append(total)
        for entry in part:
            total += 1
            yield entry


def unfinished(path: Path) -> Path:
    """Where a plan is written before it is the run's."""
    return path.with_name(path.name + TEMPORARY)


def read_plan(path: Path) -> Plan | None:
    """A plan as it was written; None if there is none that can be read."""
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        first, *middle, last = lines
        if (first.pop("format"), first.pop("version")) != (_FORMAT, _VERSION) or last["shards"] != len(middle):
            return None
        head = Head(**first | {"before": tuple(map(str, first["before"]))})
        return Plan(
            head,
            int(last["entries"]),
            str(last["sha256"]),
            [_shard(line) for line in middle],
            list(map(int, last["parts"])),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _shard(line: dict[str, Any]) -> Shard:
    return Shard(int(line["number"]), int(line["first"]), int(line["entries"]), str(line["sha256"]))
