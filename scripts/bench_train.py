"""Time and memory of `mmel train-weights --objective localization` on archives of a growing number of records.

    python scripts/bench_train.py --run runs/weights/train-run --records 250,500,1000,2000

Each training is a process of its own, for the memory; the defaults of configs/train-weights.yaml. Prints Markdown.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(run: Path, records: int, out: Path) -> tuple[float, float, int]:
    """Wall seconds, peak resident MiB, and epochs of one training."""
    command = [sys.executable, "-m", "mmel_cli", "train-weights", str(run), "--out", str(out), "--limit", str(records)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"training on {records} records failed")
    epochs = len((out.with_suffix(".training") / "training.jsonl").read_text().splitlines()) - 1
    scale = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * scale / 2**20, epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--records", default="250,500,1000,2000")
    args = parser.parse_args()
    print("| records | seconds | epochs | peak memory, MiB |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        for records in map(int, args.records.split(",")):
            seconds, peak, epochs = measure(args.run, records, Path(place) / f"{records}.safetensors")
            print(f"| {records} | {seconds:.1f} | {epochs} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
