"""Write an export so that it is there whole or not at all."""

import os
import shutil
from pathlib import Path

from mmel_cli.archive import load_archive
from mmel_cli.archive.reader import archive_files
from mmel_cli.errors import UsageError
from mmel_cli.export.base import Exported, ExportOptions, Format, Job
from mmel_cli.export.photos import Photos
from mmel_cli.runs import Events
from mmel_cli.runs.inputs import find_input
from mmel_cli.runs.lookup import run_folder_of

_TEMPORARY = ".mmel-tmp"


def export(
    run: Path,
    out: Path,
    chosen: Format,
    options: ExportOptions,
    *,
    overwrite: bool = False,
    events: Events | None = None,
) -> Exported:
    """Write a run in a format.

    Args:
        run: a run folder, a shard or a merged file.
        out: the file or folder to write.
        chosen: find_format.
        options: see ExportOptions.
        overwrite: replace what lies at `out`: a file, or a folder that an earlier export of this format wrote.
        events: what to tell meanwhile.

    Raises:
        UsageError: if `out` must not be written.
        ArchiveError: as load_archive.
    """
    _check(run, out, chosen, overwrite=overwrite)
    temporary = out.with_name(out.name + _TEMPORARY)
    _remove(temporary)
    events = events or Events()
    with load_archive(run) as archive:
        events.total(len(archive))
        folder = run_folder_of(run)
        source = find_input(folder or run, archive.info, options.data)
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            photos = Photos(folder, source, options.limits)
            written = chosen.write(Job(archive, options, photos, events), temporary)
            if overwrite and chosen.folder:
                _remove(out)
            os.replace(temporary, out)  # noqa: PTH105 - Path.replace is the same call; this one says it overwrites
        finally:
            _remove(temporary)
    return written


def _check(run: Path, out: Path, chosen: Format, *, overwrite: bool) -> None:
    """Refuse what must not be written over, before anything is read."""
    if any(out.resolve() == path.resolve() for path in archive_files(run)):
        raise UsageError(f"--out {out}: is an archive of the run itself; give another name")
    if not out.exists() and not out.is_symlink():
        return
    what = "folder" if chosen.folder else "file"
    if out.is_dir() != chosen.folder or out.is_symlink():
        raise UsageError(f"--out {out}: is there and is no {what}, which --to {chosen.name} writes; give another name")
    empty = chosen.folder and not any(out.iterdir())
    if chosen.folder and not empty and not chosen.owns(out):
        raise UsageError(f"--out {out}: is not empty and was not written by mmel export; give another folder")
    if not empty and not overwrite:
        raise UsageError(f"--out {out}: is there already; give --overwrite, or another {what}")
    if empty:
        out.rmdir()


def _remove(path: Path) -> None:
    """A file or a folder, if it is there; links in it are removed and not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
