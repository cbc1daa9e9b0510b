"""The `mmel` command: its subcommands, and how errors become one line and an exit code."""

import sys

import typer

from mmel_cli import __version__
from mmel_cli.cli import archives, evaluate, explain, fuse, methods, scenes, train
from mmel_cli.cli.console import error
from mmel_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, MmelError

app = typer.Typer(
    name="mmel",
    help="Explain, in batch, why a CLIP-like model finds an image and a caption alike.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("explain")(explain.explain)
app.command("train-weights")(train.train_weights)
app.command("fuse")(fuse.fuse)
app.command("eval", epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command("verify")(archives.verify)
app.command("merge")(archives.merge)
app.command("scenes")(scenes.scenes)
app.command("methods")(methods.methods)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"mmel {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def main() -> None:
    """Run the command line; an MmelError ends it with one line on stderr and its exit code."""
    try:
        app()
    except MmelError as problem:
        error(str(problem))
        sys.exit(problem.exit_code)
    except OSError as problem:  # a full disk, a folder that cannot be written
        error(f"{problem}; run the same command again when that is mended")
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        error("interrupted; run the same command again to go on")
        sys.exit(EXIT_INTERRUPTED)
