"""mmel config."""

from importlib.resources import files
from typing import Annotated

import typer

from mmel_cli.cli import console
from mmel_cli.errors import UsageError
from mmel_cli.names import hint, match


def _names() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in files("mmel_cli").joinpath("configs").iterdir())


def config(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Which one; without it, the names.", autocompletion=_names),
    ] = None,
) -> None:
    """Print a configuration file in which every setting is documented.

    Save it, change what you need, and give it to a command: `mmel config default > my.yaml`, then
    `mmel explain photos --out run --config my.yaml`.
    """
    names = _names()
    if name is None:
        for each in names:
            console.result(each)
        return
    chosen = match(name.removesuffix(".yaml"), names)
    if chosen is None:
        raise UsageError(f"{name}: no such configuration{hint(name, names)}; there are {', '.join(names)}")
    typer.echo(files("mmel_cli").joinpath("configs", f"{chosen}.yaml").read_text("utf-8"), nl=False)
