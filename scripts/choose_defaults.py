"""The untrained defaults of the HSRM: learned on two models together with equal layers, scored on validation scenes.

    python scripts/train_builtin.py train --out runs/control --shape control --steps 6000 --compile
    python scripts/train_shipped.py --model builtin --out runs/weights --objectives localization
    python scripts/train_shipped.py --model runs/control --out runs/weights-control --objectives localization
    python scripts/choose_defaults.py --out runs/defaults --models builtin runs/control
        --train runs/weights/train-run runs/weights-control/train-run               (minutes on two cores)

Rows: flow; the defaults as they stand in the code; what is learned on one model alone, on both models, and on both with
equal layers, each scored on both. What is learned on one is carried to the other as --transfer does. Prints Markdown.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ablate_weights import Scorer, Split
from table_scenes import COMMON, write_subset
from torch import Tensor

from mmel_cli.attribution.hsrm import Evidence, fuse
from mmel_cli.attribution.weights import PARAMETERS, HsrmWeights, untrained
from mmel_cli.config import load_config
from mmel_cli.geometry import to_grid
from mmel_cli.pipelines.explain import explain
from mmel_cli.training import Objective
from mmel_cli.training.objectives import FINER, Examples

METRICS = ("pointing-game", "energy-inside", "pixel-ap")
SHARED = tuple(name for name in PARAMETERS if name != "layer")
BATCH, EPOCHS, RATE = 64, 14, 0.05


class Learnable:
    """The training records of one model, in memory."""

    def __init__(self, run: Path, records: int) -> None:
        split = Split(run, records)
        grid = (split.info.grid[0] * FINER, split.info.grid[1] * FINER)
        cells = [to_grid(truth, record.box, grid) for truth, record in zip(split.truth, split.records, strict=True)]
        self.evidence, self.truth = split.evidence, torch.from_numpy(np.stack(cells)).float()
        self.layers, self.scales = len(split.info.layers), split.scales

    def loss(self, rows: Tensor, weights: HsrmWeights) -> Tensor:
        """Of some records, by localization."""
        fields = {name: maps[rows] for name, maps in self.evidence.fields().items()}
        evidence = Evidence.of(fields, self.scales)
        parts = Objective(1.0, 0.0, 0.0).measure(fuse(evidence, weights), Examples(evidence, self.truth[rows]))
        return parts["localization"].mean()


def learn(models: list[Learnable], *, layers: bool, seed: int = 0) -> list[HsrmWeights]:
    """Shared parameters of all models together; with `layers`, the weights of each one's layers too."""
    start = untrained(1, models[0].scales)
    common = {name: getattr(start, name).clone().requires_grad_() for name in SHARED}
    own = [torch.zeros(model.layers, requires_grad=layers) for model in models]
    optimiser = torch.optim.Adam([*common.values(), *(own if layers else ())], lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    count = min(len(model.truth) for model in models)
    steps = EPOCHS * math.ceil(count / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(count, generator=generator).split(BATCH):
            weights = [replace(start, **common, layer=layer) for layer in own]
            total = sum(model.loss(rows, mine) for model, mine in zip(models, weights, strict=True))
            optimiser.zero_grad()
            total.backward()  # type: ignore[union-attr] # there is at least one model
            optimiser.step()
            schedule.step()
    done = {name: value.detach() for name, value in common.items()}
    return [replace(start, **done, layer=layer.detach()) for layer in own]


def validation(model: str, place: Path, scenes: int) -> Split:
    """Validation scenes explained by a model."""
    write_subset(place / "scenes", 21, scenes, "validation")
    run = place / f"run-{Path(model).name}"
    explain(place / "scenes", run, load_config(None, [f"model={model}", *COMMON, "method.weights=untrained"]))
    return Split(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs=2, default=["builtin", "runs/control"])
    parser.add_argument("--train", type=Path, nargs=2, required=True)
    parser.add_argument("--records", type=int, default=1200, help="to learn from, of each model")
    parser.add_argument("--scenes", type=int, default=200, help="of the validation split")
    args = parser.parse_args()
    splits = [validation(model, args.out, args.scenes) for model in args.models]
    scorers = [Scorer(split, model, 0) for split, model in zip(splits, args.models, strict=True)]
    models = [Learnable(run, args.records) for run in args.train]

    def show(name: str, maps: list[Tensor]) -> None:
        cells = []
        for scorer, values in zip(scorers, maps, strict=True):
            scores = scorer(values.numpy())
            cells.append(" / ".join(f"{np.nanmean(scores[metric]):.3f}" for metric in METRICS))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)

    def fused(weights: list[HsrmWeights]) -> list[Tensor]:
        return [
            fuse(split.evidence, mine.at_depths(model.layers))
            for split, mine, model in zip(splits, weights, models, strict=True)
        ]

    print(f"{len(splits[0].records)} validation records; {' / '.join(METRICS)}\n")
    print("| | " + " | ".join(Path(model).name for model in args.models) + " |\n| --- | --- | --- |")
    show("flow", [split.evidence.flow.sum(1) for split in splits])
    show("the defaults", fused([untrained(model.layers, model.scales) for model in models]))
    for model, name in zip(models, args.models, strict=True):
        (alone,) = learn([model], layers=True)
        show(f"learned on {Path(name).name}", fused([alone, alone]))
    show("learned on both", fused(learn(models, layers=True)))
    together = learn(models, layers=False)
    show("learned on both, equal layers", fused(together))
    rounded = {name: [round(value, 2) for value in getattr(together[0], name).flatten().tolist()] for name in SHARED}
    print(f"\nlearned on both, equal layers, unconstrained: {rounded}")


if __name__ == "__main__":
    main()
