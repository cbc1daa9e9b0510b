"""Peak memory and time of `mmel eval` and `mmel train-weights` on archives of a growing number of records.

    python scripts/bench_eval_memory.py --records 1000,10000,100000 --forwards 250,1000,4000

Archives are written by ShardWriter as mmel explain would leave them, five captions an image and a box for each, without
a model: localisation, sparseness and what changes with the caption are scored of them, and of two runs the differences.
Metrics that need the model are scored of maps that the builtin model makes, on fewer records. Every evaluation is a
process of its own. Prints Markdown; the last column is how many bytes each record adds to the line before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from mmel_cli.archive import ArchiveOptions, ShardWriter
from mmel_cli.attribution import Target
from mmel_cli.config import load_config
from mmel_cli.fields import Field
from mmel_cli.runs import fingerprint, run_identity
from mmel_cli.types import Explanation, RunInfo

SIDE, GRID, LAYERS = 40, (5, 5), (1, 2)  # pixels of an image; cells and layers of its maps
CAPTIONS = 5  # an image
METRICS = "localisation,sparseness,caption-change,caption-contrast"
FORWARDS = "insertion-deletion,sparseness"


def make_input(folder: Path, records: int) -> None:
    """Small images, each with five captions and a box for every caption."""
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for number in range(-(-records // CAPTIONS)):
        name = f"{number:07}.png"
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / name, compress_level=0)
        for k in range(min(CAPTIONS, records - CAPTIONS * number)):
            row = {"file_name": name, "text": f"thing {k} of image {number}"}
            lines.append(json.dumps(row | {"boxes": [[4 * k, 8, 4 * k + 14, 26]]}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines), "utf-8")


def info_of(method: str) -> RunInfo:
    """Of a run of an untrained method that might have made such records."""
    config = load_config(options={"method.name": method, "model.name": "builtin", "heatmaps": False})
    fields = _fields(method, config.method.params)
    identity = run_identity(config.plain(), {"weights (SHA-256)": "0" * 64})
    return RunInfo(
        model="builtin",
        model_sha256="0" * 64,
        method=method,
        layers=LAYERS,
        grid=GRID,
        patch=8,
        image_size=(SIDE, SIDE),
        geometry="native",
        max_tokens=6,
        device="cpu",
        dtype="float32",
        config=config.plain(),
        config_sha256=fingerprint(identity),
        versions={"mmel": "bench"},
        fields=fields,
        identity=identity,
    )


def _fields(method: str, params: object) -> tuple[Field, ...]:
    from mmel_cli.attribution import find_method  # noqa: PLC0415 - imports torch

    return find_method(method).fields(params, Target("builtin", "0" * 64, LAYERS))


def records(count: int, info: RunInfo, rng: np.random.Generator) -> Iterator[Explanation]:
    """The records of make_input, with maps that are noise."""
    for number in range(count):
        image, k = f"{number // CAPTIONS:07}.png", number % CAPTIONS
        caption = f"thing {k} of image {number // CAPTIONS}"
        record = Explanation(
            id=f"{image}#{k}",
            image=image,
            caption=caption,
            truncated=False,
            score=0.3,
            image_size=(SIDE, SIDE),
            box=(0.0, 0.0, float(SIDE), float(SIDE)),
            fields={},
            tokens=tuple(caption.split()),
        )
        own = replace(info.sizes, tokens=len(record.tokens))
        yield replace(record, fields={f.name: rng.random(f.shape(own), np.float32) for f in info.fields})


def write_run(folder: Path, source: Path, count: int, method: str, seed: int) -> None:
    """A run folder of the input."""
    info = info_of(method)
    with ShardWriter(folder / "archive", info, ArchiveOptions(shard_size=1000)) as writer:
        for record in records(count, info, np.random.default_rng(seed)):
            writer.extend([record])
    notes = {"format": "mmel-run", "config": info.config, "input": {"source": "imagefolder", "path": str(source)}}
    (folder / "run.yaml").write_text(yaml.safe_dump(notes | {"model": {"name": "builtin"}}), "utf-8")


def measure(*words: object) -> tuple[float, float]:
    """Seconds, and the largest resident set in MB, of a command of mmel."""
    command = [sys.executable, "-m", "mmel_cli", *map(str, words)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None  # noqa: S101 - a pipe
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: {said[-2000:]}")
    scale = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - started, usage.ru_maxrss * scale / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default="1000,10000,100000")
    parser.add_argument("--forwards", default="250,1000,4000", help="records that are scored with the model; 0: none")
    parser.add_argument("--train", action="store_true", help="also mmel train-weights, of the same archives")
    parser.add_argument("--report", action="store_true", help="with index.html")
    parser.add_argument("--parts", default="one,two,model", help="one run, two runs, one run through the model")
    parser.add_argument("--keep", type=Path, help="keep inputs and archives here, or take those that lie here")
    given = parser.parse_args()
    print("| what | records | seconds | peak memory, MB | bytes a further record |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        place = given.keep or Path(scratch)
        _synthetic(place, Path(scratch), given)
        if "model" in given.parts and given.forwards != "0":
            _forwards(place, Path(scratch), given)


def _synthetic(place: Path, scratch: Path, given: argparse.Namespace) -> None:
    report = ["--set", f"report={str(given.report).lower()}"]
    before: dict[str, tuple[int, float]] = {}
    for count in map(int, given.records.split(",")):
        names = ("mmel", "grad-eclip") if "two" in given.parts else ("mmel",)
        source, runs = place / f"in-{count}", [place / f"{name}-{count}" for name in names]
        if not source.is_dir():
            make_input(source, count)
        for seed, run in enumerate(runs):
            if not run.is_dir():
                write_run(run, source, count, run.name.rpartition("-")[0], seed)
        out = scratch / f"eval-{count}"
        if "one" in given.parts:
            command = ["eval", runs[0], "--metrics", METRICS, "--out", out / "one", *report]
            _row(f"eval of one run, {METRICS}", count, measure(*command), before)
        if "two" in given.parts:
            command = ["eval", *runs, "--metrics", METRICS, "--out", out / "two", *report]
            _row("eval of two runs, the same", count, measure(*command), before)
        if given.train:
            command = ["train-weights", runs[0], "--out", out / "w.safetensors", "--set", "training.epochs=2"]
            out.mkdir(exist_ok=True)
            _row("train-weights, localization, 2 epochs", count, measure(*command), before)


def _forwards(place: Path, scratch: Path, given: argparse.Namespace) -> None:
    counts = [int(count) for count in given.forwards.split(",")]
    source, run = place / f"in-model-{max(counts)}", place / f"model-{max(counts)}"
    if not run.is_dir():
        make_input(source, max(counts))
        quick = [
            word for name in ("match.captions=0", "word_values=false", "heatmaps=false") for word in ("--set", name)
        ]
        measure(
            "explain", source, "--out", run, "--model", "builtin", "--method", "grad-eclip", *quick, "--device", "cpu"
        )
    before: dict[str, tuple[int, float]] = {}
    for count in counts:
        command = ["eval", run, "--metrics", FORWARDS, "--out", scratch / f"forwards-{count}", "--limit", count]
        took = measure(*command, "--device", "cpu", "--set", f"report={str(given.report).lower()}")
        _row(f"eval of one run, {FORWARDS}", count, took, before)


def _row(what: str, count: int, took: tuple[float, float], before: dict[str, tuple[int, float]]) -> None:
    seconds, peak = took
    more = ""
    if what in before:
        fewer, less = before[what]
        more = f"{1e6 * (peak - less) / (count - fewer):.0f}"
    before[what] = (count, peak)
    print(f"| {what} | {count:,} | {seconds:.1f} | {peak:.0f} | {more} |", flush=True)


if __name__ == "__main__":
    main()
