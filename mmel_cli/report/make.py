"""Which runs a report is of, and where it goes: `mmel report`, and the end of explain, fuse and eval."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmel_cli.archive import Archive, load_archive
from mmel_cli.archive.writer import SHARDS
from mmel_cli.errors import MmelError, UsageError
from mmel_cli.names import count
from mmel_cli.report.build import build, build_single, check_single
from mmel_cli.report.current import is_current, made_from
from mmel_cli.report.evaluation import find_evaluation
from mmel_cli.report.head import FAILURES
from mmel_cli.report.photos import PhotoPaths, draw_missing, image_sizes, missing_images
from mmel_cli.report.run import ReportRun
from mmel_cli.runs import EXPLAINED, REPORTED, Events, FolderKind, RunFolder, Stop, read_failures
from mmel_cli.runs.digests import lines_sha256
from mmel_cli.runs.folder import ARCHIVE, EVAL_FOLDER, PHOTOS, REPORT, THUMBNAILS
from mmel_cli.runs.inputs import find_input
from mmel_cli.runs.together import Common, Opened, common_records, labels_of
from mmel_cli.types import RunInfo

_MANY = 1000  # records whose report takes seconds


@dataclass(frozen=True)
class Made:
    """What `mmel report` made."""

    report: str
    records: int
    runs: list[str]  # their labels
    photos: int  # that were made from the input


@dataclass(frozen=True)
class Place:
    """Where a report goes: a folder of a kind, or one file."""

    folder: Path
    kind: FolderKind
    file: Path | None = None


def report(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    single: Path | None = None,
    moved: Path | None = None,
    events: Events | None = None,
) -> Made:
    """Write the report of runs from their archives, without a model.

    Args:
        paths: run folders, shards or merged files; of several, the records that all have.
        out: the folder of the report; None for the run folder itself, of one run.
        single: one file to write in the place of a folder.
        moved: where the input of the runs lies now, for photos that are missing.
        events: what to tell meanwhile.

    Raises:
        UsageError: no place for it, or runs without a common record.
        ArchiveError: an archive that cannot be read.
    """
    events = events or Events()
    labels, place = labels_of(paths), _place(paths, out, single)
    with ExitStack() as stack:
        opened = [
            Opened(label, path, stack.enter_context(load_archive(path)))
            for label, path in zip(labels, paths, strict=True)
        ]
        several = len(opened) > 1
        shown = common_records(opened, None, events.message if several else lambda _line: None)
        runs = _of_all(opened, shown)
        if place.file is not None:
            check_single(place.file, len(shown) * len(runs))
        _tell(len(shown) * len(runs), events.message)
        with _entered(place, runs) as folder:
            photos = _draw(runs, folder, moved, events)
            evaluation = find_evaluation(paths[0] / EVAL_FOLDER, runs, events.message)
            if place.file is not None:
                index = build_single(place.file, runs, evaluation, [folder, *paths])
            else:
                index = build(folder, runs, evaluation, made_from(runs[0]) if place.kind is EXPLAINED else None)
    return Made(str(index), len(shown), labels, photos)


def report_run(folder: Path, info: RunInfo, say: Callable[[str], None]) -> Path:
    """The report of a run folder by the command that has just written it, whatever it has finished by then.

    One that is there already, whole and of what the folder holds now, stays as it is.

    Args:
        folder: of the run.
        info: of the run, if no record is finished.
        say: told if it takes a while, and what is left out.
    """
    with ExitStack() as stack:
        any_shard = any((folder / ARCHIVE).glob(SHARDS))
        archive = stack.enter_context(load_archive(folder)) if any_shard else None
        label = labels_of([folder])[0]
        run = _of(label, folder, archive.info if archive else info, archive, np.arange(len(archive) if archive else 0))
        digest = made_from(run)
        if is_current(run, digest):
            return folder / REPORT
        _tell(len(run.rows), say)
        if len(run.rows) and not (folder / PHOTOS).is_dir():
            say(f"The report has maps without photos, since the run has no pictures; mmel report {folder} adds photos")
        return build(folder, [run], find_evaluation(folder / EVAL_FOLDER, [run], say), digest)


def report_evaluation(folder: Path, opened: Sequence[Opened], shown: Common, say: Callable[[str], None]) -> Path:
    """The report of an evaluation in its folder, whose files have just been written; `say` as in `report_run`."""
    runs = _of_all(opened, shown)
    _tell(len(shown) * len(runs), say)
    return build(folder, runs, find_evaluation(folder, runs, say))


def attempted(make: Callable[[], Path], safe: str, say: Callable[[str], None]) -> str:
    """index.html as `make` writes it; "" if it cannot: the work that it shows is done and must not seem to have failed.

    Args:
        make: the report.
        safe: what is safe, and how the report is made.
        say: takes one line of warning.
    """
    try:
        return str(make())
    except (OSError, MmelError) as error:
        say(f"Warning: The report could not be written ({error}); {safe}")
        return ""


def _tell(records: int, say: Callable[[str], None]) -> None:
    if records >= _MANY:
        say(f"Writing the report of {count(records, 'record')}")


def _of_all(opened: Sequence[Opened], shown: Common) -> list[ReportRun]:
    return [
        _of(one.label, one.path, one.archive.info, one.archive, numbers)
        for one, numbers in zip(opened, shown.numbers, strict=True)
    ]


def _of(label: str, path: Path, info: RunInfo, archive: Archive | None, rows: np.ndarray) -> ReportRun:
    failures, failed = read_failures(path, FAILURES) if path.is_dir() else ([], 0)
    return ReportRun(label, path, info, archive, rows, failures, failed)


def _place(paths: Sequence[Path], out: Path | None, single: Path | None) -> Place:
    """Where the report goes, before anything is opened.

    Raises:
        UsageError: if it has no place.
    """
    if single is not None:
        if out is not None:
            raise UsageError("--self-contained writes one file and --out a folder; give one of them")
        if single.exists():
            raise UsageError(f"--self-contained {single}: exists; give a new file")
        if not single.parent.is_dir():
            raise UsageError(f"--self-contained {single}: {single.parent} is no folder; make it first")
        return Place(single.parent, REPORTED, single)
    if out is not None and not (len(paths) == 1 and out.resolve() == paths[0].resolve()):
        return Place(out, REPORTED)
    if len(paths) > 1:
        raise UsageError("--out is missing: the report of several runs has a folder of its own, for example --out both")
    if paths[0].is_file():
        raise UsageError(f"--out is missing: {paths[0]} is a file; give a folder for the report")
    if paths[0].is_dir() and not (paths[0] / EXPLAINED.marker).is_file():
        raise UsageError(f"--out is missing: {paths[0]} has no run.yaml, so it is no run folder; give a folder")
    return Place(paths[0], EXPLAINED)


@contextmanager
def _entered(place: Place, runs: Sequence[ReportRun]) -> Iterator[Path]:
    """The folder, locked; of one file, a folder for photos that is gone afterwards."""
    if place.file is not None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        return
    with RunFolder(place.folder, place.kind, stop=Stop(at_once=True)) as folder:
        if place.kind is REPORTED:
            content = {"runs": [_noted(run) for run in runs]}
            if folder.notes().get("runs") != content["runs"]:
                for pictures in (PHOTOS, THUMBNAILS):  # of other runs, or of what they held then
                    folder.remove_pictures(pictures)
            folder.note(content)
        yield place.folder


def _noted(run: ReportRun) -> dict[str, str]:
    """What tells the photos of a run: where it lies, what it was made from, its images, and its maps of them."""
    return {
        "label": run.label,
        "path": str(run.path.resolve()),
        "config_sha256": run.info.config_sha256,
        "images_sha256": lines_sha256(f"{image}\n{h}x{w}" for image, (h, w) in image_sizes(run).items()),
        "maps_sha256": run.content[1],
    }


def _draw(runs: Sequence[ReportRun], folder: Path, moved: Path | None, events: Events) -> int:
    """Photos that no run has, from the input of the first run that can give them."""
    photos, drawn = PhotoPaths([folder, *(run.path for run in runs)], folder), 0
    for run in runs:
        missing = missing_images(run, photos)
        if not missing:
            break
        if run.path.is_dir() or moved is not None:
            source = find_input(run.path, run.info, moved)
            drawn += draw_missing(source, missing, run, folder, events.message)
        else:
            events.message(f"No photos: {run.path} is a file, which does not say where its images lie; give --data")
    return drawn
