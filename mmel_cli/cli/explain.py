"""mmel explain."""

import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mmel_cli.cli import console, highlights, options
from mmel_cli.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, EXIT_TERMINATED, UsageError
from mmel_cli.names import METHODS, count

_OTHER = "other"  # --against: the image's next other caption


def _last_of_several(incomplete: str) -> list[str]:
    """Names that may stand where the last one after commas begins."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in METHODS if name not in before.split(",")]


def explain(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A folder or file of image-caption pairs, or one image; see above.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="The run folder; the same command goes on there.")] = None,
    caption: Annotated[str | None, typer.Option("--caption", help="The caption, when INPUT is one image.")] = None,
    caption_column: options.CaptionColumn = None,
    image_column: options.ImageColumn = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="A file of texts, one a line, for every image; see above.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="TEXT", help="Why this caption, and not TEXT; see above.")
    ] = None,
    config: options.ConfigFile = None,
    model: options.Model = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="See `mmel methods`; several with commas. [default: mmel]",
            autocompletion=_last_of_several,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="A file of train-weights, untrained, or auto. [default: auto]"),
    ] = None,
    transfer: Annotated[bool | None, typer.Option("--transfer", help="Take weights of another model.")] = None,
    words: Annotated[
        bool | None, typer.Option("--words", help="Also where in the image each word and phrase comes from.")
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option("--batch-size", metavar="N|auto", help="Pairs a batch; auto: see above. [default: 16]"),
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Threads that decode images and draw heatmaps. [default: 4]")
    ] = None,
    heatmaps: Annotated[
        bool | None,
        typer.Option(
            "--heatmaps/--no-heatmaps", help="Pictures; mmel report --heatmaps draws them later. [default: on]"
        ),
    ] = None,
    ranks: options.Ranks = None,
    engine: options.Engine = None,
    address: options.Address = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="This process is rank I of N; see above.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N entries of INPUT.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove an earlier run in the folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read INPUT and check settings, explain nothing.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say at the end where the time went, and what to do about it.")
    ] = False,
    json: options.Json = False,
    settings: Annotated[list[str] | None, options.setting("method.layers=last")] = None,
) -> None:
    """Explain image-caption pairs: heatmaps, an HDF5 archive of raw per-layer maps, and a report.

    INPUT is recognised in this order, and the choice is printed:

    \b
    one image          with --caption or --prompts
    imagefolder        a folder with metadata.csv or .jsonl, or that file
    COCO captions      a folder with one captions JSON, or the JSON
    table              a folder with one .csv or .tsv, or the table
    sidecar files      a folder of images: a.jpg with a.caption or a.txt
    tar shards         a folder of .tar files, or one (webdataset, img2dataset)
    images             with --prompts: a folder of images, or one image

    With --prompts FILE each image is explained for each text of FILE, in the place of its captions: one text a line in
    UTF-8, blank lines skipped, a text twice refused. A record is image#k, k the number of the text from 0; masks, boxes
    and phrases of INPUT belong to its captions and are not read.

    With --against TEXT what is explained is a difference: why the model finds the caption, rather than TEXT, in the
    image. --against other takes the next other caption of the same image, the last one the first (with --prompts: the
    next prompt); the word itself is --set against.text=other. The regions are those of the difference, words and tokens
    remain the caption's. Methods whose map is the same for any caption are refused.

    Models, by hub id or folder; any other kind is refused by name:

    \b
    clip, metaclip_2   CLIP, MetaCLIP 2
    altclip            AltCLIP
    chinese_clip       Chinese-CLIP
    siglip             SigLIP, SigLIP 2 of fixed resolution
    open_clip          open_clip_config.json with standard towers
    builtin            a small CLIP that comes with mmel

    Each word's value is what the score loses without it. That takes one text forward a word and distinct caption (5 to
    10 % more time at the size of ViT-B/16, for short captions); --set word_values=false saves it on very large inputs.

    Each score is compared with those of 64 captions of INPUT on the same image: the archive has its rank (match/rank of
    match/among), and records whose map says little are counted at the end, by reason; --set match.captions=0 leaves the
    comparison out.

    --words gives words x regions: the share of the score that each word of a caption has, and where in the image it
    comes from, and the same of each phrase that names something; pictures show a colour for each phrase, or a small
    map with --set heatmap.panels=words. It takes up
    to 256 short text forwards a distinct caption (--set words.texts=N), two a phrase, and one more backward of the
    image for each word and phrase. mmel and flow explain phrases themselves; with another method flow does.

    With --method a,b,c several methods explain in one pass: OUT/a, OUT/b and OUT/c are run folders like any other, with
    what each method gives alone; images are decoded once, and methods that need the same of the model share its passes.
    --set method.X (--weights, --transfer) goes to every method that has X, the group `method` of --config to the method
    it names. --json prints an object by method; its seconds are those of the whole pass.

    The report, index.html, is written at the end; --set report=false leaves it out, and mmel report makes it later. One
    that cannot be written is a warning: the records are safe.

    --batch-size auto looks for the number of pairs at the start: batches of 1, 2, 4 ... made pairs (at most 256) go
    through the model and the method until pairs a second gain less than 5 % or memory ends. run.yaml keeps the number
    and how it was found; the same command goes on with that number. A batch that exhausts the memory is halved anyway.

    --profile ends with the seconds, the share and the pairs a second of each part of the run, and names the bottleneck,
    on stderr. Decoding and drawing go on in threads beside the model: what is told of them is how long the model waited
    for them, and beside it how long they were busy. On a GPU each part waits for the device, which costs a little.

    A complete run ends with the highest, the lowest and the oddest records and with commands to go on; what makes a
    record odd is said there. --json has them under highlights.

    --ranks N starts N processes here, one a GPU, or each with its share of the cores. Where something else starts
    them, each is told which it is by torchrun (RANK, WORLD_SIZE), a Slurm array (SLURM_ARRAY_TASK_ID,
    SLURM_ARRAY_TASK_COUNT) or --shard i/n, and all are given the same command. They claim parts of the input as they
    get to them, so any number of them, some of them, or one after the other give the same archive; what is left by one
    that died is taken over. The last makes summary and report. All need one file system, with INPUT, --out and model
    under the same paths.

    --engine ray starts the ranks of --ranks as actors of a Ray cluster, on this machine or at --address, and anew where
    they die; ranks.cores and ranks.gpus say what each takes. Whoever reaches a Ray cluster runs code on it: keep it
    private, and set RAY_AUTH_MODE=token on all its machines.

    Exit codes: 0 all done, 1 failed, 2 usage, 3 done but some pairs failed (see failures.jsonl), 130 interrupted,
    143 terminated; after the last two the same command goes on.
    """  # noqa: D301 - the parser of help wants the backspace
    from mmel_cli.config import load_config, load_configs  # noqa: PLC0415 - torch loads only when a command runs
    from mmel_cli.pipelines import explain as pipeline  # noqa: PLC0415
    from mmel_cli.runs import Events  # noqa: PLC0415
    from mmel_cli.runs.clock import Clock  # noqa: PLC0415

    given: dict[str, Any] = {
        "model": model,
        "method.weights": weights,
        "method.transfer": transfer,
        "words.regions": words,
        "device": device,
    }
    given |= {"dtype": dtype, "batch_size": batch_size, "workers": workers, "limit": limit}
    given |= {"heatmaps": heatmaps, "ranks.count": ranks, "ranks.engine": engine, "ranks.address": address}
    given |= {"input.caption": caption, "input.caption_column": caption_column, "input.image_column": image_column}
    given |= {"input.prompts": prompts}
    given |= {"against.other": True} if against == _OTHER else {"against.text": against}
    several = method is not None and "," in method
    if several and method is not None:
        configs = load_configs(method, config, settings or (), given)
    else:
        configs = [load_config(config, settings or (), given | {"method.name": method})]
    if dry_run:
        _show_plan([pipeline.plan(source, resolved) for resolved in configs[: None if json else 1]], json=json)
        return
    if out is None:
        raise UsageError("--out is missing: give the run folder, for example --out runs/first")
    rank = _rank(shard, configs[0], profile=profile)
    # before the progress bar, since downloads have bars of their own
    places = pipeline.folders_of(out, configs) if several else [out]
    pipeline.fetch(source, places, configs[0], console.say, overwrite=overwrite)
    with console.reporter() as report:
        clock = Clock(on=profile)
        events = Events(report.message, report.total, report.progress, clock)
        if several:
            summaries, stopped = pipeline.explain_several(
                source, out, configs, overwrite=overwrite, events=events, rank=rank
            )
        else:
            summary, stopped = pipeline.explain(source, out, configs[0], overwrite=overwrite, events=events, rank=rank)
            summaries = {summary.method: summary}
    clock.end()
    _show(summaries, several=several, json=json)
    if profile:
        _show_profile(clock, next(iter(summaries.values())), configs[0].workers)
    if stopped is not None:
        console.say("Stopped: what is finished is saved; run the same command again to go on")
        raise typer.Exit(EXIT_TERMINATED if stopped == signal.SIGTERM else EXIT_INTERRUPTED)
    if any(summary.failed for summary in summaries.values()):
        raise typer.Exit(EXIT_PARTIAL)


def _show_plan(plans, *, json: bool) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - torch
    plan = plans[0]
    if json:
        console.document(asdict(plan) if len(plans) == 1 else {p.config["method"]["name"]: asdict(p) for p in plans})
        return
    console.result(f"Input: {plan.layout}")
    unusable = count(plan.failures, "unusable entry", "unusable entries")
    console.result(f"{count(plan.pairs, 'pair')}, {unusable}, {plan.without_caption} without a caption")


def _rank(shard: str | None, config, *, profile: bool):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - torch
    """Which of several processes this is; None: the only one, or one that starts others.

    Raises:
        UsageError: if options do not go together.
    """
    from mmel_cli.pipelines.ranks import rank_of  # noqa: PLC0415 - as above

    if config.ranks.several:
        if profile:
            raise UsageError(
                "--profile: tells of one process; leave out --ranks and --engine, or ask a rank of --shard"
            )
        if shard is not None:
            raise UsageError("--shard: this process is a rank, and --ranks and --engine start ranks; leave one out")
        return None
    rank = rank_of(shard, os.environ)
    if rank is not None:
        console.say(f"Rank {rank.number} of {rank.of}")
    return rank


def _show(summaries, *, several: bool, json: bool) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - torch
    """What each run did, a block each if there are several, and which records to look at; or one JSON object."""
    if json:
        told = {name: _plain(summary) for name, summary in summaries.items()}
        console.document(told if several else next(iter(told.values())))
        return
    for name, summary in summaries.items():
        if several:
            console.result(f"{name}:")
        show_summary(summary, json=False)
    first = next(iter(summaries.values()))
    if first.done and first.complete:  # the scores of all methods are those of one model
        highlights.show(Path(first.out), [Path(summary.out) for summary in summaries.values()], json=False)


def _show_profile(clock, summary, workers: int) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - torch
    """Where the time went, on stderr."""
    from mmel_cli.runs.profile import Ran, profile  # noqa: PLC0415 - as above

    for line in profile(clock, Ran(summary.done - summary.resumed, workers)):
        console.say(line)


def _plain(summary) -> dict[str, Any]:  # type: ignore[no-untyped-def]  # noqa: ANN001 - torch
    """With the records to look at; null for a run without records, or that is not complete."""
    out, told = Path(summary.out), summary.done and summary.complete
    return summary.plain() | {"highlights": highlights.plain(out, [out]) if told else None}


def show_summary(summary, *, json: bool) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - its module imports torch
    """What a run did, in lines or as JSON."""
    if json:
        console.document(summary.plain())
        return
    stages = ", ".join(f"{count} {stage}" for stage, count in sorted(summary.failed_by_stage.items()))
    failed = f", {summary.failed} failed ({stages}; see failures.jsonl)" if summary.failed else ""
    shared = f" for all {len(summary.methods)} methods" if summary.methods else ""
    console.result(f"{count(summary.done, 'record')}{failed}, {summary.seconds:.1f} s{shared}")
    if summary.remaining:
        console.result(f"{count(summary.remaining, 'record')} not reached yet")
    if summary.without_caption:
        console.result(f"{count(summary.without_caption, 'image')} had no caption")
    if summary.truncated_captions:
        cut = count(summary.truncated_captions, "caption")
        console.result(f"{cut} longer than the model reads: only the beginning was read")
    _show_marks(summary)
    if summary.report:
        console.result(f"Report: {summary.report}")


def _show_marks(summary) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - its module imports torch
    """What the maps cannot carry: of the run, and of how many records."""
    from mmel_cli.trust import find_mark  # noqa: PLC0415 - numpy and h5py load only when a command runs

    for name in summary.run_marks:
        console.say(f"Warning: {find_mark(name).says}")
    for name, number in summary.marks.items():
        mark = find_mark(name)
        console.result(f"{number} of {count(summary.done, 'record')}: {mark.badge}. {mark.says}")
