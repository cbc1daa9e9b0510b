"""How close the maps of a batch come to those of single pairs, on test scenes of a model, by method.

    python scripts/measure_batches.py --scenes 20 [--model builtin] [--batches 5,16,64] [--methods flow,rise]

Prints, per method and field, the largest difference over records and batch sizes, relative to the largest magnitude of
the field in its record; and the largest difference of a cosine. Slow methods look again fewer times than by default.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from mmel_cli.archive import load_archive
from mmel_cli.attribution import METHODS
from mmel_cli.config import load_config
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.pipelines.explain import explain
from mmel_cli.types import Explanation

SETTINGS = {
    "rise": ["method.masks=100"],
    "integrated-gradients": ["method.steps=16"],
    "smoothgrad": ["method.samples=8"],
    "region-search": ["method.regions=3"],
}
ONE_HEAD, VIEWS = "grad-eclip, heads: single", "mmel, shifts: 5"


def records(source: Path, out: Path, settings: list[str]) -> dict[str, Explanation]:
    """What a run gives, by record id."""
    explain(source, out, load_config(None, [*settings, "heatmaps=false", "word_values=false"]))
    with load_archive(out) as archive:
        return {record.id: record for record in archive}


def gap(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference over the largest magnitude; 0 for two fields of zeros."""
    size = float(np.abs(one).max(initial=0))
    return (
        float(np.abs(one.astype(float) - other).max(initial=0)) / size if size else float(np.abs(other).max(initial=0))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--batches", default="5,16,64")
    parser.add_argument("--methods", default="all", help="names with commas between, or all")
    args = parser.parse_args()
    cases = {name: [f"method.name={name}", *SETTINGS.get(name, [])] for name in METHODS}
    cases[ONE_HEAD] = ["method.name=grad-eclip", "method.heads=single"]
    cases[VIEWS] = ["method.name=mmel", "method.shifts=5"]
    if args.methods != "all":
        cases = {name: cases[name] for name in args.methods.split(",")}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_scenes(root / "scenes", args.scenes, 2)
        print("| method | cosine | map | tokens/map | layers, the largest |\n| --- | --- | --- | --- | --- |")
        for number, (name, settings) in enumerate(cases.items()):
            common = [f"model={args.model}", "device=cpu", *settings]
            single = records(root / "scenes", root / f"{number}-1", [*common, "batch_size=1"])
            cosine, worst = 0.0, dict.fromkeys(("map", "tokens/map", "layers"), 0.0)
            for size in args.batches.split(","):
                batch = records(root / "scenes", root / f"{number}-{size}", [*common, f"batch_size={size}"])
                for record_id, record in single.items():
                    cosine = max(cosine, abs(record.score - batch[record_id].score))
                    for field, values in record.fields.items():
                        kind = field.split("/")[0] if field.startswith("layers/") else field
                        worst[kind] = max(worst[kind], gap(values, batch[record_id].fields[field]))
            print(f"| {name} | {cosine:.1e} | " + " | ".join(f"{worst[kind]:.1e}" for kind in worst) + " |", flush=True)


if __name__ == "__main__":
    main()
