"""mmel report."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmel_cli.cli import console, options
from mmel_cli.errors import EXIT_PARTIAL
from mmel_cli.names import count

if TYPE_CHECKING:
    from mmel_cli.pipelines.redraw import Redrawn


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
    heatmaps: Annotated[
        bool,
        typer.Option("--heatmaps", help="First draw the pictures that each RUN lacks, or has in another look."),
    ] = False,
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

    --heatmaps draws heatmaps, photos and thumbnails into each RUN from its archive and INPUT: what is missing, or of
    other settings than those of its last call (heatmap.* in run.yaml). They are the files that mmel explain draws, so
    that it may leave them out (--set heatmaps=false). A record whose image is gone is named; the exit code is 3 then.
    """
    from mmel_cli.report.make import report as make  # noqa: PLC0415 - h5py loads only when a command runs
    from mmel_cli.runs import Events  # noqa: PLC0415

    drawn = _draw(runs, data) if heatmaps else None
    made = make(runs, out, single=self_contained, moved=data, events=Events(console.say))
    if json:
        console.document(asdict(made) | ({"heatmaps": asdict(drawn)} if drawn else {}))
    else:
        photos = f", {count(made.photos, 'photo')} read from the input" if made.photos else ""
        console.result(f"{count(made.records, 'record')} of {count(len(made.runs), 'run')}{photos}")
        console.result(f"Report: {made.report}")
    if drawn and drawn.failed:
        raise typer.Exit(EXIT_PARTIAL)


def _draw(runs: list[Path], data: Path | None) -> "Redrawn":
    """The pictures of the runs, told as they are drawn."""
    from mmel_cli.pipelines.redraw import redraw  # noqa: PLC0415 - torch loads only when pictures are drawn
    from mmel_cli.runs import Events  # noqa: PLC0415

    with console.reporter("Drawing", "records") as report:
        drawn = redraw(runs, data, Events(report.message, report.total, report.progress))
        for failure in drawn.named:
            report.message(f"No picture of {failure.id}: {failure.error}")
        if drawn.failed > len(drawn.named):
            report.message(f"No picture of {count(drawn.failed - len(drawn.named), 'further record')}")
        report.message(f"Pictures of {count(drawn.drawn, 'record')} drawn")
    return drawn
