"""Options that several commands share. None means "not given": defaults live in mmel_cli.config alone."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file; see configs/default.yaml.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, for example method.layers=last.")
]
Model = Annotated[
    str | None, typer.Option("--model", help="Hub id, folder, or builtin. [default: openai/clip-vit-base-patch16]")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:i. [default: auto]")]
Dtype = Annotated[
    str | None, typer.Option("--dtype", help="auto (float32), float32, bfloat16 or float16. [default: auto]")
]
MethodName = Annotated[str | None, typer.Option("--method", help="See `mmel methods`. [default: mmel]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
