"""Arithmetic of very large runs: the parts of the host are measured here, the GPU is a figure that you give.

    OMP_NUM_THREADS=1 python scripts/model_scale.py [--gpu-pairs 3700] [--cores 16] [--gigabytes 1.0] [--dollars 3]

Measured, in thread seconds a pair of a 640x480 JPEG with a short caption, explained by mmel in the shapes of ViT-B/16:
decoding and preparing, drawing and writing an overlay, building a shard, and planning from tars. Not measured, since no
GPU was at hand: pairs a second of one GPU; by default the floating point operations of a pair at --utilisation of
--tflops. Storage moves --gigabytes a second for each node of eight GPUs. Prints Markdown: hours, dollars, and which
part takes longest. Planning comes first, by one process a run: for one run, and where each node has a run of its own
with its part of the tars (dollars and limit are of that); GPUs, cores and storage then go on side by side.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_heatmaps import explanation
from bench_plan import tars
from made import photo_like, vit_b_16
from measure_archive import info, record

from mmel_cli.archive import ArchiveOptions
from mmel_cli.archive.writer import build
from mmel_cli.data import open_source
from mmel_cli.data.images import ImageLimits, decode
from mmel_cli.render import HeatmapOptions, draw, fit
from mmel_cli.runs.plan import Head, write_plan
from mmel_cli.types import ImageRef

SIDE, WIDTH, LAYERS, TOKENS, TEXT_WIDTH = 197, 768, 12, 77, 512  # of ViT-B/16 and its text tower
MMEL = 1.95  # forwards a pair (RESULTS, Throughput)
SHARD = 64  # pairs of the shard that is built
NODE = 8  # GPUs


def operations() -> float:
    """Of a pair's two forwards: a multiplication and an addition each (matrices and attention alone)."""
    return sum(LAYERS * (24 * n * d * d + 4 * n * n * d) for n, d in ((SIDE, WIDTH), (TOKENS, TEXT_WIDTH)))


def thread_time(work: Callable[[], object], rounds: int = 9) -> float:
    """The median of one thread's seconds."""
    spent = []
    for _ in range(rounds):
        began = time.thread_time()
        work()
        spent.append(time.thread_time() - began)
    return float(np.median(spent))


def host(folder: Path) -> dict[str, float]:
    """Thread seconds a pair, by part."""
    encoded, model, looks = io.BytesIO(), vit_b_16(), HeatmapOptions()
    photo_like(640, 480).save(encoded, "JPEG", quality=90)
    ref, limits = ImageRef("photo", lambda: io.BytesIO(encoded.getvalue())), ImageLimits()
    image = decode(ref, limits)
    photo, shown = fit(image, looks.max_side), explanation(640, 480)
    records, about = [record(n, 12, 14) for n in range(SHARD)], info(12, 14, 75)
    place, parts = tars(folder / "tars", 2000), {}
    parts["decode and prepare"] = thread_time(lambda: model.preprocess(decode(ref, limits), geometry="native"))
    overlay = HeatmapOptions(panels="overlay")
    parts["draw and write a picture"] = thread_time(
        lambda: draw(photo, shown, overlay, "mean", folder / "a.0123abcd.jpg")
    )
    parts["build and compress the archive"] = thread_time(lambda: build(records, about, ArchiveOptions()), 3) / SHARD
    head = Head("0" * 64, 16, 256, None, "0" * 64)
    source = open_source(place)
    parts["plan"] = thread_time(lambda: write_plan(folder / "plan", head, (read() for read in source.parts)), 3) / 2000
    return parts


def main() -> None:
    """Measure, and print what follows for each number of pairs and GPUs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu-pairs", type=float, help="pairs a second of one GPU")
    parser.add_argument("--tflops", type=float, default=989, help="of one GPU, dense bfloat16")
    parser.add_argument("--utilisation", type=float, default=0.3)
    parser.add_argument("--cores", type=int, default=16, help="a GPU")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="a second and node, read or written")
    parser.add_argument("--kilobytes", type=float, default=100, help="of an image")
    parser.add_argument("--dollars", type=float, default=3.0, help="an hour and GPU")
    given = parser.parse_args()
    rate = given.gpu_pairs or given.utilisation * given.tflops * 1e12 / (MMEL * operations())
    with tempfile.TemporaryDirectory() as folder:
        parts = host(Path(folder))
    print("| part | ms of one thread a pair |\n| --- | ---: |")
    for name, seconds in parts.items():
        print(f"| {name} | {1000 * seconds:.2f} |")
    print(f"\nOne GPU: {rate:,.0f} pairs a second ({'given' if given.gpu_pairs else 'assumed, not measured'})\n")
    print(
        "| pairs | GPUs | pictures | GPU, h | cores, h | storage, h | planning, h | one run, h | limit | dollars | TB |"
    )
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |")
    for pairs in (1e7, 1e9):
        for gpus in (8, 512):
            for pictures in (False, True):
                print(row(pairs, gpus, parts, rate, given, pictures=pictures))


def row(
    pairs: float, gpus: int, parts: dict[str, float], rate: float, given: argparse.Namespace, *, pictures: bool
) -> str:
    """A line of the table; planning comes before the rest, which goes on side by side."""
    kept = 94_500 if not pictures else 94_500 + 98_000  # bytes a pair (scripts/measure_archive.py, bench_heatmaps.py)
    work = parts["decode and prepare"] + parts["build and compress the archive"]
    work += parts["draw and write a picture"] if pictures else 0
    hours = {
        "GPU": pairs / (rate * gpus) / 3600,
        "cores": pairs * work / (given.cores * gpus) / 3600,
        "storage": pairs * (1000 * given.kilobytes + kept) / (1e9 * given.gigabytes * max(gpus / NODE, 1)) / 3600,
        "planning": pairs * parts["plan"] / max(gpus / NODE, 1) / 3600,
    }
    side_by_side = max(hours[name] for name in ("GPU", "cores", "storage"))
    limit = max(hours, key=lambda name: hours[name])
    dollars = (side_by_side + hours["planning"]) * gpus * given.dollars
    cells = [f"{pairs / 1e6:,.0f} million", str(gpus), "yes" if pictures else "no"]
    cells += [f"{value:,.2f}" for value in (*hours.values(), pairs * parts["plan"] / 3600)]
    return "| " + " | ".join([*cells, limit, f"{dollars:,.0f}", f"{pairs * kept / 1e12:,.1f}"]) + " |"


if __name__ == "__main__":
    main()
