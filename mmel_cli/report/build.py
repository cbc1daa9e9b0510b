"""Write a report: the data of each run in chunks, then the page; what an earlier, longer report left goes last."""

from collections.abc import Sequence
from pathlib import Path

from mmel_cli.report.arrays import array_files
from mmel_cli.report.columns import record_columns
from mmel_cli.report.head import head
from mmel_cli.report.layout import APP, DATA, HEAD_FILE, records_file
from mmel_cli.report.page import assets, page
from mmel_cli.report.photos import PhotoPaths
from mmel_cli.report.run import ReportRun
from mmel_cli.report.scripts import call
from mmel_cli.runs.folder import REPORT, write_text


def build(folder: Path, runs: Sequence[ReportRun]) -> Path:
    """The report of runs, in `folder`; a report that stood there is replaced.

    Args:
        folder: where index.html goes.
        runs: at least one, with the same records in the same order; the first is what others are compared with.

    Returns:
        index.html.
    """
    photos = PhotoPaths([folder, *(run.path for run in runs)], folder)
    written = _Written(folder)
    at_start = [HEAD_FILE]
    for k, columns in enumerate(record_columns(runs, photos, [], None)):
        at_start.append(records_file(k))
        written.add(records_file(k), call("records", k, columns))
    for number, run in enumerate(runs):
        for name, text in array_files(run, number):
            written.add(name, text)
    top = head(runs, folder, {"metrics": []}, photos=bool(photos))
    written.add(HEAD_FILE, call("head", top))
    app = assets()
    for name, text in app.items():
        written.add(name, text)
    written.add(REPORT, page(top["title"], app, at_start))
    written.remove_others()
    return folder / REPORT


class _Written:
    """The files of a report as they are written, each whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._names = folder, set[str]()

    def add(self, name: str, text: str) -> None:
        write_text(self._folder / name, text)
        self._names.add(name)

    def remove_others(self) -> None:
        """What an earlier report left, also one of an older mmel, which had further pages."""
        old = [path for part in (APP, DATA) for path in (self._folder / part).rglob("*") if path.is_file()]
        for path in (*old, *self._folder.glob("page-*.html")):
            if path.relative_to(self._folder).as_posix() not in self._names:
                path.unlink()
