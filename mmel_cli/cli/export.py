"""mmel export."""

from pathlib import Path
from typing import Annotated

import typer

from mmel_cli.cli import console, options
from mmel_cli.names import EXPORTS


def export(  # noqa: PLR0913, PLR0917 - one parameter an option
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, a shard or a merged archive.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", help="coco, points, parquet or fiftyone; see above.", autocompletion=lambda: list(EXPORTS)
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write; for fiftyone the folder.")],
    threshold: options.Threshold = None,
    points: Annotated[
        int | None, typer.Option("--points", min=1, help="Points of a prompt that are meant, at most. [default: 3]")
    ] = None,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails/--no-thumbnails", help="Small photos, in parquet and fiftyone.")
    ] = True,
    copy: Annotated[bool, typer.Option("--copy", help="fiftyone: copy photos, where else they are linked.")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="INPUT of the run, if it has moved.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    json: options.Json = False,
) -> None:
    """Write a run for other tools; needs no model.

    \b
    coco      boxes of evidence, for pycocotools, detection and labelling tools
    points    points and boxes as prompts for segmenters such as SAM, JSON lines
    parquet   a row a record: map, words, box, thumbnail (pip install
              'mmel-cli[export]')
    fiftyone  a FiftyOne dataset: photos, heatmaps of one fixed range, boxes

    A box is around a region: where the map, interpolated to four points a cell's side, has at least --threshold of its
    strongest evidence, in one piece. All boxes and points are in pixels of the upright original. With phrases (runs
    made with --words) coco and fiftyone have boxes of each phrase, else of the whole caption; points has both.

    Photos come from the run folder, else from the run's input; fiftyone links to originals that stand upright as they
    are. OUT is there whole or not at all.
    """  # noqa: D301 - the parser of help wants the backspace
    from mmel_cli.export import ExportOptions, find_format  # noqa: PLC0415 - h5py loads only when a command runs
    from mmel_cli.export import export as write  # noqa: PLC0415
    from mmel_cli.runs import Events  # noqa: PLC0415

    chosen = find_format(to)
    given = {"threshold": threshold, "points": points, "thumbnails": thumbnails, "copy": copy, "data": data}
    settings = ExportOptions(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    with console.reporter("Exporting", "records") as report:
        events = Events(report.message, report.total, report.progress)
        written = write(run, out, chosen, settings, overwrite=overwrite, events=events)
    for note in written.notes:
        console.say(note)
    if json:
        console.document({"to": chosen.name, "out": str(out)} | {"counts": written.counts, "notes": written.notes})
        return
    told = ", ".join(f"{number} {what}" for what, number in written.counts.items())
    console.result(f"{told} in {out}")
