"""The `mmel` command: its subcommands, and how errors become one line, a JSON document and an exit code."""

import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from mmel_cli import __version__
from mmel_cli.cli import (
    archives,
    config,
    console,
    evaluate,
    explain,
    export,
    fuse,
    methods,
    report,
    scenes,
    show,
    train,
)
from mmel_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, MmelError

EXIT_CODES = (
    "Exit codes: 0 all done; 1 failed; 2 usage or configuration; 3 done, but some pairs failed; 130 interrupted; "
    "143 terminated."
)
app = typer.Typer(
    name="mmel",
    help="Explain, in batch, why a CLIP-like model finds an image and a caption alike.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _add(
    name: str, command: Callable[..., None], short: str, example: str, kind: type[TyperCommand] = TyperCommand
) -> None:
    """A command with its line in `mmel --help`, and an example at the end of its own help."""
    app.command(name, cls=kind, short_help=short, epilog=f"Example: {example}")(command)


_add(
    "explain",
    explain.explain,
    "Explain image-caption pairs: heatmaps and raw maps.",
    "mmel explain photos --out runs/first --model builtin",
)
_add(
    "train-weights",
    train.train_weights,
    "Learn how mmel fuses its evidence.",
    "mmel train-weights runs/first --out w.safetensors",
)
_add(
    "fuse",
    fuse.fuse,
    "Fuse a run's raw maps with other weights.",
    "mmel fuse runs/first --weights w.safetensors --out runs/refit",
)
_add(
    "eval",
    evaluate.evaluate,
    "Score saved maps and compare runs.",
    "mmel eval runs/first runs/refit --metrics localisation --out runs/eval",
    evaluate.EvalCommand,
)
_add(
    "show",
    show.show,
    "Say what a run says of one record.",
    "mmel show runs/first photos/dog.jpg#0 --signed",
)
_add(
    "export",
    export.export,
    "Write a run for other tools: boxes, points, tables.",
    "mmel export runs/first --to coco --out boxes.json",
)
_add(
    "report",
    report.report,
    "Write the report of runs anew, or of several side by side.",
    "mmel report runs/first runs/refit --out runs/both",
)
_add("verify", archives.verify, "Check an archive by reading all of it.", "mmel verify runs/first")
_add("merge", archives.merge, "Copy a run's shards into one file.", "mmel merge runs/first --out first.h5")
_add("scenes", scenes.scenes, "Write sample images with captions.", "mmel scenes scenes --count 100")
_add("methods", methods.methods, "List the methods: cost, needs, parameters.", "mmel methods")
_add("config", config.config, "Print a documented configuration.", "mmel config default")


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
    """Run the command line; an error ends it with one line on stderr, with --json also one document on stdout."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    """The exit code."""
    try:
        code: Any = app(arguments or ["--help"], prog_name="mmel", standalone_mode=False)
    except TyperException as problem:  # what the parser finds: an option or a command that there is not
        message, code, kind = _what_is_wrong(problem, arguments), EXIT_USAGE, "usage"
    except MmelError as problem:
        message, code, kind = str(problem), problem.exit_code, problem.kind
    except OSError as problem:  # a full disk, a folder that cannot be written
        message, code, kind = f"{problem}; run the same command again when that is mended", EXIT_FAILED, "system"
    except (KeyboardInterrupt, typer.Abort):
        message, code, kind = "interrupted; run the same command again to go on", EXIT_INTERRUPTED, "interrupted"
    else:
        return code if isinstance(code, int) and arguments else 0 if arguments else EXIT_USAGE
    console.error(message, code, kind, json="--json" in arguments)
    return code


def _what_is_wrong(problem: TyperException, arguments: list[str]) -> str:
    """A parser's complaint in one line, and where to look."""
    text = getattr(problem, "format_message", problem.__str__)()
    names = [command.name or "" for command in app.registered_commands]
    first = arguments[0]
    if first in names:
        return f"{text} See mmel {first} --help."
    return f"{text} The commands are {', '.join(names)}."
