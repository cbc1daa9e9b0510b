"""mmel report."""

from pathlib import Path
from typing import Annotated

import typer

from mmel_cli.cli import console, options
from mmel_cli.names import count


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders or archive files.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the report. [default: the RUN]")] = None,
    json: options.Json = False,
) -> None:
    """Write the report of a run anew, from its archive alone."""
    from mmel_cli.archive import load_archive  # noqa: PLC0415 - h5py loads only when a command runs
    from mmel_cli.report.build import build  # noqa: PLC0415
    from mmel_cli.report.run import ReportRun  # noqa: PLC0415

    with load_archive(runs[0]) as archive:
        run = ReportRun(runs[0].resolve().name, runs[0], archive.info, archive, archive.ids)
        index = build(out or runs[0], [run])
    if json:
        console.document({"records": len(run.ids), "report": str(index)})
    else:
        console.result(f"{count(len(run.ids), 'record')}\nReport: {index}")
