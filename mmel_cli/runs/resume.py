"""What an earlier call finished: the records of a folder's shards, if they are of the same run and the same input."""

from pathlib import Path

from mmel_cli.archive.safety import open_safely
from mmel_cli.archive.schema import AGAINST, TEXTS
from mmel_cli.archive.verify import damage
from mmel_cli.archive.writer import shard_files
from mmel_cli.errors import DamagedError, UsageError
from mmel_cli.idsets import IdSet
from mmel_cli.runs.identity import differences, fingerprint
from mmel_cli.types import Sample


class CommittedRecords:
    """Record ids with the image and caption that each stood for; 24 bytes a record are kept."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._ids, self._pairs = IdSet(), IdSet()

    def add(self, record_id: str, image: str, caption: str, against: str | None = None) -> None:
        """Put a record in."""
        self._ids.add(record_id)
        self._pairs.add(_pair(record_id, image, caption, against))

    def __contains__(self, record_id: object) -> bool:
        return record_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def check(self, sample: Sample) -> None:
        """Refuse a finished record that stands for something else in the input now.

        Raises:
            UsageError: naming the record.
        """
        if sample.id in self and _pair(sample.id, sample.image, sample.caption, sample.against) not in self._pairs:
            against = "" if sample.against is None else ", or against another text,"
            raise UsageError(
                f"--out {self._out}: record {sample.id} was explained with another caption or image{against} than "
                "INPUT gives now; give another folder, or --overwrite to start anew"
            )


def committed_records(out: Path, folder: Path, identity: dict[str, str]) -> tuple[CommittedRecords, list[str]]:
    """The records in a run's shards, and the names of shards that were damaged and set aside as *.damaged.

    Args:
        out: the run folder, for messages.
        folder: where its shards lie.
        identity: what the run that goes on depends on.

    Raises:
        UsageError: if a shard is of another identity; each setting that differs is named with both values.
        ArchiveError: if a shard cannot be opened or is of another version; nothing is set aside then.
    """
    done, damaged = CommittedRecords(out), []
    for path in shard_files(folder):
        try:
            records = _read_whole(path, out, identity)
        except DamagedError:
            damaged.append(path)
            continue
        for record in records:
            done.add(*record)
    for path in damaged:  # only once every readable shard has turned out to be of this run
        path.rename(path.with_name(path.name + ".damaged"))
    return done, [path.name for path in damaged]


def _read_whole(path: Path, out: Path, identity: dict[str, str]) -> list[tuple[str, ...]]:
    """Id, image, caption and what that is against, if anything, of a shard's records, after every chunk was read."""
    file, info = open_safely(path)
    with file:
        if info.config_sha256 != fingerprint(identity):
            was = "; ".join(differences(info.identity, identity)) if info.identity else "it is of an older mmel"
            raise UsageError(
                f"--out {out}: holds another run: {was}; give another folder, or --overwrite to start anew"
            )
        for problem in damage(file, info):
            raise DamagedError(f"{path}: {problem}")
        names = (*TEXTS, *([AGAINST] if info.against else ()))
        columns = [file[name].asstr()[:] for name in names]
        return [tuple(str(text) for text in texts) for texts in zip(*columns, strict=True)]


def _pair(record_id: str, image: str, caption: str, against: str | None) -> str:
    return "\0".join((record_id, image, caption, *(() if against is None else (against,))))
