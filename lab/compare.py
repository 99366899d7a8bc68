"""Compare runs: settings that differ, final metrics, and curves in one plot.

A run is the output folder of a script: `<script>.json`, the record, and `metrics.csv` if the script has a learning
curve. A folder of several seeds (`lab repeat`) holds such folders as seed_0, seed_1, ...; then differences are given
with a 95% interval, which tells from five seeds on whether they are significant.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.errors import UserError
from lab.files import ROOT, display_path, read_text, writable_folder
from lab.intervals import band, difference, estimate
from lab.metrics import METRICS, read_metrics
from lab.texts import printable

if TYPE_CHECKING:
    from lab.plots import Curve  # functions that draw import it: not every command needs Matplotlib

X_COLUMNS = ("steps", "step", "iteration", "episode", "round", "epoch")  # candidates for the x axis, in this order
DEFAULT_METRICS = ("mean_return", "total_reward", "validation_loss", "accuracy", "start_value", "loss")
IGNORED_SETTINGS = ("seed", "output_dir", "resume")  # may differ between runs that are otherwise the same
MIN_SEEDS_FOR_CI = 5  # with fewer seeds a bootstrap has too few distinct resamples
CURVE_POINTS = 200  # common x grid on which the curves of several seeds are averaged


@dataclass(frozen=True)
class Compare:
    """Compare runs: settings that differ, final metrics, curves."""

    output_dir: Path = ROOT / "runs/compare"
    """Folder for compare.png."""
    y: str | None = None
    """Column of metrics.csv to plot. Default: the return, the reward, or the loss."""


@dataclass(frozen=True)
class Run:
    """One run: settings and final metrics, nested names joined by dots, and the columns of metrics.csv."""

    folder: Path
    script: str
    config: dict[str, Any]
    final_metrics: dict[str, float]
    metrics: dict[str, list[float]]


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed; often a single run."""

    name: str
    runs: list[Run]

    def metrics(self) -> list[str]:
        """Return the names of the final metrics that any run has."""
        return list(dict.fromkeys(name for run in self.runs for name in run.final_metrics))

    def values(self, metric: str) -> list[float]:
        """Return the final value of a metric for every run that has it."""
        return [run.final_metrics[metric] for run in self.runs if metric in run.final_metrics]


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as a flat one, names joined by dots."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= flatten(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {prefix + name: item}
    return flat


def read_run(folder: Path) -> Run:
    """Return the run in a folder. Raises UserError or OSError, naming the file, if it is missing or damaged."""
    path = _record_of(folder)
    try:
        record = json.loads(read_text(path))
        checks = {check["name"]: check["value"] for check in record["figures"]}
        results = {**checks, **flatten(record["results"]), "seconds": record["seconds"]}
        script, config = record["script"], flatten(record["config"])
        final_metrics = {name: float(n) for name, n in results.items() if isinstance(n, (int, float))}
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: damaged, or not the record of a run ({type(error).__name__}: {error})") from None
    metrics = read_metrics(folder / METRICS) if (folder / METRICS).is_file() else {}
    return Run(folder, script, config, final_metrics, metrics)


def _records(folder: Path) -> list[Path]:
    """Return all run records in a folder, recognized by their first key."""
    return [path for path in sorted(folder.glob("*.json")) if re.match(r'\{\s*"script":', read_text(path))]


