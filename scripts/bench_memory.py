"""Peak memory of `mmel explain` on photos of 12 megapixels, with and without heatmaps.

    python scripts/bench_memory.py --images 200 --batch-size 32

Makes so many distinct JPEGs of 4000x3000 pixels in a temporary folder, explains them with the builtin model in a
process of its own each time, and prints the largest resident set of that process.
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

SIZE = (4000, 3000)
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
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        make(photos, given.images)
        for heatmaps in ("true", "false"):
            command = [sys.executable, "-m", "mmel_cli", "explain", photos, "--out", Path(folder) / heatmaps]
            command += ["--model", given.model, "--batch-size", given.batch_size, "--workers", given.workers]
            seconds, gigabytes = peak(*command, "--device", "cpu", "--json", "--set", f"heatmaps={heatmaps}")
            print(f"heatmaps {heatmaps}: {gigabytes:.2f} GB at most, {given.images / seconds:.2f} images/s")


if __name__ == "__main__":
    main()
