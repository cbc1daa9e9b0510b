"""Pictures of a training: its curve, and the weights that it learned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
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


def plot_weights(omega: Sequence[float], layers: Sequence[int], others: dict[str, float], path: Path) -> list[Path]:
    """Learned numbers: the weight of each layer, and the parameters that all layers share, each with its value.

    Args:
        omega: of each layer, 1 on average.
        layers: layer numbers.
        others: by what they are called in METHOD 3.
        path: without suffix.
    """
    figure = Figure(figsize=(9.5, 0.26 * max(len(others), len(layers)) + 1.2), layout="constrained")
    panels = figure.subplots(1, 2, width_ratios=(1, 1.6))
    _bars(panels[0], [f"layer {number}" for number in layers], omega, "weight of each layer, omega (1 on average)")
    _bars(panels[1], list(others), list(others.values()), "the same in every layer")
    return save_figure(figure, path)


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float], title: str) -> None:
    places = range(len(names))
    bars = axes.barh(places, values, color=["C0" if value >= 0 else "C1" for value in values])
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_title(title, fontsize=9)
