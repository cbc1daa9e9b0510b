"""The folder that a command writes: checked for being its own, locked, marked, and written file by whole file.

explain, eval, train-weights and fuse open it the same way. The marker is the first file in it, so a folder without one
is empty or a stranger's; a stranger's is never written to.
"""

import fcntl
import json
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import yaml

from mmel_cli.errors import UsageError
from mmel_cli.runs import failures
from mmel_cli.runs.control import Stop
from mmel_cli.runs.failures import FailureLog
from mmel_cli.runs.files import TEMPORARY, can_lock, locked, write_text

Entered = TypeVar("Entered")
LOCK = ".lock"
_OPENING = ".lock-opening"  # of the rank that plans; the others wait
ARCHIVE, HEATMAPS, DRAWN = "archive", "heatmaps", "heatmaps/drawn.json"
PHOTOS, THUMBNAILS = "photos", "thumbnails"
RUN, SUMMARY, REPORT = "run.yaml", "summary.json", "index.html"
HALF_FILES = tuple(f"{name}.*.tmp" for name in (RUN, SUMMARY, "failures.jsonl", "plan.jsonl"))
"""What a kill leaves of files that were being written."""
REPORT_FILES = (
    "report/app/**/*",
    *(f"report/data/{name}.js*" for name in ("head", "eval", "records-*", "maps-*", "details-*")),
)
"""Beside REPORT; what a kill left of one ends in .tmp."""
EVAL, METRICS_FILE, TABLE, SCORES, PLOTS = "eval.yaml", "metrics.json", "per_record.csv", "scores", "plots"
EVAL_FOLDER = "eval"  # in a run folder
TRAINING, TRAINING_LOG, CHECKPOINT, CURVE, PICTURE = (
    "training.yaml",
    "training.jsonl",
    "checkpoint.safetensors",
    "curve",
    "weights",
)
_POLL, _TELL, _PATIENCE = 0.1, 5.0, 120.0  # seconds: between looks, until it is said, for one of the same number to end
_PICTURE_NAME = re.compile(r".*\.[0-9a-f]{8}\.(png|jpg|webp)")
_HALF_PICTURE = re.compile(_PICTURE_NAME.pattern + r"\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True)
class FolderKind:
    """What a command's folder is known by, and all that the command writes there."""

    what: str  # in messages
    marker: str
    format: str  # the marker's key `format`
    before_format: frozenset[str]  # keys of a marker that version 0.1.0 wrote, which had no format; none: wrote none
    files: tuple[str, ...]  # patterns of what --overwrite removes, relative to the folder
    pictures: tuple[str, ...] = ()  # folders of which it removes the pictures that mmel named

    def owns(self, marker: Path) -> bool:
        """Whether a marker is one that this command wrote, by what it says."""
        try:
            said = yaml.safe_load(marker.read_text("utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
            return False
        if not isinstance(said, dict):
            return False
        return said.get("format") == self.format or (bool(self.before_format) and self.before_format <= set(said))


EXPLAINED = FolderKind(
    "run",
    RUN,
    "mmel-run",
    frozenset({"config", "config_sha256", "input", "model", "versions"}),
    (
        *(f"{ARCHIVE}/part-*.h5{ending}" for ending in ("", ".damaged", TEMPORARY, f".*{TEMPORARY}")),
        *HALF_FILES,
        *("plan.jsonl", f"plan.jsonl{TEMPORARY}", "shards/*.json", f"shards/*.json.*{TEMPORARY}", "shards/*.lease*"),
        *(RUN, SUMMARY, REPORT, *REPORT_FILES, "page-*.html", "failures*.jsonl", DRAWN),
    ),
    (HEATMAPS, PHOTOS, THUMBNAILS),
)
EVALUATED = FolderKind(
    "evaluation",
    EVAL,
    "mmel-eval",
    frozenset({"config", "identity_sha256", "runs", "versions"}),
    (
        *(EVAL, METRICS_FILE, TABLE, f"{SCORES}/*.jsonl", f"{PLOTS}/*.png", f"{PLOTS}/*.svg", failures.NAME),
        *(REPORT, *REPORT_FILES),
    ),
)
REPORTED = FolderKind(
    "report",
    "report.yaml",
    "mmel-report",
    frozenset(),
    ("report.yaml", REPORT, *REPORT_FILES),
    (PHOTOS, THUMBNAILS),
)
TRAINED = FolderKind(
    "training",
    TRAINING,
    "mmel-training",
    frozenset({"config", "identity_sha256", "run"}),
    (
        TRAINING_LOG,
        CHECKPOINT,
        TRAINING,
        failures.NAME,
        *(f"{n}.{s}" for n in (CURVE, PICTURE) for s in ("png", "svg")),
    ),
)


class _Exact(yaml.SafeDumper):
    """Texts come back as they were: in plain or single quotes PyYAML reads a next line (U+0085) as a space."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if "\x85" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Exact.add_representer(str, _text)


class RunFolder:
    """One command's folder while it works there; a context manager.

    Args:
        path: the folder; made if it is not there.
        kind: the command's.
        overwrite: remove what mmel wrote there, and nothing else.
        rank: of one process among several that write there; it tells their failure logs apart.
        stop: of a command that writes several folders; its own by default.
        say: told what is waited for.

    Raises:
        UsageError: if it is a file, a stranger's, or another process holds it.
    """

    def __init__(
        self,
        path: Path,
        kind: FolderKind,
        *,
        overwrite: bool = False,
        rank: int | None = None,
        stop: Stop | None = None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.path, self.kind, self.rank, self.stop = path, kind, rank, stop or Stop()
        self._say = say
        self._overwrite, self._suffix = overwrite, "" if rank is None else f"-r{rank:02}"
        self._stack = ExitStack()
        self._failures: FailureLog | None = None

    def __enter__(self) -> Self:
        self.check()
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            lock = stack.enter_context((self.path / f"{LOCK}{self._suffix}").open("a+"))
            self._wait(
                lock.fileno(), 0 if self.rank is None else _PATIENCE, f"Waiting for an earlier rank {self.rank} to end"
            )
            self.check()  # another process may have been faster
            if self._overwrite:
                self._remove()
            if not (self.path / self.kind.marker).exists():
                self.note({"state": "started"})
            stack.enter_context(self.stop.watch())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def failures(self) -> FailureLog:
        """The failure log, begun anew by the first use."""
        if self._failures is None:
            name = failures.NAME.replace(".", f"{self._suffix}.")
            self._failures = FailureLog(self.path / name)
            self._stack.callback(self._failures.close)
        return self._failures

    def pool(self, workers: int) -> ThreadPoolExecutor:
        """Threads that end with the folder; what has not begun by then is dropped."""
        pool = self._stack.enter_context(ThreadPoolExecutor(workers))
        self._stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        return pool

    def within(self, block: AbstractContextManager[Entered]) -> Entered:
        """Enter a context that ends with the folder, before what was entered earlier."""
        return self._stack.enter_context(block)

    def remove_half_pictures(self) -> None:
        """Take away what a kill left of pictures that were being written; nobody else may be at work."""
        for name in self.kind.pictures:
            for path in (self.path / name).rglob(f"*{TEMPORARY}"):
                if _HALF_PICTURE.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def remove_pictures(self, name: str, but: str | None = None) -> None:
        """Take away the pictures of a folder of pictures, except those with the suffix `but`."""
        for path in self._pictures(name):
            if path.suffix != but:
                path.unlink(missing_ok=True)

    def note(self, content: dict[str, Any]) -> None:
        """Write the marker: what the folder was made from."""
        noted = {"format": self.kind.format} | content
        text = yaml.dump(noted, Dumper=_Exact, sort_keys=False, allow_unicode=True)
        self.write_text(self.kind.marker, text)

    def notes(self) -> dict[str, Any]:
        """What the marker says."""
        said = yaml.safe_load((self.path / self.kind.marker).read_text("utf-8"))
        return said if isinstance(said, dict) else {}

    def write_text(self, name: str, text: str) -> None:
        """Write a file so that it is there whole or not at all."""
        write_text(self.path / name, text)

    def write_json(self, name: str, content: Any) -> None:
        """Standard JSON, without NaN."""
        self.write_text(name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def check(self) -> None:
        """Refuse what is not this command's, before anything is written."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path}: is a file; give a folder")
        marker = self.path / self.kind.marker
        if marker.exists() or marker.is_symlink():
            if not self.kind.owns(marker):
                raise UsageError(f"--out {self.path}: its {marker.name} was not written by mmel; give a new folder")
        elif self.path.is_dir() and any(not self._leftover(path.name) for path in self.path.iterdir()):
            raise UsageError(f"--out {self.path}: is not empty and holds no mmel {self.kind.what}; give a new folder")

    def _leftover(self, name: str) -> bool:
        """Whether a file may lie in a folder whose first call was killed before it wrote the marker."""
        return name.startswith(LOCK) or (name.startswith(self.kind.marker) and name.endswith(TEMPORARY))

    def join(self) -> bool:
        """Of a rank: whether it is alone in the folder, and may plan; `share` lets the others in.

        Others that are planning are waited for.

        Raises:
            UsageError: if a process that is no rank works there.
        """
        if self.rank is None:
            return True
        if not can_lock(self.path / LOCK):
            raise UsageError(f"--out {self.path}: its file system has no locks, which ranks need; give another place")
        self._opening = self._stack.enter_context((self.path / _OPENING).open("a+"))
        self._shared = self._stack.enter_context((self.path / LOCK).open("a+"))
        self._wait(self._opening.fileno(), None, "Waiting for another rank to plan the run")
        if locked(self._shared.fileno(), fcntl.LOCK_EX):
            return True
        if not locked(self._shared.fileno(), fcntl.LOCK_SH):
            raise self._busy()
        self.share()
        return False

    def share(self) -> None:
        """Of a rank: what was to be done alone is done."""
        if self.rank is not None:
            fcntl.flock(self._shared.fileno(), fcntl.LOCK_SH)
            fcntl.flock(self._opening.fileno(), fcntl.LOCK_UN)

    def _wait(self, handle: int, patience: float | None, what: str) -> None:
        """Lock a file for this process alone.

        Raises:
            UsageError: if another one holds it for longer than `patience` seconds.
        """
        waited = 0.0
        while not locked(handle, fcntl.LOCK_EX):
            if patience is not None and waited >= patience:
                raise self._busy()
            time.sleep(_POLL)
            waited += _POLL
            if waited - _POLL < _TELL <= waited:
                self._say(what)

    def _busy(self) -> UsageError:
        return UsageError(f"--out {self.path}: another mmel is writing there; wait for it, or give another folder")

    def _pictures(self, name: str) -> list[Path]:
        """The pictures that mmel named, in a folder of pictures."""
        return [path for path in (self.path / name).rglob("*") if _PICTURE_NAME.fullmatch(path.name)]

    def _remove(self) -> None:
        """Take away what the command wrote, then folders that are left empty; the marker goes last."""
        old = [path for pattern in self.kind.files for path in self.path.glob(pattern) if not path.is_dir()]
        for pictures in self.kind.pictures:
            old += self._pictures(pictures)
        marker = self.path / self.kind.marker
        for path in sorted(set(old) - {marker}):
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in old} - {self.path}:
            _remove_empty(folder, self.path)
        marker.unlink(missing_ok=True)


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder and those above it, below `top`, that are empty."""
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)
        folder = folder.parent
