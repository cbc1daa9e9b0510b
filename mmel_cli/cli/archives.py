"""mmel verify and mmel merge."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mmel_cli.cli import console, options
from mmel_cli.errors import EXIT_FAILED
from mmel_cli.names import count


def verify(
    path: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run folder, a shard or a merged archive.")],
    json: options.Json = False,
) -> None:
    """Read every chunk of an archive and check schema, checksums, ids and values; exit code 1 if anything is wrong."""
    from mmel_cli.archive import verify as check  # noqa: PLC0415 - h5py loads only when a command runs

    report = check(path)
    if json:
        console.document(asdict(report))
    else:
        for problem in report.problems:
            console.result(problem)
        verdict = count(len(report.problems), "problem") if report.problems else "no problems"
        console.result(f"{count(report.records, 'record')} in {count(report.files, 'file')}: {verdict}")
    if report.problems:
        raise typer.Exit(EXIT_FAILED)


def merge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, for example archive.h5.")],
    json: options.Json = False,
) -> None:
    """Copy all shards of a run into one HDF5 file."""
    from mmel_cli.archive import merge as write  # noqa: PLC0415

    records = write(run, out)
    if json:
        console.document({"records": records, "out": str(out)})
    else:
        console.result(f"{count(records, 'record')} in {out}")
