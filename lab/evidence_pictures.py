"""The pictures of the benchmarks, drawn from benchmarks/results/*.json alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lab.files import ROOT
from lab.intervals import band
from lab.plots import BLUE, GREY, RED, Curve, draw_curves, new_figure, save_figure, symlog

RESULTS = ROOT / "benchmarks/results"


def draw_ablation(found: Any, path: Path) -> None:
    """The return of every variant with its interval, and a dot a seed."""
    rows = found["summary"]
    figure, (axes,) = new_figure(7.5, 4.2)
    for height, row in enumerate(reversed(rows)):
        color = GREY if row["variant"] == "nothing" else BLUE if row["difference"]["high"] >= 0 else RED
        axes.plot([row["low"], row["high"]], [height, height], color=color, linewidth=5, alpha=0.4)
        axes.plot(row["mean"], height, "o", color=color)
        axes.plot(row["returns"], [height] * len(row["returns"]), "|", color=color, alpha=0.6)
    axes.set_yticks(range(len(rows)), [row["title"] for row in reversed(rows)])
    axes.set(xlabel="return: interquartile mean, 95% interval, every seed (red: worse than the whole)")
    axes.set_title("PPO on Reacher-v5, less one detail")
    axes.axvline(rows[0]["mean"], color=GREY, linestyle="--", linewidth=1)
    if min(min(row["returns"]) for row in rows) < -8:
        axes.set_xscale("symlog", linthresh=1.0, subs=[2, 3, 4, 5, 6, 8])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
    save_figure(figure, path)


def draw_ppo_peers(found: Any, path: Path) -> None:
    """Return against steps and against seconds, ours and the peers', beside what needs no learning."""
    figure, axes = new_figure(12, 4.5, columns=2)
    by_steps, by_seconds = [], []
    for side in found["sides"]:
        rows = [row for row in found["rows"] if row["side"] == side and "curve" in row]
        if not rows:
            continue
        returns, low, high = band([row["curve"]["return"] for row in rows])
        name = f"{side} ({len(rows)})"
        by_steps.append(Curve(name, rows[0]["curve"]["steps"], returns, low, high))
        seconds = np.median([row["curve"]["seconds"] for row in rows], axis=0)
        by_seconds.append(Curve(name, seconds, returns, low, high))
    for panel, curves in zip(axes, (by_steps, by_seconds), strict=True):
        draw_curves(panel, curves, found["baselines"])
        symlog(panel)
        best = max(max(curve.y) for curve in curves)
        panel.set(ylabel="return of the deterministic policy", ylim=(None, best * 0.8))
    axes[0].xaxis.set_major_formatter("{x:,.0f}")
    axes[0].set(xlabel="environment steps", title="PPO on Reacher-v5: interquartile mean, 95% interval over (seeds)")
    axes[1].set(xlabel="seconds of training, one thread", title="the same against time")
    axes[1].set_xscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)
    save_figure(figure, path)


def draw_scaling(found: Any, path: Path) -> None:
    """A panel a part: what was reached against size, a line for each of the rest, beside the limits (dashed)."""
    figure, axes = new_figure(5 * len(found["parts"]), 4.2, columns=len(found["parts"]))
    for panel, part in zip(axes, found["parts"].values(), strict=True):
        along, *_ = part["rows"][0]["at"]
        series: dict[str, list[Any]] = {}
        for row in part["rows"]:
            rest = ", ".join(f"{name} {value}" for name, value in row["at"].items() if name != along)
            series.setdefault(rest, []).append(row)
        curves = [
            Curve(name, [r["at"][along] for r in rows], [r["per_second"] for r in rows])
            for name, rows in series.items()
        ]
        draw_curves(panel, curves, marker="o")
        for number, rows in enumerate(series.values()):
            limits = [(row["at"][along], row["limit_per_second"]) for row in rows if row.get("limit_per_second")]
            if limits:
                label = f"limit: {part['limit']}" if number == 0 else None
                panel.plot(*zip(*limits, strict=True), "--", color=GREY, linewidth=1.2, label=label)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set(xlabel=along, ylabel=part["unit"], title=part["title"])
        panel.legend(fontsize=7)
    save_figure(figure, path)


PICTURES: dict[str, Callable[[Any, Path], None]] = {
    "ablation": draw_ablation,
    "ppo_peers": draw_ppo_peers,
    "scaling": draw_scaling,
}


def draw_pictures(folder: Path = RESULTS) -> list[Path]:
    """Draw those whose results are there and complete, beside them; returns the files."""
    drawn = []
    for name, draw in PICTURES.items():
        source = folder / f"{name}.json"
        found = json.loads(source.read_text(encoding="utf-8")) if source.exists() else {}
        if "summary" in found or "parts" in found:
            draw(found, source.with_suffix(".png"))
            drawn.append(source.with_suffix(".png"))
    return drawn
