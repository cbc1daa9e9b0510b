"""What the values of words cost: explaining with and without them, side by side in one process.

    python scripts/bench_words.py [--pairs 16] [--rounds 3] [--models builtin,vit-b-16] [--methods mmel,flow]

The builtin model and a random CLIP in the shapes of ViT-B/16, on generated scenes, one batch of pairs, nothing
kept from round to round. With one caption an image every image has its own forward; with all, pairs share it.
Prints Markdown: the least seconds a pair over the rounds, and their ratio (in brackets that of processor seconds).
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from made import MODELS, batch_of

from mmel_cli.attribution import find_method
from mmel_cli.config import method_of
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.model import Adapter, LeftOut
from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.engine import Engine


def seconds(model: Adapter, method: str, batch: Batch, *, word_values: bool) -> tuple[float, float]:
    """Wall and processor seconds a pair of one batch."""
    params = method_of({"method": {"name": method}}).params
    engine = Engine.build(model, find_method(method), params, left_out=LeftOut(model) if word_values else None)
    wall, used = time.perf_counter(), time.process_time()
    engine.explain(batch)
    return (time.perf_counter() - wall) / len(batch.samples), (time.process_time() - used) / len(batch.samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default="builtin,vit-b-16")
    parser.add_argument("--methods", default="mmel,flow")
    args = parser.parse_args()
    torch.manual_seed(0)
    print("| model | method | captions an image | words a caption | without, s | with, s | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        write_scenes(Path(place) / "scenes", args.pairs, 0)
        for name in args.models.split(","):
            model = MODELS[name]()
            for shared in (False, True):
                batch = batch_of(model, Path(place) / "scenes", args.pairs, shared=shared)
                words = sum(len(sample.caption.split()) for sample in batch.samples) / len(batch.samples)
                for method in args.methods.split(","):
                    rounds = [
                        [seconds(model, method, batch, word_values=wanted) for wanted in (False, True)]
                        for _ in range(args.rounds + 1)
                    ][1:]  # the first warms up
                    (bare, bare_used), (full, full_used) = (
                        [min(of_round[side][clock] for of_round in rounds) for clock in (0, 1)] for side in (0, 1)
                    )
                    kept = f"{bare:.4f} | {full:.4f} | {full / bare:.2f} ({full_used / bare_used:.2f})"
                    captions = "all" if shared else "1"
                    print(f"| {name} | {method} | {captions} | {words:.1f} | {kept} |", flush=True)


if __name__ == "__main__":
    main()
