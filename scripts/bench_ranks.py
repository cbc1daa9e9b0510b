"""Pairs a second of ranks that share the cores, beside one process with all of them; interleaved rounds.

    python scripts/bench_ranks.py --pairs 96 --batch-sizes 1,4,16

Explains the same images with `mmel explain` by one process with all cores and by --ranks 2, 4, ..., each with its share
of the cores, in shapes of ViT-B/16 with made weights. Time is what a process needs for the pairs alone: that of a run
of all pairs less that of a run of one batch a rank, so that loading models does not count. Prints medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from made import save_clip, vit_b_16, write_photos


def seconds(images: Path, out: Path, model: Path, ranks: int, batch: int, method: str) -> float:
    """Of a whole run in processes of its own."""
    command = [sys.executable, "-m", "mmel_cli", "explain", images, "--out", out, "--model", model, "--method", method]
    command += ["--device", "cpu", "--batch-size", batch, "--ranks", ranks, "--no-heatmaps", "--json"]
    command += ["--set", f"archive.shard_size={batch}", "--set", "report=false"]
    threads = {"OMP_NUM_THREADS": str(os.cpu_count())} if ranks == 1 else {}
    began = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, env=os.environ | threads)
    return time.perf_counter() - began


def photos(folder: Path, count: int) -> Path:
    """Photos of 320x240 with a caption each."""
    write_photos(folder, folder.with_name(f"{folder.name}-tars"), count, (320, 240))
    return folder


def main() -> None:
    """Print a line for each batch size and number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--batch-sizes", default="1,4,16")
    parser.add_argument("--ranks", default="2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", default="grad-eclip")
    given = parser.parse_args()
    every = [1, *map(int, given.ranks.split(","))]
    print("| batch | ranks | pairs a second | beside one process |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        model = save_clip(vit_b_16(), place / "model")
        images = photos(place / "images", given.pairs)
        for batch in map(int, given.batch_sizes.split(",")):
            few = photos(place / f"few{batch}", batch * max(every))
            taken: dict[int, list[float]] = {ranks: [] for ranks in every}
            for number in range(given.rounds):
                for ranks in every:
                    out = place / f"{batch}-{number}-{ranks}"
                    whole = seconds(images, out, model, ranks, batch, given.method)
                    start = seconds(few, out.with_name(f"{out.name}-few"), model, ranks, batch, given.method)
                    taken[ranks].append(max(whole - start, 1e-3) / (given.pairs - batch * max(every)))
            for ranks in every:
                rate = 1 / statistics.median(taken[ranks])
                beside = statistics.median(b / a for a, b in zip(taken[ranks], taken[1], strict=True))
                print(f"| {batch} | {ranks} | {rate:.2f} | {beside:.2f} |", flush=True)


if __name__ == "__main__":
    main()
