"""Print METHOD's worked example: one cell of one map of a run, from the archive alone, step by step in plain numbers.

Usage: python scripts/worked_example.py RUN ID      (a run of method mmel; with --words also its words)
Every step is written out with numpy, not with the code that made the map; the result is compared with the archived map.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from mmel_cli import load_archive
from mmel_cli.attribution.base import Target
from mmel_cli.attribution.mmel import Params, prepare
from mmel_cli.attribution.weights import HsrmWeights
from mmel_cli.scoring import Scoring
from mmel_cli.types import Explanation, RunInfo

CHANNELS = 4


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def enlarged(regions: np.ndarray, grid: tuple[int, int], row: int, column: int) -> float:
    """The value of regions (h, w) at one cell of the grid: bilinear between the centres of regions."""
    at = []
    for place, cells, count in ((row, grid[0], regions.shape[0]), (column, grid[1], regions.shape[1])):
        position = min(max((place + 0.5) * count / cells - 0.5, 0.0), count - 1.0)
        low = int(position)
        at.append((low, min(low + 1, count - 1), position - low))
    (y0, y1, fy), (x0, x1, fx) = at
    top = (1 - fx) * regions[y0, x0] + fx * regions[y0, x1]
    return float((1 - fy) * top + fy * ((1 - fx) * regions[y1, x0] + fx * regions[y1, x1]))


def pooled(maps: np.ndarray, scale: int) -> np.ndarray:
    """Means of regions of scale x scale cells; the grid of the example divides by every scale."""
    height, width = maps.shape[-2:]
    if height % scale or width % scale:
        sys.exit(f"the grid {height} x {width} does not divide by {scale}; give a run of the builtin model")
    return maps.reshape(*maps.shape[:-2], height // scale, scale, width // scale, scale).mean((-3, -1))


def weights_of(info: RunInfo) -> HsrmWeights:
    params = Params(weights="auto" if info.trained == "shipped" else "untrained")
    if info.trained == "file":
        sys.exit("the example is of a run with shipped or untrained weights")
    return prepare(params, Target(info.model, info.model_sha256, info.layers, Scoring(1.0, 0.0, "softmax")))


def cell(record: Explanation, weights: HsrmWeights, row: int, column: int) -> tuple[list[dict[str, float]], float]:
    """What each layer has at the cell, and the sum: METHOD 3, steps 1, 4, 5 and 6."""
    fields, grid = record.fields, record.map.shape
    m, n = sigmoid(float(weights.mix)), sigmoid(float(weights.negative))
    mix = np.array([1 - m, (1 - m) * n, m, m * n])
    b = np.exp(weights.scale.numpy()) / np.exp(weights.scale.numpy()).sum()
    g = [sigmoid(float(value)) for value in weights.relation]
    omega = np.exp(weights.layer.numpy()) / np.exp(weights.layer.numpy()).sum() * len(weights.layer)
    c, d = weights.gate.numpy(), weights.consensus.numpy()
    loosened, flow = fields["layers/loosened"], fields["layers/flow"]
    shared = {scale: fields[f"layers/shared_{scale}"] for scale in weights.scales}
    positive = np.maximum(loosened, 0).sum(0)
    common = [
        np.array([[enlarged(shared[s][:, 2:].sum((0, 1)), grid, y, x) for x in range(grid[1])] for y in range(grid[0])])
        for s in weights.scales
    ]
    agree = [float(values[row, column] / np.abs(values).max()) for values in common]
    layers = []
    for layer in range(len(omega)):
        channels = np.stack([f(v[layer], 0) for v in (loosened, flow) for f in (np.maximum, np.minimum)])
        mixed = np.einsum("chw,c->hw", channels, mix)
        whole = sum(
            b[r]
            * (
                (1 - g[r]) * enlarged(pooled(mixed, scale), grid, row, column)
                + g[r] * enlarged(np.einsum("chw,c->hw", shared[scale][layer], mix), grid, row, column)
            )
            for r, scale in enumerate(weights.scales)
        )
        align = fields["layers/alignment"][layer]
        inputs = [
            1.0,
            float((align[row, column] - align.min()) / (align.max() - align.min())),
            float(fields["layers/lambda"][layer, row, column]),
            float(fields["layers/attention"][layer, row, column]),
            float(positive[row, column] / positive.max()),
        ]
        gate = sigmoid(float(np.dot(c, inputs) + np.dot(d, agree)))
        layers.append(
            {
                "G": float(loosened[layer, row, column]),
                "C": float(flow[layer, row, column]),
                "E": float(mixed[row, column]),
                "Y": float(whole),
                "u": gate,
                "omega": float(omega[layer]),
                "omega u Y": float(omega[layer] * gate * whole),
            }
        )
    return layers, float(sum(layer["omega u Y"] for layer in layers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("id")
    chosen = parser.parse_args()
    with load_archive(chosen.run) as archive:
        record, info = archive[chosen.id], archive.info
    row, column = (int(n) for n in np.unravel_index(record.map.argmax(), record.map.shape))
    x0, y0, x1, y1 = record.box
    height, width = (y1 - y0) / info.grid[0], (x1 - x0) / info.grid[1]
    place = (x0 + column * width, y0 + row * height, x0 + (column + 1) * width, y0 + (row + 1) * height)
    pixels = ", ".join(f"{value:.0f}" for value in place)
    print(f'"{record.caption}": score s = {record.score:.3f}. Strongest cell: row {row}, column {column} (from 0),')
    print(f"pixels {pixels}; archived map there: {record.map[row, column]:.4f}.")
    layers, total = cell(record, weights_of(info), row, column)
    print("\n| layer | " + " | ".join(layers[0]) + " |\n|" + " --- |" * (len(layers[0]) + 1))
    for number, layer in zip(info.layers, layers, strict=True):
        print(f"| {number} | " + " | ".join(f"{value:.4f}" for value in layer.values()) + " |")
    print(f"\nSum over layers: M = {total:.4f}.")
    if not math.isclose(total, float(record.map[row, column]), rel_tol=1e-4):
        sys.exit(f"this is not the archived {record.map[row, column]}: METHOD 3 and the code differ")
    if "words/share" in record.fields:
        shares, maps = record.fields["words/share"], record.fields["words/map"]
        pairs = zip(record.words, shares, maps, record.word_values, strict=True)
        print("\n| word | share | its map there | cosine lost without it |\n| --- | --- | --- | --- |")
        for word, share, regions, value in pairs:
            print(f"| {word.text} | {share:+.3f} | {regions[row, column]:+.4f} | {value:+.3f} |")
        print(f"\nShares sum to {shares.sum():.3f}, so a caption of no words has {record.score - shares.sum():.3f}.")


if __name__ == "__main__":
    main()
