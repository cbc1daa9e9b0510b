"""mmel show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmel_cli.cli import console, highlights, options
from mmel_cli.names import count

if TYPE_CHECKING:
    from mmel_cli.blobs import Blob
    from mmel_cli.runs.view import RecordView
    from mmel_cli.types import RunInfo

_REGIONS, _BAR = 5, 20  # regions that are listed; characters of the longest bar


def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, a shard or a merged archive.")],
    record: Annotated[
        str | None, typer.Argument(metavar="ID", help="A record's id, or a part of it that no other has.")
    ] = None,
    signed: Annotated[bool, typer.Option("--signed", help="Also evidence against the caption, in blue.")] = False,
    threshold: options.Threshold = None,
    json: options.Json = False,
) -> None:
    """Say what a run says of one record, in the terminal: score, words, strongest regions, the map, where it lies.

    A region is where the map, interpolated to four points a cell's side, has at least --threshold of its strongest
    evidence, in one piece; its box is in pixels of the original (x0, y0, x1, y1). A word's value is what the score
    loses without it; of a run made with --words, its share is what it adds to the score on average, and phrases follow.

    Without ID: the highest, the lowest and the oddest records. --json prints all of it, the map too.
    """
    from mmel_cli.archive import load_archive  # noqa: PLC0415 - h5py loads only when a command runs
    from mmel_cli.blobs import THRESHOLD  # noqa: PLC0415
    from mmel_cli.runs.lookup import find_id, run_folder_of  # noqa: PLC0415
    from mmel_cli.runs.view import view  # noqa: PLC0415

    if record is None:
        highlights.show(run, [run], json=json)
        return
    with load_archive(run) as archive:
        info = archive.info
        name = find_id(archive.ids, record)
        one = view(archive, name, run_folder_of(run), THRESHOLD if threshold is None else threshold)
    if json:
        console.document(one.plain())
        return
    _head(one)
    _words(one, shares=info.word_regions)
    if info.word_regions:
        _phrases(one)
    _regions(one)
    _map(one, info, signed=signed)
    console.result(f"Archive: {one.archive}, row {one.row}")
    if one.picture:
        console.result(f"Picture: {one.picture}")
    console.result(f"Image: {one.photo or one.record.image}")


def _head(one: "RecordView") -> None:
    record = one.record
    console.result(f"{record.id}: {record.caption}")
    rank = ""
    if one.rank is not None:
        place, among = one.rank
        rank = (
            f", rank {place} of {among} captions on this image" if among > 1 else ", no other caption to rank it among"
        )
    logit = f", logit {record.logit:.3f}" if record.logit == record.logit else ""
    console.result(f"Score {record.score:.4f} (cosine){logit}{rank}")
    if record.against is not None:
        console.result(f"Against: {record.against} ({record.against_score:.4f}); the map is that of the difference")
    if record.truncated:
        console.result("Longer than the model reads: only the beginning was read")


def _words(one: "RecordView", *, shares: bool) -> None:
    if not one.words or (one.words[0].value is None and not shares):
        return
    heading = (
        "what the score loses without each, with a bar; its share of the score"
        if shares
        else ("what the score loses without each")
    )
    console.result(f"Words ({heading}):")
    width = max(console.cells(word.text) for word in one.words)
    top = max((abs(word.value) for word in one.words if word.value is not None), default=0)
    for word in one.words:
        value = "      " if word.value is None else f"{word.value:+.3f}"
        share = "" if word.share is None else f"share {word.share:+.3f}"
        length = round(_BAR * abs(word.value) / top) if top and word.value is not None else 0
        bar = ("+" if (word.value or 0) >= 0 else "-") * length
        gap = " " * (width - console.cells(word.text))
        console.result(f"  {word.text}{gap}  {value}  {bar:<{_BAR * shares}}  {share}".rstrip())


def _phrases(one: "RecordView") -> None:
    console.result("Phrases (share of the score, strongest region):" if one.phrases else "No phrases in the caption")
    for phrase in one.phrases:
        where = _region(phrase.regions[0]) if phrase.regions else "no evidence for it"
        console.result(f"  {phrase.text}  {phrase.share:+.3f}  {where}")


def _regions(one: "RecordView") -> None:
    height, width = one.record.image_size
    if not one.regions:
        console.result("No evidence for the caption anywhere in the image")
        return
    console.result(f"Strongest regions (x0 y0 x1 y1 in the {width} x {height} pixels of the image):")
    for blob in one.regions[:_REGIONS]:
        console.result(f"  {_region(blob)}")
    if len(one.regions) > _REGIONS:
        console.result(f"  and {count(len(one.regions) - _REGIONS, 'smaller one')}")


def _region(blob: "Blob") -> str:
    box = " ".join(f"{edge:.0f}" for edge in blob.box)
    return f"{box}: {blob.share:.0%} of the evidence for it, strongest {blob.peak:.3g}"


def _map(one: "RecordView", info: "RunInfo", *, signed: bool) -> None:
    from mmel_cli.render import blocks, colours  # noqa: PLC0415

    rows, columns = one.record.map.shape
    total = f"evidence for {one.positive:.3g}, against {one.negative:.3g}"
    part = "the part of the image that the model sees, " if info.geometry == "native" else ""
    console.result(f"Map ({part}{rows} x {columns} cells; {total}):")
    screen, box, percentile = console.screen(), one.record.box, 99.5
    heatmap = info.config.get("heatmap")
    colormap = str(heatmap.get("colormap", "inferno")) if isinstance(heatmap, dict) else "inferno"
    try:
        colours.table(colormap)
    except ValueError:  # of another matplotlib
        colormap = "inferno"
    if screen.colour:
        lines = blocks.coloured(
            one.record.map, box, screen.width, signed=signed, colormap=colormap, percentile=percentile
        )
    else:
        lines = blocks.shaded(
            one.record.map, box, screen.width, signed=signed, percentile=percentile, plain=not screen.blocks
        )
    console.drawing([[(cell.text, cell.upper, cell.lower) for cell in line] for line in lines])
