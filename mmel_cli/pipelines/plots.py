"""Which plots an evaluation gets, from its report and its columns."""

import shutil
from pathlib import Path
from typing import Any

from mmel_cli.evaluation.summary import Columns
from mmel_cli.render.plots import plot_curves, plot_layers, plot_pairs

_PAIRED = (
    *("insertion-deletion", "insertion-deletion-fine", "aid"),
    *("energy-inside", "pixel-ap", "token-insertion-deletion"),
    *("phrase-energy", "word-insertion-deletion"),
)


def draw(folder: Path, report: dict[str, Any], runs: dict[str, Columns]) -> None:
    """Draw anew what the scores allow: curves, paired scatter against the first run, localisation by layer."""
    shutil.rmtree(folder, ignore_errors=True)
    curves = report["curves"]
    for end, score in (("", "cosine"), ("-fine", "cosine"), ("-probability", "probability of the caption")):
        names = {f"insertion{end}": "pixels put back", f"deletion{end}": "pixels taken away"}
        if any(name in table for table in curves.values() for name in names):
            plot_curves(curves, names, folder / f"curves{end}", score, report["curves_at"].get(f"insertion{end}"))
    names = {"word-insertion": "words and patches put back", "word-deletion": "words and patches taken away"}
    if any(name in table for table in curves.values() for name in names):
        plot_curves(curves, names, folder / "curves-words", "cosine")
    if any(report["layers"].values()):
        numbers = {run["label"]: run["layers"] for run in report["runs"]}
        plot_layers(report["layers"], numbers, folder / "layers")
    first, *others = runs
    for name in _PAIRED:
        values = {label: runs[label].values[name] for label in others if name in runs[label].values}
        if values and name in runs[first].values:
            plot_pairs(runs[first].values[name], values, (name, first), folder / f"pairs-{name}")