def _record_of(folder: Path) -> Path:
    """Return the record in a folder; among several, the one of a training script."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the --output_dir of a run")
    records = _records(folder)
    trainings = [path for path in records if path.stem.startswith("train")]
    if len(trainings or records) == 1:
        return (trainings or records)[0]
    names = ", ".join(path.name for path in records)
    raise UserError(f"{folder}: holds " + (f"several records ({names})" if names else "no finished run (no record)"))


def seed_folders(folder: Path) -> list[Path]:
    """Return the folders seed_0, seed_1, ... in `folder`, in numeric order."""
    folders = [path for path in folder.glob("seed_*") if path.is_dir() and path.name[5:].isdigit()]
    return sorted(folders, key=lambda path: int(path.name[5:]))


def read_group(folder: Path, name: str) -> Group:
    """Return a single run, or the finished seeds of a folder of seeds, as a group."""
    seeds = seed_folders(folder)
    finished = [seed for seed in seeds if _records(seed)]
    if seeds and not finished:
        raise UserError(f"{folder}: no seed in it has finished")
    return Group(name, [read_run(seed) for seed in finished] or [read_run(folder)])


def read_groups(folders: Sequence[Path]) -> list[Group]:
    """Return the groups to compare. Raises UserError for fewer than two, and for runs of different scripts."""
    if len(folders) < 2:
        raise UserError("a comparison needs at least two runs; give their output folders")
    names = [folder.resolve().name for folder in folders]
    unique = len(set(names)) == len(names)
    groups = [
        read_group(path, name if unique else display_path(path)) for path, name in zip(folders, names, strict=True)
    ]
    first, *others = (run for group in groups for run in group.runs)
    for other in others:
        common, fewer = first.config.keys() & other.config.keys(), min(len(first.config), len(other.config))
        if other.script != first.script or 2 * len(common) < fewer:
            raise UserError(f"{first.folder} and {other.folder}: runs of different kinds cannot be compared")
    return groups


def settings_that_differ(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Return setting name to its value in each group, for settings that differ."""
    configs = [group.runs[0].config for group in groups]
    names = dict.fromkeys(name for config in configs for name in config)
    rows = {name: [str(config.get(name, "(not set)")) for config in configs] for name in names}
    return {
        name: row for name, row in rows.items() if len(set(row)) > 1 and name.split(".")[-1] not in IGNORED_SETTINGS
    }


def format_estimate(values: Sequence[float]) -> str:
    """Return a metric as text: the value of one run, or the interquartile mean of several with its interval."""
    if not values:
        return ""
    if len(set(values)) == 1:
        return f"{values[0]:.5g}"
    mean, low, high = estimate(values)
    return f"{mean:.5g} ({low:.5g} to {high:.5g})"


def format_metric(group: Group, metric: str) -> str:
    """Return a final metric of a group as text; if some runs lack it, with the number of those that have it."""
    values = group.values(metric)
    text = format_estimate(values)
    return f"{text}, {len(values)} of {len(group.runs)} seeds" if 0 < len(values) < len(group.runs) else text


def format_difference(group: Group, first: Group, metric: str) -> str:
    """Return the difference of `group` from `first` and whether it is significant; empty without several seeds.

    With very few seeds the interval is too narrow to tell.
    """
    values, others = group.values(metric), first.values(metric)
    if min(len(values), len(others)) < 2 or len({*values, *others}) == 1:
        return ""
    mean, low, high = estimate = difference(values, others)
    verdict = "significant" if estimate.excludes_zero() else "not significant"
    if min(len(values), len(others)) < MIN_SEEDS_FOR_CI:
        verdict = "too few seeds"
    return f"{mean:+.3g} ({low:+.3g} to {high:+.3g}): {verdict}"


def print_table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """Print a table whose rows start with their name."""
    table = Table(title=title, title_justify="left")
    for column in ("", *columns):
        table.add_column(escape(printable(column)), overflow="fold")
    for name, cells in rows.items():
        table.add_row(*(escape(printable(cell)) for cell in (name, *cells)))
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table)


def metrics_table(groups: Sequence[Group]) -> tuple[list[str], dict[str, list[str]]]:
    """Return columns and rows of the final metrics: every group, then the differences from the first."""
    several = all(len(group.runs) > 1 for group in groups)
    names = dict.fromkeys(name for group in groups for name in group.metrics())
    columns = [f"{group.name}{f', {len(group.runs)} seeds' if len(group.runs) > 1 else ''}" for group in groups]
    rows = {name: [format_metric(group, name) for group in groups] for name in names}
    if several:
        columns += [f"{group.name} minus {groups[0].name}" for group in groups[1:]]
        for name in names:
            rows[name] += [format_difference(group, groups[0], name) for group in groups[1:]]
    return columns, rows


