"""mmel scenes."""

from pathlib import Path
from typing import Annotated

import typer

from mmel_cli.cli import console, options
from mmel_cli.errors import UsageError
from mmel_cli.names import SPLITS, hint, match
from mmel_cli.names import count as counted


def scenes(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; a new or empty folder.")],
    count: Annotated[int, typer.Option("--count", min=1, help="How many images.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same files.")] = 0,
    split: Annotated[
        str,
        typer.Option(
            "--split", help="train, validation or test: never the same scenes.", autocompletion=lambda: list(SPLITS)
        ),
    ] = "test",
    side: Annotated[int, typer.Option("--side", min=32, max=2048, help="Image width and height in pixels.")] = 192,
    json: options.Json = False,
) -> None:
    """Write sample data: scenes with captions, exact masks and boxes of each phrase, as a HuggingFace imagefolder."""
    chosen = match(split, SPLITS)
    if chosen is None:
        raise UsageError(f"--split {split}: is not one of {', '.join(SPLITS)}{hint(split, SPLITS)}")
    from mmel_cli.data.scenes.folder import write_scenes  # noqa: PLC0415 - torch loads only when a command runs

    records = write_scenes(folder, count, seed, split=chosen, side=side)
    if json:
        console.document({"images": count, "captions": records, "folder": str(folder)})
        return
    console.result(f"{counted(count, 'image')} with {counted(records, 'caption')} in {folder}")
