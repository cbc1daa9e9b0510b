"""Write a report: the data of each run in chunks, then the page; what an earlier, longer report left goes last."""

import secrets
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from mmel_cli.errors import UsageError
from mmel_cli.names import count
from mmel_cli.report.arrays import array_files
from mmel_cli.report.columns import record_columns
from mmel_cli.report.difference import differences
from mmel_cli.report.evaluation import Evaluated
from mmel_cli.report.head import head
from mmel_cli.report.layout import EVALUATION_FILE, HEAD_FILE, RECORDS, records_file
from mmel_cli.report.page import assets, page, single_page
from mmel_cli.report.photos import PhotoPaths
from mmel_cli.report.run import ReportRun
from mmel_cli.report.scripts import call, call_with_pictures
from mmel_cli.runs.files import write_text
from mmel_cli.runs.folder import REPORT, REPORT_FILES

MOST_IN_ONE_FILE = 500  # records


def build(
    folder: Path, runs: Sequence[ReportRun], evaluation: Evaluated | None = None, made_from: str | None = None
) -> Path:
    """The report of runs, in `folder`; a report that stood there is replaced.

    Args:
        folder: where index.html goes; photos are taken from there and from the folders of the runs.
        runs: at least one, with the same records in the same order; the first is what others are compared with.
        evaluation: that belongs to them.
        made_from: what `current.made_from` gives, of the report of a run folder.

    Returns:
        index.html.
    """
    photos, app = PhotoPaths([folder, *(run.path for run in runs)], folder), assets()
    names = set(app)
    for name in (REPORT, HEAD_FILE):  # the last to be written: data of two reports never stand under one page
        (folder / name).unlink(missing_ok=True)
    for name, text in chain(app.items(), _data(folder, runs, photos, evaluation, made_from=made_from)):
        write_text(folder / name, text)
        names.add(name)
    write_text(folder / REPORT, page(_title(runs), app, _at_start(runs, evaluation)))
    _remove_others(folder, names)
    return folder / REPORT


def build_single(file: Path, runs: Sequence[ReportRun], evaluation: Evaluated | None, places: Sequence[Path]) -> Path:
    """The same in one file, with its photos.

    Args:
        file: to write.
        runs: as `build` takes them.
        evaluation: the same.
        places: folders with `photos/`, in the order in which they are looked at.

    Returns:
        The file.
    """
    data = dict(_data(file.parent, runs, PhotoPaths(places, None), evaluation, single=True))
    order = [*_at_start(runs, evaluation), *data]
    write_text(file, single_page(_title(runs), assets(), {name: data[name] for name in order}))
    return file


def check_single(file: Path, records: int) -> None:
    """Refuse more records than one page can take.

    Raises:
        UsageError: for more than MOST_IN_ONE_FILE.
    """
    if records > MOST_IN_ONE_FILE:
        raise UsageError(
            f"--self-contained {file}: {count(records, 'record')} are too many for one page, which takes "
            f"{MOST_IN_ONE_FILE}; leave it out, and keep the folder of the report together"
        )


def _data(
    folder: Path,
    runs: Sequence[ReportRun],
    photos: PhotoPaths,
    evaluation: Evaluated | None,
    *,
    single: bool = False,
    made_from: str | None = None,
) -> Iterator[tuple[str, str]]:
    """Name and text of each data script, the head last."""
    measured, shown, stamp = evaluation.columns if evaluation else [], False, secrets.token_hex(4)
    for k, columns in enumerate(record_columns(runs, photos, measured, differences(runs))):
        shown = shown or any(columns["photo"])
        text = call_with_pictures(k, columns, stamp) if single else call("records", k, columns, stamp)
        yield records_file(k), text
    for number, run in enumerate(runs):
        yield from array_files(run, number, stamp)
    if evaluation:
        yield EVALUATION_FILE, call("evaluation", evaluation.content, stamp)
    further = {"build": stamp, "title": _title(runs), "photos": shown, "self_contained": single, "made_from": made_from}
    yield HEAD_FILE, call("head", head(runs, folder) | {"metrics": evaluation.metrics if evaluation else []} | further)


def _title(runs: Sequence[ReportRun]) -> str:
    if len(runs) > 1:
        return f"{', '.join(run.label for run in runs[:-1])} and {runs[-1].label} compared"
    return f"{runs[0].info.method} on {runs[0].info.model}"


def _at_start(runs: Sequence[ReportRun], evaluation: Evaluated | None) -> list[str]:
    """The data that a page loads at its start."""
    files = -(-len(runs[0].rows) // RECORDS)
    return [HEAD_FILE, *([EVALUATION_FILE] if evaluation else []), *(records_file(k) for k in range(files))]


def _remove_others(folder: Path, names: set[str]) -> None:
    """What an earlier report left, also one of an older mmel, which had further pages."""
    for pattern in (*REPORT_FILES, "page-*.html"):
        for path in folder.glob(pattern):
            if not path.is_dir() and path.relative_to(folder).as_posix() not in names:
                path.unlink()
