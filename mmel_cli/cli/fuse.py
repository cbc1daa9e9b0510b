"""mmel fuse."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from mmel_cli.cli import console, options
from mmel_cli.cli.explain import show_summary
from mmel_cli.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, EXIT_TERMINATED


def fuse(  # noqa: PLR0913, PLR0917 - one parameter an option
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run of mmel with all channels (folder or file).")],
    weights: Annotated[str, typer.Option("--weights", help="A file of train-weights; or auto, or untrained.")],
    out: Annotated[Path, typer.Option("--out", help="The new run folder; the same command goes on there.")],
    transfer: Annotated[bool, typer.Option("--transfer", help="Take weights of another model.")] = False,
    heatmaps: Annotated[bool, typer.Option("--heatmaps/--no-heatmaps", help="Draw them; needs the images.")] = True,
    data: Annotated[Path | None, typer.Option("--data", help="INPUT of the run, if it has moved.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove an earlier run in the folder.")] = False,
    json: options.Json = False,
    settings: Annotated[list[str] | None, options.setting("image.limits.max_pixels=50000000")] = None,
) -> None:
    """Fuse a run's raw channels anew with other weights, without the model.

    The new run equals explaining with those weights (up to rounding, with archive.dtype=float16). Exit codes: see
    `mmel --help`. The images that --set image.limits refuses have no heatmap;
    --set report=false leaves out the report.
    """
    from mmel_cli.config import load_fuse_config  # noqa: PLC0415 - torch loads only when a command runs
    from mmel_cli.pipelines.fuse import FuseOptions, fuse_run  # noqa: PLC0415
    from mmel_cli.runs import Events  # noqa: PLC0415

    given = load_fuse_config(settings or ())
    with console.reporter("Fusing", "records") as report:
        events = Events(report.message, report.total, report.progress)
        chosen = FuseOptions(weights, transfer, heatmaps, data, given.image.limits, given.report)
        summary, stopped = fuse_run(run, out, chosen, overwrite=overwrite, events=events)
    show_summary(summary, json=json)
    if stopped is not None:
        console.say("Stopped: what is finished is saved; run the same command again to go on")
        raise typer.Exit(EXIT_TERMINATED if stopped == signal.SIGTERM else EXIT_INTERRUPTED)
    if summary.failed:
        raise typer.Exit(EXIT_PARTIAL)
