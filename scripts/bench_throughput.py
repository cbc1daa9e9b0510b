"""Pairs a second, side by side in one process: a bare forward, the published Grad-ECLIP, libraries, our methods, runs.

    python scripts/bench_throughput.py [--models vit-b-16,vit-l-14,siglip-b] [--batch-size 16] [--rounds 3]
        [--dtype float32] [--device cpu] [--methods grad-eclip,mmel,flow] [--pairs 48] [--steps 20]

Models have random weights in the shapes of the named ones; photos are made here, 640x480, a caption each. Every round
times every row in turn; the table has medians. Of one batch, prepared before: both towers of transformers alone (the
ceiling); the published Grad-ECLIP, pytorch-grad-cam and captum (rivals.py says how; always float32); our methods as
`mmel explain` runs a batch, without word values and marks. End to end: `mmel explain` of --end-to-end from JPEG files
and from a tar, with and without pictures, all else as it is by default but without the report; loading the model is
not in it. Memory: the largest of this process while the row ran, model included, and of the device. Then, as
`mmel explain --profile` says it, where the time of the last run went. `--clock processor` (with OMP_NUM_THREADS=1)
counts processor seconds, for a machine on which others compute too.

pytorch-grad-cam and captum are the extra `bench`; a row whose package is not here is left out, and named.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from unittest.mock import patch

import rivals
import torch
from made import MODELS, batch_of, raw_of, write_photos

from mmel_cli.attribution import find_method
from mmel_cli.config import load_config, method_of
from mmel_cli.model import Adapter
from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.explain import explain
from mmel_cli.runs import Events
from mmel_cli.runs.clock import Clock
from mmel_cli.runs.profile import Ran, profile

SIZE = (640, 480)
FEW = 2  # pairs of a row that looks at an image many times
BARE = "bare forward of both towers (transformers)"
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
WORK_OF_MANY = ("mmel explain", "captum")  # rows that are their own warming up
Work = Callable[..., object]


@dataclass
class Row:
    """What is timed, and what was measured of it in each round."""

    name: str
    pairs: int
    work: Work
    seconds: list[float] = field(default_factory=list)
    host: list[float] = field(default_factory=list)  # MB
    device: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Pairs a second, the median."""
        return self.pairs / statistics.median(self.seconds)


class Meter:
    """Seconds and peak memory of a piece of work."""

    def __init__(self, device: str, clock: str) -> None:
        self._cuda = device.startswith("cuda")
        self._now = CLOCKS[clock]

    def measure(self, row: Row) -> None:
        """One round of a row."""
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        _forget_peak()
        started = self._now()
        row.work()
        if self._cuda:
            torch.cuda.synchronize()
            row.device.append(torch.cuda.max_memory_allocated() / 1e6)
        row.seconds.append(self._now() - started)
        row.host += _peak()


