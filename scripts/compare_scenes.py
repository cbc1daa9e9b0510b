"""Compare untrained methods on test scenes of the builtin model: pointing game, energy inside the mask, pixel AP.

    python scripts/compare_scenes.py --scenes 500

Scenes of the test split with 2-4 objects, one "object" caption each; maps are brought to the image's pixels bilinearly.
Pointing game: the (first) highest pixel lies in the mask. Energy: positive evidence inside the mask over all of it.
AP: average precision of the signed map as a score of mask pixels. Intervals are 95 % bootstrap intervals of the mean.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from mmel_cli.archive import load_archive
from mmel_cli.config import load_config
from mmel_cli.data import open_source
from mmel_cli.data.images import read_mask
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.pipelines.explain import explain
from mmel_cli.types import Explanation, Sample

RUNS = {
    "grad-eclip, last layer": ["method.name=grad-eclip", "method.layers=last"],
    "grad-eclip, all layers": ["method.name=grad-eclip", "method.layers=all"],
    "flow, all layers": ["method.name=flow"],
    "mmel, untrained": ["method.name=mmel"],
}


def write_subset(folder: Path, seed: int, wanted: int) -> None:
    """An imagefolder of `wanted` scenes with 2-4 objects, each with its object caption."""
    write_scenes(folder, wanted * 2, seed)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    chosen = [row for row in rows if row["objects"] >= 2 and row["kind"] == "object"][:wanted]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))


def to_pixels(explanation: Explanation) -> np.ndarray:
    """The map at the size of the original (square scenes: the grid covers all of it)."""
    values = torch.from_numpy(explanation.map)[None, None]
    size = explanation.image_size
    return torch.nn.functional.interpolate(values, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def average_precision(scores: np.ndarray, inside: np.ndarray) -> float:
    """Mean precision over the pixels of the mask, highest score first; equal scores share their precision."""
    order = np.argsort(-scores, kind="stable")
    hits, ranked = inside[order].cumsum(), scores[order]
    last = np.r_[ranked[1:] != ranked[:-1], True]  # only where a group of equal scores ends
    found, seen = hits[last], np.flatnonzero(last) + 1
    gained = np.diff(np.r_[0, found])
    return float((gained * found / seen).sum() / max(1, hits[-1]))


def measure(explanation: Explanation, sample: Sample) -> tuple[float, float, float] | None:
    """Pointing, energy, AP of one record; None if nothing of the object is visible."""
    mask = read_mask(sample.mask, explanation.image_size)
    if not mask.any():
        return None
    values = to_pixels(explanation)
    positive = values.clip(min=0)
    hit = mask.ravel()[values.argmax()]
    energy = positive[mask].sum() / positive.sum() if positive.sum() > 0 else 0.0
    return float(hit), float(energy), average_precision(values.ravel(), mask.ravel())


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, 2,000 draws."""
    draws = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_subset(root / "scenes", args.seed, args.scenes)
        samples = {s.id: s for s in open_source(root / "scenes") if isinstance(s, Sample)}
        print(f"{len(samples)} records, model {args.model}")
        print("| map | pointing game | energy inside | pixel AP |\n| --- | --- | --- | --- |")
        for name, settings in RUNS.items():
            common = [f"model={args.model}", "heatmaps=false", "archive.channels=final", "batch_size=32"]
            out = root / name.replace(" ", "_")
            explain(root / "scenes", out, load_config(None, [*common, *settings]))
            with load_archive(out) as archive:
                rows = [row for e in archive if (row := measure(e, samples[e.id])) is not None]
            cells = []
            for column in np.array(rows).T:
                low, high = interval(column)
                cells.append(f"{column.mean():.3f} [{low:.3f}, {high:.3f}]")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
