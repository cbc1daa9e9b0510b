"""What each method costs, in forwards: its time on one batch beside a bare forward of both towers, in one process.

    python scripts/bench_cost.py [--models builtin,vit-b-16] [--dtype float32] [--batch-size 8] [--methods mmel,...]
    python scripts/bench_cost.py --kind pair --methods mmel,mmel+words,mmel+words-again
    python scripts/bench_cost.py --methods mmel,mmel+match,mmel+match-again

The builtin model and a random CLIP in the shapes of ViT-B/16, on generated scenes with one caption each, images already
prepared; without word values and files. `+words` is with words x regions, `+words-again` where the captions have been
met before; `+match` with what marks are made from (64 captions, read anew for each batch; `+match-again` where they
have been read, as in all batches of a run but the first). Every round times the bare forward and every method in turn.
Prints Markdown: the least seconds a pair over the rounds, over that of the bare forward.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from made import COLOURS, MODELS, SHAPES, batch_of

from mmel_cli.attribution import METHODS, find_method
from mmel_cli.config import method_of
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.model import Adapter, Match
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.matching import MatchTexts, Signs
from mmel_cli.pipelines.regions import Words

CONTROLS = ("random", "mask")


def bare(model: Adapter, batch: Batch) -> Callable[[], object]:
    """Both towers once, as a score needs them."""
    values = torch.stack([batch.images[sample.ref.key].pixels.values for sample in batch.samples])
    texts = [sample.caption for sample in batch.samples]
    return lambda: (model.embed_images(values), model.embed_texts(model.tokenize(texts)))


def explained(model: Adapter, method: str, batch: Batch) -> Callable[[], object]:
    """The batch through the model and the method, by NAME[=GRADIENT][+words|+words-again|+match|+match-again]."""
    spec, _, extra = method.partition("+")
    name, _, gradient = spec.partition("=")
    settings = {"name": name} | ({"gradient": gradient} if gradient else {})
    params, options = method_of({"method": settings}).params, WordOptions(regions=True)

    def engine() -> Engine:
        words = Words.of(model, options) if extra.startswith("words") else None
        signs = signs_of(model) if extra.startswith("match") else Signs()
        return Engine.build(model, find_method(name), params, words=words, signs=signs)

    kept = engine()
    return lambda: (engine() if extra in ("words", "match") else kept).explain(batch)


def signs_of(model: Adapter) -> Signs:
    """With 64 captions of other images."""
    texts = [f"a {colour} {shape} and {number} dots" for colour in COLOURS for shape in SHAPES for number in range(2)]
    return Signs(MatchTexts(tuple(texts), (frozenset(),) * len(texts)), Match(model, texts), norms=True)


def keep_kind(folder: Path, kind: str) -> None:
    """Leave out captions of other kinds."""
    rows = [line for line in (folder / "metadata.jsonl").read_text().splitlines() if json.loads(line)["kind"] == kind]
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="builtin,vit-b-16")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--kind", help="of captions: object, attributes, pair, relation or count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(name for name in METHODS if name not in CONTROLS))
    args = parser.parse_args()
    torch.manual_seed(0)
    columns = []
    with tempfile.TemporaryDirectory() as place:
        write_scenes(Path(place), args.batch_size if args.kind is None else args.batch_size * 3, 0)
        if args.kind is not None:
            keep_kind(Path(place), args.kind)
        for name in args.models.split(","):
            model = MODELS[name](getattr(torch, args.dtype))
            batch = batch_of(model, Path(place), args.batch_size, shared=False)
            counts = [len(model.tokenize([sample.caption]).words[0]) for sample in batch.samples]
            phrases = [len(sample.phrases) for sample in batch.samples]
            works = {"bare forward": bare(model, batch)}
            works |= {method: explained(model, method, batch) for method in args.methods.split(",")}
            rounds = [{method: seconds(work) for method, work in works.items()} for _ in range(args.rounds + 1)][1:]
            least = {method: min(of_round[method] for of_round in rounds) for method in works}
            columns.append({method: least[method] / least["bare forward"] for method in works})
            about = f"{sum(counts) / len(counts):.1f} words and {sum(phrases) / len(phrases):.1f} phrases a caption"
            print(
                f"{name}: bare forward {least['bare forward'] / len(batch.samples):.4f} s a pair, {about}", flush=True
            )
    names = args.models.split(",")
    print("\n| method | " + " | ".join(names) + " |\n| --- |" + " ---: |" * len(names))
    for method in columns[0]:
        print(f"| {method} | " + " | ".join(f"{column[method]:.2f}" for column in columns) + " |")


if __name__ == "__main__":
    main()
