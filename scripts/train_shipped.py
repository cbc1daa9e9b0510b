"""Train the weights of mmel for a model on generated training scenes: one file an objective.

    python scripts/train_shipped.py --out runs/weights              (about 20 minutes on two cores)
    python scripts/train_shipped.py --out runs/weights --ship both  (and put this one among those that come with mmel)

Scenes of the training split with 2-4 objects, captions of an object and of attributes. The explained run stays in
OUT/train-run, and every training goes on where it stopped. Prints the objectives on held-back images of the training
split; scripts/table_scenes.py and scripts/ablate_weights.py say what the weights are worth on the test split.
"""

import argparse
import shutil
from pathlib import Path

from table_scenes import write_subset

from mmel_cli.archive import load_archive
from mmel_cli.attribution.weights import SHIPPED
from mmel_cli.config import load_config, load_train_config
from mmel_cli.pipelines.explain import explain
from mmel_cli.pipelines.train import train_weights

OBJECTIVES: dict[str, list[str]] = {
    "localization": [],
    "faithfulness": ["limit=1000", "training.batch=32", "training.epochs=6", "training.patience=2"],
    "both": ["limit=1000", "training.batch=32", "training.epochs=6", "training.patience=2"],
}
SCENES, SEED = 1000, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--objectives", default=",".join(OBJECTIVES))
    parser.add_argument("--ship", choices=list(OBJECTIVES))
    args = parser.parse_args()
    run = args.out / "train-run"
    write_subset(args.out / "scenes", SEED, SCENES, "train")
    settings = [f"model={args.model}", "method.weights=untrained", "heatmaps=false", "batch_size=32"]
    explain(args.out / "scenes", run, load_config(None, settings))
    for name in args.objectives.split(","):
        more = [f"training.objective={name}", f"model={args.model}", *OBJECTIVES[name]]
        training = train_weights(run, args.out / f"{name}.safetensors", load_train_config(None, more))
        print(f"{name}: {training.epochs} epochs on {training.records}")
        for part, before in training.before.items():
            print(f"  {part}: {before:.4f} untrained, {training.after[part]:.4f} trained")
    if args.ship:
        with load_archive(run) as archive:
            target = SHIPPED / f"{archive.info.model_sha256[:16]}.safetensors"
        SHIPPED.mkdir(exist_ok=True)
        shutil.copyfile(args.out / f"{args.ship}.safetensors", target)
        print(f"Shipped: {target}")


if __name__ == "__main__":
    main()
