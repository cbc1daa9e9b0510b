"""mmel report."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mmel_cli.cli import console, options
from mmel_cli.names import count


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders or archive files; the first is the reference.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report. [default: the RUN, if it is one folder]")
    ] = None,
    self_contained: Annotated[
        Path | None,
        typer.Option(
            "--self-contained",
            metavar="FILE.html",
            help="One file with its photos; 500 records in all at most.",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="INPUT of the runs, if it has moved.")] = None,
    json: options.Json = False,
) -> None:
    """Write the report of a run anew from its archive, or of several runs side by side; no model is loaded.

    index.html opens in any browser from its folder: every record with its image, map, layers and words. Of several
    runs it shows the records that all have, each under every run, and how much their maps differ. What `mmel eval` has
    measured in the folder `eval` of the first RUN is shown with the records.

    Photos are those of the run folders, by relative links: keep these where they are. A run without photos (of an older
    mmel, or with heatmaps=false) gets them from its INPUT, which --data names if it has moved; archive files have none
    without it.
    """
    from mmel_cli.report.make import report as make  # noqa: PLC0415 - h5py loads only when a command runs
    from mmel_cli.runs import Events  # noqa: PLC0415

    made = make(runs, out, single=self_contained, moved=data, events=Events(console.say))
    if json:
        console.document(asdict(made))
    else:
        photos = f", {count(made.photos, 'photo')} read from the input" if made.photos else ""
        console.result(f"{count(made.records, 'record')} of {count(len(made.runs), 'run')}{photos}")
        console.result(f"Report: {made.report}")
