"""Options that several commands share. None means "not given": defaults live in mmel_cli.config alone."""

from pathlib import Path
from typing import Annotated

import typer

from mmel_cli.names import DEVICES, DTYPES, METHODS, MODELS

CaptionColumn = Annotated[
    str | None,
    typer.Option(
        "--caption-column", help="Column of the captions. [default: text, caption, captions, prompt or title]"
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option("--image-column", help="Column that names the images. [default: file_name, filepath, image, ...]"),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file; `mmel config` prints documented ones.")]


def setting(example: str) -> typer.models.OptionInfo:
    """--set, with a setting that the command has."""
    return typer.Option("--set", metavar="KEY=VALUE", help=f"One setting, for example {example}.")


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Hub id, folder, or builtin. [default: openai/clip-vit-base-patch16]",
        autocompletion=lambda: list(MODELS),
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda or cuda:i. [default: auto]", autocompletion=lambda: list(DEVICES)),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="auto (float32), float32, bfloat16 or float16: less memory, maps a little off. [default: auto]",
        autocompletion=lambda: list(DTYPES),
    ),
]
Ranks = Annotated[
    int | None,
    typer.Option("--ranks", help="Processes that share the work, one a GPU or each a share of the cores. [default: 1]"),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="What starts ranks: local, or ray (extra: ray). [default: local]",
        autocompletion=lambda: ["local", "ray"],
    ),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="A Ray cluster, host:port or auto; by default one is started here."),
]
MethodName = Annotated[
    str | None,
    typer.Option("--method", help="See `mmel methods`. [default: mmel]", autocompletion=lambda: list(METHODS)),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold", min=0, max=1, help="Of a map's strongest evidence, the least in a region. [default: 0.2]"
    ),
]