def group_curve(group: Group, y: str) -> "Curve":
    """Return column `y` of a group as a curve: smoothed for a single run, mean with a band for several seeds."""
    from lab.plots import Curve, drawable

    lines = [_line(run, y) for run in group.runs]
    if len(lines) == 1:
        return Curve(drawable(group.name), *lines[0])
    end = min(float(x[-1]) for x, _ in lines)
    grid = np.linspace(max(float(x[0]) for x, _ in lines), end, CURVE_POINTS)
    mean, low, high = band([np.interp(grid, *line) for line in lines])
    return Curve(drawable(f"{group.name}, {len(lines)} seeds"), grid, mean, low, high)


def _line(run: Run, y: str) -> tuple[NDArray, NDArray]:
    from lab.plots import smooth

    columns = run.metrics
    if y not in columns:
        raise UserError(f"{run.folder / METRICS}: no column {y!r}; available: {', '.join(columns) or 'none'}")
    values = np.array(columns[y])
    is_measured = np.isfinite(values)
    if not is_measured.any():
        raise UserError(f"{run.folder / METRICS}: no values in column {y!r}")
    x = np.array(columns[x_column(columns)])[is_measured]
    return x, smooth(values[is_measured], max(is_measured.sum() // 20, 1))


def x_column(columns: Mapping[str, Any]) -> str:
    """Return the name of the column for the x axis."""
    return next((name for name in X_COLUMNS if name in columns), next(iter(columns)))


def draw(path: Path, groups: Sequence[Group], y: str | None) -> bool:
    """Plot all curves in one figure; return False if a run has no metrics.csv."""
    from lab.plots import draw_curves, drawable, new_figure, save_figure, symlog

    columns = [run.metrics for group in groups for run in group.runs]
    if not all(columns):
        return False
    common = set.intersection(*(set(each) for each in columns))
    y = y or next((name for name in DEFAULT_METRICS if name in common), None)
    if y is None:
        raise UserError(f"no column to plot; choose one with --y: {', '.join(sorted(common)) or 'no common columns'}")
    figure, (axes,) = new_figure()
    lines = [group_curve(group, y) for group in groups]
    draw_curves(axes, lines)
    values = np.concatenate([np.asarray(line.y) for line in lines])
    if values.max() < 0 and np.ptp(values) > 20:
        symlog(axes)
    x_label, y_label = (drawable(name.replace("_", " ")) for name in (x_column(columns[0]), y))
    axes.set(title=y_label, xlabel=x_label, ylabel=y_label)
    axes.legend()
    save_figure(figure, path)
    return True


def compare(folders: Sequence[Path], config: Compare) -> None:
    """Print the settings that differ and the final metrics, and plot the curves."""
    groups = read_groups(folders)
    plot_path = writable_folder(config.output_dir) / "compare.png"
    drawn = draw(plot_path, groups, config.y)
    settings = settings_that_differ(groups)
    if settings:
        print_table("Settings that differ", [group.name for group in groups], settings)
    else:
        print("The settings are the same except for seed and folder.")
    print_table("Final metrics", *metrics_table(groups))
    if any(len(group.runs) == 1 for group in groups):
        print("A single run cannot separate a real difference from chance; compare several seeds from `lab repeat`.")
    elif any(len(group.runs) < MIN_SEEDS_FOR_CI for group in groups):
        print(f"Intervals from fewer than {MIN_SEEDS_FOR_CI} seeds are too narrow.")
    print(f"wrote {display_path(plot_path)}" if drawn else f"no curves: not every run has a {METRICS}")
