"""Plots: curves with baselines and bands, heat maps, and atomic saving of figures."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

os.environ["MPLBACKEND"] = "Agg"  # draw to files; Matplotlib refuses to load if a notebook's backend is not installed

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from lab.files import atomic

BLUE, ORANGE, GREEN, RED, GREY = "#2f6fb0", "#e0802a", "#3a9a5b", "#c0392b", "#777777"
PALETTE = (BLUE, ORANGE, GREEN, RED, "#8e5bb5", "#8a6d3b", "#d36fa8", "#17a2b8")
matplotlib.use("Agg")  # if the program has loaded Matplotlib before
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
    """Return an empty figure of `width` x `height` inches with `columns` axes side by side, in the lab's style."""
    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, layout="constrained")
    return figure, list(axes[0])


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, atomically, and close it."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")
    plt.close(figure)


def smooth(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Running mean over the last `window` values (fewer at the start)."""
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
    points: tuple[str, ArrayLike, ArrayLike] | None = None,
    legend_location: Literal["best", "center left", "center right", "lower right", "upper left"] = "best",
    y_scale: str = "linear",
) -> None:
    """Draw a learning curve to `path`.

    Args:
        x, y: coordinates of the curve, (points,) each.
        y_name: name of the curve in the legend.
        window: if above 1, the raw values are drawn faintly under their running mean.
        reference_lines: baselines and thresholds, name to value, drawn as dashed lines.
        second: name and values (points,) of a quantity drawn on a second y axis on the right.
        band: name, lower and upper end (points,) of a band over seeds, shaded behind the curve.
        points: name, x and y (points,) of a quantity measured less often, drawn as dots on a line.
        legend_location: position of the legend; "best" avoids the curves of the left axis only.
        y_scale: "linear", or "symlog" for values of either sign that span orders of magnitude.
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
    if points is not None:
        axes.plot(*points[1:], color=ORANGE, linewidth=1.2, marker="o", markersize=4, label=points[0])
    handles, labels = axes.get_legend_handles_labels()
    if second is not None:
        lines = _second_axis(axes, x, *second)
        handles, labels = handles + lines, [*labels, second[0]]
    if y_scale == "symlog":
        symlog(axes)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.legend(handles, labels, loc=legend_location)
    save_figure(figure, path)


@dataclass(frozen=True)
class Curve:
    """A named curve, (points,) each, with the ends of a band around it if it has one."""

    name: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


def draw_curves(
    axes: Axes, curves: Sequence[Curve], reference_lines: Mapping[str, float] | None = None, *, marker: str = ""
) -> None:
    """Draw several curves with their bands into `axes`, and baselines as dashed lines."""
    for number, curve in enumerate(curves):
        color = PALETTE[number % len(PALETTE)]
        style = "--" if number >= len(PALETTE) else "-"
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.2, linewidth=0)
        axes.plot(curve.x, curve.y, style, color=color, marker=marker, markersize=4, linewidth=1.6, label=curve.name)
    for (name, value), style in zip((reference_lines or {}).items(), ("--", ":", "-."), strict=False):
        axes.axhline(value, linestyle=style, color=GREY, linewidth=1.2, label=f"{name} ({value:.4g})")


def symlog(axes: Axes) -> None:
    """Set a symmetric logarithmic y axis with readable tick labels."""
    axes.set_yscale("symlog", linthresh=1.0, subs=[2, 3, 4, 5, 6, 8])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def _second_axis(axes: Axes, x: ArrayLike, name: str, values: ArrayLike) -> list[Line2D]:
    right = axes.twinx()
    right.set_ylabel(name, color=ORANGE)
    right.grid(visible=False)
    return right.plot(x, np.asarray(values), color=ORANGE, linewidth=1.2)


def drawable(text: str, family: str | None = None) -> str:
    """Return `text` for use in a plot: dollar signs escaped, a box for characters that the font lacks."""
    font = get_font(findfont(FontProperties(family=family)))
    return "".join(c if font.get_char_index(ord(c)) else "\u25a1" for c in text).replace("$", r"\$")


def heat_map(
    axes: Axes,
    matrix: ArrayLike,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    max_labels: int = 60,
    max_numbers: int = 20,
) -> None:
    """Draw `matrix` (rows, columns), values in [0, 1], NaN for none, as shaded cells with their numbers.

    Above `max_numbers` columns a color bar replaces the numbers, scaled to the largest value; above `max_labels` only
    every second, third, ... row and column is labeled.
    """
    values = np.asarray(matrix)
    crowded = max(values.shape) > max_numbers
    image = axes.imshow(values, cmap="Blues", vmin=0.0, vmax=float(np.nanmax(values)) if crowded else 1.0)
    axes.grid(visible=False)
    every = -(-max(values.shape) // max_labels)
    size = 7 if crowded else None
    axes.set_xticks(range(0, len(column_labels), every), column_labels[::every], rotation=45, ha="right", size=size)
    axes.set_yticks(range(0, len(row_labels), every), row_labels[::every], size=size)
    if crowded:
        axes.figure.colorbar(image, ax=axes, shrink=0.6)
        return
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
