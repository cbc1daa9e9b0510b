"""What each method costs, in forwards: its time on one batch beside a bare forward of both towers, in one process.

    python scripts/bench_cost.py [--models builtin,vit-b-16] [--dtype float32] [--batch-size 8] [--methods mmel,...]

The builtin model and a random CLIP in the shapes of ViT-B/16, on generated scenes with one caption each, images already
prepared; without word values and files. Every round times the bare forward and every method in turn. Prints Markdown:
the least seconds a pair over the rounds, over that of the bare forward.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench_words import MODELS, batch_of

from mmel_cli.attribution import METHODS, find_method
from mmel_cli.config import method_of
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.model import Adapter
from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.engine import Engine

CONTROLS = ("random", "mask")


def bare(model: Adapter, batch: Batch) -> Callable[[], object]:
    """Both towers once, as a score needs them."""
    values = torch.stack([batch.images[sample.ref.key].pixels.values for sample in batch.samples])
    texts = [sample.caption for sample in batch.samples]
    return lambda: (model.embed_images(values), model.embed_texts(model.tokenize(texts)))


def explained(model: Adapter, method: str, batch: Batch) -> Callable[[], object]:
    """The batch through the model and the method; `method` may end in =GRADIENT."""
    name, _, gradient = method.partition("=")
    settings = {"name": name} | ({"gradient": gradient} if gradient else {})
    engine = Engine.build(model, find_method(name), method_of({"method": settings}).params)
    return lambda: engine.explain(batch)


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(name for name in METHODS if name not in CONTROLS))
    args = parser.parse_args()
    torch.manual_seed(0)
    columns = []
    with tempfile.TemporaryDirectory() as place:
        write_scenes(Path(place), args.batch_size, 0)
        for name in args.models.split(","):
            model = MODELS[name](getattr(torch, args.dtype))
            batch = batch_of(model, Path(place), args.batch_size, shared=False)
            works = {"bare forward": bare(model, batch)}
            works |= {method: explained(model, method, batch) for method in args.methods.split(",")}
            rounds = [{method: seconds(work) for method, work in works.items()} for _ in range(args.rounds + 1)][1:]
            least = {method: min(of_round[method] for of_round in rounds) for method in works}
            columns.append({method: least[method] / least["bare forward"] for method in works})
            print(f"<!-- {name}: bare forward {least['bare forward'] / len(batch.samples):.4f} s a pair", flush=True)
    names = args.models.split(",")
    print("\n| method | " + " | ".join(names) + " |\n| --- |" + " ---: |" * len(names))
    for method in columns[0]:
        print(f"| {method} | " + " | ".join(f"{column[method]:.2f}" for column in columns) + " |")


if __name__ == "__main__":
    main()
