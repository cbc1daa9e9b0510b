"""mmel scenes."""

from pathlib import Path
from typing import Annotated

import typer

from mmel_cli.cli import console
from mmel_cli.errors import UsageError

_SPLITS = ("train", "validation", "test")


def scenes(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; a new or empty folder.")],
    count: Annotated[int, typer.Option("--count", min=1, help="How many images.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same files.")] = 0,
    split: Annotated[str, typer.Option("--split", help="train, validation or test: never the same scenes.")] = "test",
    side: Annotated[int, typer.Option("--side", min=32, max=2048, help="Image width and height in pixels.")] = 192,
) -> None:
    """Write sample data: generated scenes with captions, exact masks and boxes, as a HuggingFace imagefolder."""
    if split not in _SPLITS:
        raise UsageError(f"--split {split}: is not one of {', '.join(_SPLITS)}")
    from mmel_cli.data.scenes.folder import write_scenes  # noqa: PLC0415 - torch loads only when a command runs

    records = write_scenes(folder, count, seed, split=split, side=side)
    console.result(f"{count} images with {records} captions in {folder}")
