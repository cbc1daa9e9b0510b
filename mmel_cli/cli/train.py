"""mmel train-weights."""

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from mmel_cli.cli import console, options
from mmel_cli.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, EXIT_TERMINATED
from mmel_cli.names import OBJECTIVES, count


def train_weights(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="Pairs as `mmel explain` reads them, or a run of mmel (folder or archive file)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The weights file to write, for example weights.safetensors.")],
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            help="localization, faithfulness or both. [default: localization]",
            autocompletion=lambda: list(OBJECTIVES),
        ),
    ] = None,
    caption_column: options.CaptionColumn = None,
    image_column: options.ImageColumn = None,
    config: options.ConfigFile = None,
    model: options.Model = None,
    data: Annotated[Path | None, typer.Option("--data", help="INPUT of the run, if it has moved.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Pairs a batch. [default: 16]")] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads that decode images. [default: 4]")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N entries or records.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train anew; an explained dataset stays.")] = False,
    json: options.Json = False,
    settings: Annotated[list[str] | None, options.setting("training.epochs=80")] = None,
) -> None:
    """Learn the weights of mmel: how layers, scales, evidence and gate are fused.

    `localization` needs masks or boxes and no model: seconds on an archive. `faithfulness` needs no labels: it covers
    what a map finds and looks at the model's score. A dataset is explained first, into OUT's folder `.training/run`,
    which is kept. Also written there: the log, a checkpoint (the same command goes on), the curve and a picture of the
    weights. Use the file with `mmel explain --weights OUT` or `mmel fuse RUN --weights OUT`. Exit codes: see
    `mmel --help`.
    """
    from mmel_cli.config import load_train_config  # noqa: PLC0415 - torch loads only when a command runs
    from mmel_cli.model import fetch_model  # noqa: PLC0415
    from mmel_cli.pipelines import train as pipeline  # noqa: PLC0415
    from mmel_cli.runs import Events  # noqa: PLC0415

    given: dict[str, Any] = {"model": model, "data": data, "training.objective": objective, "limit": limit}
    given |= {"batch_size": batch_size, "device": device, "dtype": dtype, "workers": workers}
    given |= {"input.caption_column": caption_column, "input.image_column": image_column}
    resolved = load_train_config(config, settings or (), given)
    if source.exists() and resolved.model.name is not None:
        fetch_model(resolved.model.name, console.say)  # before the progress bar, since downloads have bars of their own
    with console.reporter("Reading", "records") as report:
        events = Events(report.message, report.total, report.progress)
        training = pipeline.train_weights(source, out, resolved, overwrite=overwrite, events=events)
    if json:
        console.document(training.plain())
    else:
        _show(training)
    if training.signal is not None:
        kept = "the best so far is saved" if training.before else "nothing is learned yet"
        console.say(f"Stopped: {kept}; run the same command again to go on")
        raise typer.Exit(EXIT_TERMINATED if training.signal == signal.SIGTERM else EXIT_INTERRUPTED)
    if training.failed:
        console.say(f"{count(training.failed, 'pair')} failed; each is named in a failures.jsonl in {training.folder}")
        raise typer.Exit(EXIT_PARTIAL)


def _show(training) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - its module imports torch
    for name, before in training.before.items():
        console.result(f"{name} on the validation images: {before:.4f} untrained, {training.after[name]:.4f} trained")
    if training.before and training.after == training.before:
        console.say("Nothing was learned: no epoch was better than the untrained start, which is what the file holds")
    if training.before:
        console.result(f"Weights: {training.weights} (curve and pictures in {training.folder})")
