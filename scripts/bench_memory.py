"""Peak memory of `mmel explain`: on photos of 12 megapixels, and on a growing number of small images.

    python scripts/bench_memory.py --images 200 --batch-size 32
    python scripts/bench_memory.py --small 1000,10000,100000 --method attention

Makes so many distinct JPEGs of 4000x3000 pixels in a temporary folder, explains them with the builtin model in a
process of its own each time, with and without heatmaps, and prints the largest resident set of that process. With
--small the images have 40x40 pixels and are explained without heatmaps, once for each number of them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, SMALL = (4000, 3000), 40  # pixels
CHILD = """if True:
    import resource, subprocess, sys
    code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
    print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def make(folder: Path, count: int) -> None:
    """Distinct photos with some detail, about 3 MB each, and a caption for each."""
    rows = []
    for number in range(count):
        rng = np.random.default_rng(number)
        blocks = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        photo = np.asarray(Image.fromarray(blocks).resize(SIZE, Image.Resampling.BICUBIC), np.int16)
        grain = np.tile(rng.integers(-9, 10, (500, 500, 1), dtype=np.int16), (6, 8, 1))
        Image.fromarray((photo + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.jpg", quality=90)
        rows.append({"file_name": f"{number:04}.jpg", "text": f"a photo of thing {number}"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_small(folder: Path, count: int) -> None:
    """Noise of 40x40 pixels, and a caption for each."""
    rng, rows = np.random.default_rng(0), []
    for number in range(count):
        noise = rng.integers(0, 256, (SMALL, SMALL, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:07}.png", compress_level=0)
        rows.append({"file_name": f"{number:07}.png", "text": f"a photo of thing {number}"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def peak(*command: object) -> tuple[float, float]:
    """Seconds, and the largest resident set of a command in GB, as a process that ran nothing else counts it."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, command)], check=True, stdout=subprocess.PIPE, text=True
    )
    code, kilobytes = (int(word) for word in done.stdout.split())
    if code:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {code}")
    return time.perf_counter() - start, kilobytes * 1024 / 1e9


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--small", help="numbers of small images in the place of large ones: 1000,10000,100000")
    parser.add_argument("--method", default="mmel")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="a setting of explain: key=value")
    given = parser.parse_args()
    if given.small:
        _small([int(count) for count in given.small.split(",")], given)
        return
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        make(photos, given.images)
        for heatmaps in ("true", "false"):
            seconds, gigabytes = _explain(photos, Path(folder) / heatmaps, given, heatmaps)
            print(f"heatmaps {heatmaps}: {gigabytes:.2f} GB at most, {given.images / seconds:.2f} images/s")


def _small(counts: list[int], given: argparse.Namespace) -> None:
    """A row of Markdown for each number of images."""
    print("| images | seconds | peak memory, MB | against the first |\n| --- | --- | --- | --- |", flush=True)
    first = 0.0
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            images = Path(folder) / "images"
            images.mkdir()
            make_small(images, count)
            seconds, gigabytes = _explain(images, Path(folder) / "run", given, "false")
        first = first or gigabytes
        print(f"| {count:,} | {seconds:.0f} | {1000 * gigabytes:.0f} | {gigabytes / first - 1:+.1%} |", flush=True)


def _explain(source: Path, out: Path, given: argparse.Namespace, heatmaps: str) -> tuple[float, float]:
    """Seconds and GB, in a process of its own."""
    command = [sys.executable, "-m", "mmel_cli", "explain", source, "--out", out, "--model", given.model]
    command += ["--method", given.method, "--batch-size", given.batch_size, "--workers", given.workers]
    command += [word for setting in given.settings for word in ("--set", setting)]
    return peak(*command, "--device", "cpu", "--json", "--set", f"heatmaps={heatmaps}")


if __name__ == "__main__":
    main()
