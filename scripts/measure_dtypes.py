"""Correlation of maps in bfloat16 and float16 with float32, on test scenes of a model.

    python scripts/measure_dtypes.py --scenes 50 [--model builtin] [--device cuda]

Prints, per method, the mean and the smallest Pearson correlation over records of the final map.
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


def maps(source: Path, out: Path, settings: list[str]) -> np.ndarray:
    """The final maps of a run, (P, h * w)."""
    explain(source, out, load_config(None, [*settings, "heatmaps=false", "archive.channels=final", "batch_size=32"]))
    with load_archive(out) as archive:
        return archive.column("map").reshape(len(archive), -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_scenes(root / "scenes", args.scenes, 2)
        print("| method | dtype | mean correlation | smallest |\n| --- | --- | --- | --- |")
        for method in (name for name, known in METHODS.items() if not known.needs & {"truth", "seeds", "probe"}):
            by_dtype = {}
            for dtype in ("float32", "bfloat16", "float16"):
                settings = [f"model={args.model}", f"device={args.device}", f"method.name={method}", f"dtype={dtype}"]
                by_dtype[dtype] = maps(root / "scenes", root / f"{method}-{dtype}", settings)
            usable = by_dtype["float32"].std(1) > 0  # a ReLU can leave nothing
            for dtype in ("bfloat16", "float16"):
                pairs = zip(by_dtype["float32"][usable], by_dtype[dtype][usable], strict=True)
                r = np.array([np.corrcoef(one, other)[0, 1] for one, other in pairs])
                print(f"| {method} | {dtype} | {r.mean():.4f} | {r.min():.4f} |", flush=True)


if __name__ == "__main__":
    main()
