"""What several methods in one pass save: `--method a,b,c` beside a run for each method, in one process.

    python scripts/bench_methods.py [--pairs 32] [--rounds 3] [--models builtin,vit-b-16] [--methods flow,gae,...]

The builtin model and a random CLIP in the shapes of ViT-B/16 (float32), on generated scenes, images from disk, without
pictures; a loaded model on both sides. Each round times one side after the other, in turn first. Prints Markdown: the
least seconds a pair over the rounds, and their ratio (in brackets that of processor seconds).
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from made import MODELS

from mmel_cli.config import RunConfig, load_configs
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.pipelines.explain import explain, explain_several


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - used


def one_round(source: Path, configs: list[RunConfig], number: int) -> dict[str, tuple[float, float]]:
    """Both sides into new folders, the other one first every other time."""
    with tempfile.TemporaryDirectory() as place:

        def apart() -> None:
            for config in configs:
                explain(source, Path(place) / "apart" / config.method.name, config)

        def together() -> None:
            explain_several(source, Path(place) / "together", configs)

        sides = [("apart", apart), ("together", together)]
        return {name: timed(work) for name, work in (sides if number % 2 else sides[::-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default="builtin,vit-b-16")
    parser.add_argument("--methods", action="append", help="may be given several times")
    args = parser.parse_args()
    torch.manual_seed(0)
    print("| model | methods | apart, s a pair | together, s a pair | ratio |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        write_scenes(Path(place), args.pairs, 0)
        for name in args.models.split(","):
            model = MODELS[name]()
            for methods in args.methods or ["flow,gae", "grad-eclip,flow,gae,mmel"]:
                options = {"model": "builtin", "limit": args.pairs, "batch_size": args.batch_size, "heatmaps": False}
                configs = load_configs(methods, None, (), options)
                with patch("mmel_cli.pipelines.explain.load_model", lambda *_, model=model: model):
                    rounds = [one_round(Path(place), configs, number) for number in range(args.rounds + 1)][1:]
                (apart, apart_used), (together, used) = (
                    [min(of_round[side][clock] for of_round in rounds) / args.pairs for clock in (0, 1)]
                    for side in ("apart", "together")
                )
                ratio = f"{together / apart:.2f} ({used / apart_used:.2f})"
                print(f"| {name} | {methods} | {apart:.4f} | {together:.4f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
