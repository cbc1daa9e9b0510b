"""Plots of an evaluation, each as PNG and SVG (matplotlib without a display)."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BAND = 1.96  # standard errors
_MANY = 20_000  # points of a scatter that are pixels in an SVG too: as elements they would be megabytes


def plot_curves(
    curves: dict[str, Any], names: dict[str, str], path: Path, score: str, at: list[float] | None = None
) -> list[Path]:
    """Insertion beside deletion: mean over records and 95 % band, one line a run.

    Args:
        curves: by run, by curve: mean and error at each point.
        names: the curves to draw, one panel each, and what becomes of what in it ("pixels put back").
        path: without suffix.
        score: what the curves measure, for the axis.
        at: where the points lie, 0 to 1, on an axis that is logarithmic above its least; None for equal steps.
    """
    figure, panels = _panels(len(names))
    for axes, name in zip(panels, names, strict=True):
        for run, table in curves.items():
            if name in table:
                mean, error = np.array(table[name]["mean"]), np.array(table[name]["error"])
                _line(axes, np.linspace(0, 100, len(mean)) if at is None else 100 * np.array(at), mean, error, run)
        if at is not None:
            axes.set_xscale("symlog", linthresh=100 * at[1], linscale=0.4)
            axes.set_xticks([100 * fraction for fraction in at], [f"{100 * fraction:g}" for fraction in at])
            axes.tick_params(axis="x", which="minor", bottom=False)
            axes.tick_params(axis="x", labelsize="small")
        axes.set(title=name, xlabel=f"% of {names[name]}, highest first", ylabel=score, xlim=(0, 100))
    _legend(figure, panels, len(curves))
    return save_figure(figure, path)


def plot_layers(layers: dict[str, Any], numbers: dict[str, list[int]], path: Path) -> list[Path]:
    """Localisation of each layer's raw map, a panel for each metric, a line for each run and kind of map.

    Args:
        layers: by run, by "kind/metric": mean and error of each explained layer.
        numbers: by run: the explained layers, from 1.
        path: without suffix.
    """
    names = sorted({name.split("/")[1] for table in layers.values() for name in table})
    figure, panels = _panels(len(names))
    lines = 0
    for axes, name in zip(panels, names, strict=True):
        for run, table in layers.items():
            for key, values in table.items():
                kind, metric = key.split("/")
                if metric == name:
                    mean, error = np.array(values["mean"]), np.array(values["error"])
                    _line(axes, np.array(numbers[run]), mean, error, f"{run}: {kind}", marker="o")
                    lines += 1
        axes.set_xticks(sorted({number for layer_numbers in numbers.values() for number in layer_numbers}))
        axes.set(title=f"{name} of each layer's map", xlabel="vision layer", ylabel=name)
    _legend(figure, panels, lines)
    return save_figure(figure, path)


def plot_pairs(reference: np.ndarray, runs: dict[str, np.ndarray], names: tuple[str, str], path: Path) -> list[Path]:
    """Paired scatter of one metric: each record of a run against the same record of the reference.

    Args:
        reference: (records,), NaN where undefined.
        runs: the same for each other run.
        names: metric, and label of the reference.
        path: without suffix.
    """
    metric, label = names
    figure, panels = _panels(len(runs), square=True)
    for axes, (run, values) in zip(panels, runs.items(), strict=True):
        both = ~np.isnan(reference) & ~np.isnan(values)
        x, y = reference[both], values[both]
        low, high = (float(f([x.min(), y.min(), x.max(), y.max()])) for f in (min, max)) if len(x) else (0.0, 1.0)
        axes.plot([low, high], [low, high], color="0.6", linewidth=1)
        axes.scatter(x, y, s=9, alpha=0.45, linewidths=0, rasterized=len(x) > _MANY)
        axes.set(title=f"{metric}: {_plain(run)} is higher on {(y > x).mean():.0%}" if len(x) else metric)
        axes.set(xlabel=_plain(label), ylabel=_plain(run), aspect="equal")
    return save_figure(figure, path)


def _panels(count: int, *, square: bool = False) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.6 * columns, (4.6 if square else 3.8) * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.axis("off")
    return figure, panels[:count]


def _line(axes: Axes, at: np.ndarray, mean: np.ndarray, error: np.ndarray, label: str, **style: Any) -> None:
    (line,) = axes.plot(at, mean, label=_plain(label), linewidth=1.5, markersize=4, **style)
    axes.fill_between(at, mean - BAND * error, mean + BAND * error, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.grid(alpha=0.25)


def _legend(figure: Figure, panels: list[Axes], lines: int) -> None:
    if panels and lines:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize="small")


def _plain(text: str) -> str:
    """A label that starts with an underscore would be left out, and dollars would be read as formulas."""
    return ("\u200b" + text if text.startswith("_") else text).replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `path` with .png and .svg; the files made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        for suffix, options in ((".png", {"dpi": 130}), (".svg", {"metadata": {"Date": None}})):
            made.append(path.with_suffix(suffix))
            figure.savefig(made[-1], **options)
    return made
