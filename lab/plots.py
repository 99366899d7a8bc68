"""The one way to draw: curves with a baseline and a band, heat-maps, and saving a figure whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")  # draw to files; no screen is needed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from lab.files import atomic

BLUE, ORANGE, GREEN, RED, GREY = "#2f6fb0", "#e0802a", "#3a9a5b", "#c0392b", "#777777"
plt.rcParams |= {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.dpi": 120,
}


def new_figure(width: float = 7.0, height: float = 4.0, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure of `width` x `height` inches with `columns` axes side by side, in the lab's style."""
    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, layout="constrained")
    return figure, list(axes[0])


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, whole or not at all, and free its memory."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")
    plt.close(figure)


def smooth(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Mean over the last `window` values at each position (fewer at the start)."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=float)]))
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def learning_curve(
    path: Path,
    x: ArrayLike,
    y: ArrayLike,
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_name: str,
    window: int = 1,
    reference_lines: Mapping[str, float] | None = None,
    second: tuple[str, ArrayLike] | None = None,
    band: tuple[str, ArrayLike, ArrayLike] | None = None,
    legend_location: Literal["best", "center left", "center right", "lower right", "upper left"] = "best",
    y_scale: str = "linear",
) -> None:
    """Draw a learning curve to `path`.

    Args:
        x, y: positions and values, (points,) each.
        y_name: what the curve shows, for the legend.
        window: with more than 1, the raw values are drawn faintly under their running mean.
        reference_lines: baselines and thresholds, name to value, drawn as dashed lines.
        second: name and values (points,) of a quantity drawn against an axis of its own on the right.
        band: name, lower and upper end (points,) of what other seeds gave, shaded behind the curve.
        legend_location: where the legend goes; "best" avoids the curves of the left axis only.
        y_scale: "linear", or "symlog" where values of very different sizes, of either sign, must be told apart.
    """
    figure, (axes,) = new_figure()
    if band is not None:
        axes.fill_between(x, *band[1:], color=GREY, alpha=0.25, linewidth=0, label=band[0])
    if window > 1:
        axes.plot(x, y, color=BLUE, alpha=0.25, linewidth=0.8)
        y_name += f" (running mean of {window})"
    axes.plot(x, smooth(y, window), color=BLUE, linewidth=1.8, label=y_name)
    for (name, value), color in zip((reference_lines or {}).items(), (GREEN, RED, GREY, ORANGE), strict=False):
        axes.axhline(value, linestyle="--", color=color, linewidth=1.2, label=f"{name} ({value:.4g})")
    handles, labels = axes.get_legend_handles_labels()
    if second is not None:
        lines = _second_axis(axes, x, *second)
        handles, labels = handles + lines, [*labels, second[0]]
    if y_scale == "symlog":
        axes.set_yscale("symlog", linthresh=1.0, subs=[2, 3, 4, 5, 6, 8])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.legend(handles, labels, loc=legend_location)
    save_figure(figure, path)


def _second_axis(axes: Axes, x: ArrayLike, name: str, values: ArrayLike) -> list[Line2D]:
    right = axes.twinx()
    right.set_ylabel(name, color=ORANGE)
    right.grid(visible=False)
    return right.plot(x, np.asarray(values), color=ORANGE, linewidth=1.2)


def heat_map(axes: Axes, matrix: ArrayLike, row_labels: Sequence[str], column_labels: Sequence[str]) -> None:
    """Draw `matrix` (rows, columns), values in [0, 1], as shaded cells with their numbers."""
    values = np.asarray(matrix)
    axes.imshow(values, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.grid(visible=False)
    axes.set_xticks(range(len(column_labels)), column_labels, rotation=45, ha="right")
    axes.set_yticks(range(len(row_labels)), row_labels)
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
