"""Pictures of a training: its curve, and the weights that it learned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mmel_cli.render.plots import save_figure


def plot_training(history: Sequence[dict[str, Any]], path: Path) -> list[Path]:
    """The objective by epoch on both sides of the split, and each of its parts on the validation images.

    Args:
        history: epoch, train, validation, parts and best of each epoch.
        path: without suffix.
    """
    names = sorted(history[0]["parts"])
    figure = Figure(figsize=(4.6 * (1 + len(names)), 3.6), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    epochs = [step["epoch"] for step in history]
    first.plot(epochs, [step["train"] for step in history], label="training images", marker=".")
    first.plot(epochs, [step["validation"] for step in history], label="validation images", marker=".")
    best = [step for step in history if step["best"]][-1]
    first.axvline(best["epoch"], color="0.6", linewidth=1, label="best")
    first.set(title="objective (lower is better)", xlabel="epoch")
    first.legend(fontsize="small")
    for axes, name in zip(others, names, strict=True):
        axes.plot(epochs, [step["parts"][name] for step in history], marker=".", color="C1")
        axes.axvline(best["epoch"], color="0.6", linewidth=1)
        axes.set(title=f"{name}, validation", xlabel="epoch")
    for axes in (first, *others):
        axes.grid(alpha=0.25)
    return save_figure(figure, path)


def plot_weights(tables: dict[str, tuple[np.ndarray, Sequence[str]]], layers: Sequence[int], path: Path) -> list[Path]:
    """Learned numbers by layer, a panel for each group, each cell with its value.

    Args:
        tables: by title: (layers, columns) and the columns' names.
        layers: layer numbers.
        path: without suffix.
    """
    widths = [len(names) for _, names in tables.values()]
    figure = Figure(figsize=(1.1 * sum(widths) + 0.9 * len(tables), 0.42 * len(layers) + 1.6), layout="constrained")
    panels = figure.subplots(1, len(tables), width_ratios=widths, squeeze=False)[0]
    for axes, (title, (values, names)) in zip(panels, tables.items(), strict=True):
        reach = max(float(np.abs(values).max()), 1.0)  # shares look small where they are
        axes.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if abs(value) > 0.7 * reach else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set_yticks(range(len(layers)), layers, fontsize=8)
        axes.set_title(title, fontsize=9)
    panels[0].set_ylabel("vision layer")
    return save_figure(figure, path)
