"""The plots of the benchmarks, drawn from the results files alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lab import results
from lab.intervals import band
from lab.plots import BLUE, GREY, PALETTE, RED, Axes, Curve, draw_curves, new_figure, save_figure, symlog
from lab.results import Record, select


def draw_ablation(contents: Any, path: Path) -> None:
    """Draw the return of every variant: interquartile mean, interval, and one tick per seed."""
    rows = list(reversed(contents["summary"]))
    figure, (axes,) = new_figure(9.0, 4.2)
    all_returns = []
    for height, row in enumerate(rows):
        difference_high = row["difference_high"]
        color = GREY if difference_high is None else BLUE if difference_high >= 0 else RED
        returns = [record["return"] for record in select(contents["records"], side=row["side"])]
        all_returns += returns
        axes.plot([row["low"], row["high"]], [height, height], color=color, linewidth=5, alpha=0.4)
        axes.plot(row["mean"], height, "o", color=color)
        axes.plot(returns, [height] * len(returns), "|", color=color, alpha=0.6)
    axes.set_yticks(range(len(rows)), [row["side"] for row in rows])
    axes.set(xlabel="return: interquartile mean, 95% interval, one tick per seed (red: significantly worse)")
    axes.set_title("PPO on Reacher-v5, one detail switched off at a time")
    axes.axvline(rows[-1]["mean"], color=GREY, linestyle="--", linewidth=1)
    if min(all_returns) < -8:
        axes.set_xscale("symlog", linthresh=1.0, subs=[2, 3, 4, 5, 6, 8])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="both", length=4, pad=4)
    save_figure(figure, path)


def draw_ppo_peers(contents: Any, path: Path) -> None:
    """Draw return against steps and against time, for our PPO, other libraries and the baselines."""
    figure, axes = new_figure(12, 4.5, columns=2)
    by_steps, by_seconds = [], []
    for row in contents["summary"]:
        records = select(contents["records"], side=row["side"])
        if not records:
            continue
        returns, low, high = band([record["curve_return"] for record in records])
        name = f"{row['side']} ({len(records)})"
        by_steps.append(Curve(name, records[0]["curve_steps"], returns, low, high))
        seconds = np.median([record["curve_seconds"] for record in records], axis=0)
        by_seconds.append(Curve(name, seconds, returns, low, high))
    for panel, curves in zip(axes, (by_steps, by_seconds), strict=True):
        draw_curves(panel, curves, contents["baselines"])
        symlog(panel)
        best = max(max(curve.y) for curve in curves)
        panel.set(ylabel="return of the deterministic policy", ylim=(None, best * 0.8))
    axes[0].locator_params(axis="x", nbins=5)
    axes[0].xaxis.set_major_formatter("{x:,.0f}")
    axes[0].set(xlabel="environment steps", title="PPO on Reacher-v5: interquartile mean with 95% interval (seeds)")
    axes[1].set(xlabel="training time in seconds, one thread", title="The same curves against training time")
    axes[1].set_xscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)
    save_figure(figure, path)


def draw_scaling(contents: Any, path: Path) -> None:
    """Draw one panel per part: throughput against size, with the upper bound of each curve in the same color."""
    figure, axes = new_figure(5.4 * len(contents["parts"]), 4.4, columns=len(contents["parts"]))
    for panel, part in zip(axes, contents["parts"], strict=True):
        axis, series = part["axis"], part["series"]
        records = select(contents["records"], configuration=part["configuration"])
        values = dict.fromkeys(record[series] for record in records)
        groups = {f"{series} {value}": select(records, **{series: value}) for value in values}
        curves = [
            Curve(name, [record[axis] for record in group], [record["per_second"] for record in group])
            for name, group in groups.items()
        ]
        draw_curves(panel, curves, marker="o")
        _draw_limits(panel, list(groups.values()), axis, part["limit"])
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set(xlabel=axis, ylabel=part["unit"], title=part["configuration"])
        panel.legend(fontsize=7)
    save_figure(figure, path)


def _draw_limits(panel: Axes, groups: list[list[Record]], axis: str, limit: str) -> None:
    """Draw the upper bound of every curve, dashed or dotted, in the color of the curve."""
    for number, group in enumerate(groups):
        points = [(record[axis], record["limit_per_second"]) for record in group if record.get("limit_per_second")]
        if not points:
            continue
        x, y = zip(*points, strict=True)
        series = panel.get_lines()[number].get_label()
        style = ("--", ":", "-.")[number % 3]
        color = PALETTE[number % len(PALETTE)]
        panel.plot(x, y, style, color=color, linewidth=1.4, alpha=0.8, label=f"upper bound ({limit}), {series}")


PLOTS: dict[str, Callable[[Any, Path], None]] = {
    "ablation": draw_ablation,
    "ppo_peers": draw_ppo_peers,
    "scaling": draw_scaling,
}


def draw_plots(folder: Path | None = None) -> list[Path]:
    """Draw the plots of all complete results in `folder` (default: the committed ones); return the files."""
    folder = folder or results.RESULTS
    drawn = []
    for name, draw in PLOTS.items():
        source = folder / f"{name}.json"
        complete = [run for run in results.read_file(source, name)["runs"] if "summary" in run or "parts" in run]
        if complete:
            draw(complete[0], source.with_suffix(".png"))
            drawn.append(source.with_suffix(".png"))
    return drawn