def _forget_peak() -> None:
    """Let the kernel count this process's largest resident set anew (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def _peak() -> list[float]:
    """The largest resident set since then, MB; none where the kernel does not tell."""
    status = Path("/proc/self/status")
    told = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return [int(told[1]) * 1024 / 1e6] if told else []


@dataclass(frozen=True)
class Setting:
    """One model as it is benched, the folder of photos and the options."""

    name: str
    model: Adapter
    place: Path
    args: argparse.Namespace

    def batch(self) -> Batch:
        """The first pairs, decoded and prepared."""
        return batch_of(self.model, self.place / "photos", self.args.batch_size, shared=False)

    def inputs(self, model: Adapter, batch: Batch) -> rivals.Inputs:
        """The same as a model of transformers takes it."""
        raw = raw_of(model)
        read = model.tokenize([sample.caption for sample in batch.samples])
        values = torch.stack([batch.images[sample.ref.key].pixels.values for sample in batch.samples])
        mask = None if self.name.startswith("siglip") else read.mask.to(raw.device)
        return rivals.Inputs(values.to(raw.device, raw.dtype), read.ids.to(raw.device), mask)


def rows_of(setting: Setting) -> Iterator[Row]:
    """All rows of a model, the ceiling first."""
    args, batch = setting.args, setting.batch()
    pairs = len(batch.samples)
    yield Row(BARE, pairs, rivals.bare(raw_of(setting.model), setting.inputs(setting.model, batch)))
    yield from _rows_of_rivals(setting, batch)
    for name in args.methods.split(","):
        engine = Engine.build(setting.model, find_method(name), method_of({"method": {"name": name}}).params)
        yield Row(name, pairs, lambda engine=engine: engine.explain(batch))
    yield from _whole_runs(setting)


def _rows_of_rivals(setting: Setting, batch: Batch) -> Iterator[Row]:
    """Float32, whatever our methods run in."""
    args, model = setting.args, setting.model
    model = model if args.dtype == "float32" else MODELS[setting.name](torch.float32, args.device)
    raw, inputs, pairs = raw_of(model), setting.inputs(model, batch), len(batch.samples)
    if setting.name.startswith("siglip"):
        print(f"{setting.name}: the published Grad-ECLIP is of towers with a class token: left out")
    else:
        text = raw.config.text_config
        context, end = min(77, text.max_position_embeddings), text.eos_token_id
        name = "published Grad-ECLIP, one pair at a time (float32)"
        yield Row(name, pairs, lambda: rivals.published(raw, inputs, context, end))
        name = "the same, the image's side alone"
        yield Row(name, pairs, lambda: rivals.published(raw, inputs, context, end, captions=False))
    why = rivals.missing(["pytorch_grad_cam", "captum"])
    for package, reason in why.items():
        print(f"{setting.name}: {package} is not here ({reason}): left out; pip install 'mmel-cli[bench]'")
    if "pytorch_grad_cam" not in why:
        yield Row("pytorch-grad-cam (float32)", pairs, lambda: rivals.grad_cam(raw, inputs, frozen=False))
        name = "the same, all but its target frozen"
        yield Row(name, pairs, lambda: rivals.grad_cam(raw, inputs, frozen=True))
    if "captum" not in why:
        few, steps = inputs.first(FEW), args.steps
        name = f"captum, integrated gradients of {steps} steps (float32)"
        yield Row(name, len(few.values), lambda: rivals.integrated(raw, few, steps, args.batch_size))


def _whole_runs(setting: Setting) -> Iterator[Row]:
    """`mmel explain`, each time into a new folder."""
    args, numbers = setting.args, count()
    for method in filter(None, args.end_to_end.split(",")):
        for source, kind in (("photos", "JPEG files"), ("tars", "a tar")):
            for pictures in (False, True):
                config = load_config(
                    options={
                        "model": "builtin",  # what is loaded is replaced below
                        "method.name": method,
                        "device": args.device,
                        "batch_size": args.batch_size,
                        "workers": args.workers,
                        "limit": args.pairs,
                        "heatmaps": pictures,
                        "report": False,
                    }
                )

                def run(source: str = source, config: object = config, clock: Clock | None = None) -> None:
                    out = setting.place / f"run-{setting.name}-{next(numbers)}"
                    with patch("mmel_cli.pipelines.explain.load_model", lambda *_: setting.model):
                        events = Events(clock=clock or Clock())
                        summary, _ = explain(setting.place / source, out, config, events=events)
                    assert (summary.done, summary.failed) == (args.pairs, 0)  # noqa: S101 - a rate of failures is none

                name = f"mmel explain --method {method}, {kind}, {'pictures' if pictures else 'no pictures'}"
                yield Row(name, args.pairs, run)


def table(name: str, rows: list[Row]) -> str:
    """Markdown."""
    ceiling = rows[0].rate
    lines = [f"| {name} | pairs/s | of the ceiling | host, MB | device, MB |", "| --- | ---: | ---: | ---: | ---: |"]
    for row in rows:
        host, device = (f"{max(peaks):.0f}" if peaks else "-" for peaks in (row.host, row.device))
        lines.append(f"| {row.name} | {row.rate:.2f} | {row.rate / ceiling:.3f} | {host} | {device} |")
    return "\n".join(lines)


def where_the_time_goes(row: Row, workers: int) -> list[str]:
    """Of one more whole run, timed part by part."""
    clock = Clock(on=True)
    row.work(clock=clock)
    clock.end()
    return ["", f"{row.name}:", "", *(f"    {line}" for line in profile(clock, Ran(row.pairs, workers)))]


def matched(rows: list[Row], args: argparse.Namespace) -> list[str]:
    """How many steps of captum cost as much as each of our methods."""
    captum = next((row for row in rows if row.name.startswith("captum")), None)
    if captum is None:
        return []
    a_step = 1 / captum.rate / args.steps
    ours = [row for row in rows if row.name in args.methods.split(",")]
    steps = ", ".join(f"{row.name} {1 / row.rate / a_step:.1f}" for row in ours)
    return [f"In the time of a map captum takes so many steps: {steps}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="vit-b-16,vit-l-14,siglip-b")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default="grad-eclip,mmel,flow")
    parser.add_argument("--end-to-end", default="mmel", help="methods of whole runs, with commas; empty: none")
    parser.add_argument("--pairs", type=int, default=48, help="of a whole run")
    parser.add_argument("--steps", type=int, default=20, help="of integrated gradients")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="processor: where others compute too")
    parser.add_argument("--photo-size", default=f"{SIZE[0]}x{SIZE[1]}")
    args = parser.parse_args()
    torch.manual_seed(0)
    meter = Meter(args.device, args.clock)
    width, height = (int(side) for side in args.photo_size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_photos(place / "photos", place / "tars", max(args.pairs, args.batch_size), (width, height))
        for name in args.models.split(","):
            model = MODELS[name](getattr(torch, args.dtype), args.device)
            rows = list(rows_of(Setting(name, model, place, args)))
            for row in rows:
                if not row.name.startswith(WORK_OF_MANY):
                    row.work()
            for _ in range(args.rounds):
                for row in rows:
                    meter.measure(row)
            threads = f"{torch.get_num_threads()} threads, {args.clock} time"
            about = f"{name}, {args.dtype}, batch {args.batch_size}, {args.device}, {threads}"
            print("\n".join(["", table(about, rows), *matched(rows, args)]), flush=True)
            if rows[-1].name.startswith("mmel explain"):
                print("\n".join(where_the_time_goes(rows[-1], args.workers)), flush=True)


if __name__ == "__main__":
    main()
