"""mmel eval."""

import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mmel_cli.cli import console, options
from mmel_cli.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, EXIT_TERMINATED
from mmel_cli.names import count


class EvalCommand(TyperCommand):
    """Its help lists every metric; their modules load torch, so they are read when the help is asked for."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example, then the metrics."""
        from mmel_cli.evaluation import STANDARD, groups, named  # noqa: PLC0415
        from mmel_cli.evaluation.metric import line  # noqa: PLC0415

        example = self.epilog
        self.epilog = (
            f"{example}\n\nGroups: {', '.join(groups())}; `standard` is {', '.join(STANDARD)}, `all` is every metric. "
            "The groups beyond standard take longer: published protocols, metrics that make new maps with the run's "
            "method, and those of words and phrases (of runs with --words). Metrics (range, direction, definition, "
            "source):\n\n" + "\n\n".join(line(metric, name) for metric, name in named().values())
        )
        super().format_epilog(ctx, formatter)
        self.epilog = example


def _metrics() -> list[str]:
    """What --metrics takes; the registry loads torch, so the shell waits for this one."""
    from mmel_cli.evaluation import groups, named  # noqa: PLC0415

    return ["all", "standard", *groups(), *named()]


def evaluate(  # noqa: PLR0913, PLR0917 - one parameter an option
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders or archive files; the first is the reference.")
    ],
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            help="Metrics or groups, with commas; see below. [default: standard]",
            autocompletion=_metrics,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Results folder. [default: eval in the first RUN]")] = None,
    config: options.ConfigFile = None,
    data: Annotated[Path | None, typer.Option("--data", help="INPUT of the runs, if it has moved.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="The runs' model, if it has moved.")] = None,
    captions: Annotated[
        Path | None,
        typer.Option("--captions", help="Text file, one caption a line: the set for probability and top-k."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Records a batch. [default: 16]")] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads that decode images. [default: 4]")] = None,
    ranks: options.Ranks = None,
    engine: options.Engine = None,
    address: options.Address = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N common records.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove an earlier evaluation there.")] = False,
    json: options.Json = False,
    settings: Annotated[list[str] | None, options.setting("faithfulness.steps=20")] = None,
) -> None:
    """Score saved maps, and compare runs record by record with the first one.

    Writes metrics.json, per_record.csv, plots, and index.html: the records of all runs side by side, with their
    metrics. Metrics that a run cannot give (no masks, images gone, model changed) are refused by name and the others
    computed. Exit codes: see `mmel --help`; 3 also when a metric was refused that --metrics or the configuration asked
    for by its own name.
    """
    from mmel_cli.config import load_eval_config  # noqa: PLC0415 - torch loads only when a command runs
    from mmel_cli.pipelines import evaluate as pipeline  # noqa: PLC0415
    from mmel_cli.runs import Events  # noqa: PLC0415

    given: dict[str, Any] = {"metrics": metrics, "data": data, "model": model, "captions": captions, "limit": limit}
    given |= {"batch_size": batch_size, "device": device, "dtype": dtype, "workers": workers}
    given |= {"ranks.count": ranks, "ranks.engine": engine, "ranks.address": address}
    resolved = load_eval_config(config, settings or (), given)
    with console.reporter("Scoring", "records") as report:
        events = Events(report.message, report.total, report.progress)
        evaluation = pipeline.evaluate(runs, resolved, out, overwrite=overwrite, events=events)
    if json:
        console.document(evaluation.report)
    else:
        _show(evaluation.report)
        console.result(f"Results: {evaluation.out}")
        if evaluation.page:
            console.result(f"Report: {evaluation.page}")
    if evaluation.signal is not None:
        console.say("Stopped: what is scored is saved; run the same command again to go on")
        raise typer.Exit(EXIT_TERMINATED if evaluation.signal == signal.SIGTERM else EXIT_INTERRUPTED)
    if evaluation.failed or evaluation.refused_names.intersection(resolved.metrics):
        raise typer.Exit(EXIT_PARTIAL)


def _show(report: dict[str, Any]) -> None:
    """The table: a block a metric, a line a run."""
    percent = f"{report['config']['comparison']['confidence']:.0%}"
    console.result(
        f"{count(report['records'], 'record')} of {count(report['images'], 'image')}; mean [{percent} interval]; "
        f"difference from {report['reference']} [interval], p (Holm)"
    )
    width = max(len(run["label"]) for run in report["runs"])
    for name, metric in report["metrics"].items():
        if not metric["runs"]:
            continue
        console.result(f"{name} ({metric['better']} is better)")
        for label, estimate in metric["runs"].items():
            console.result(f"  {label:<{width}}  {_line(estimate, metric['differences'].get(label))}")
    for label, reasons in report["refused"].items():
        for reason in dict.fromkeys(reasons.values()):
            names = ", ".join(name for name, why in reasons.items() if why == reason)
            console.result(f"{label}: refused {names}: {reason}")
    for label, failed in report["failed"].items():
        if failed:
            console.result(f"{label}: {count(failed, 'record')} failed; see failures.jsonl")


def _line(estimate: dict[str, Any], difference: dict[str, Any] | None) -> str:
    if estimate["mean"] is None:
        return "undefined for every record"
    text = f"{estimate['mean']:7.3f} {_interval(estimate)}"
    if difference and difference["mean"] is not None:
        text += f"  {difference['mean']:+.3f} {_interval(difference, '+')}"
        if difference["p_holm"] is not None:
            text += f"  p {difference['p_holm']:.4f}"
    missing = estimate["undefined"]
    return text + (f"  ({missing} undefined)" if missing else "")


def _interval(value: dict[str, Any], sign: str = "") -> str:
    return "" if value["low"] is None else f"[{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"
