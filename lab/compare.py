"""Runs side by side: what differs in their settings, what came of them, and their curves in one plot.

A run is the folder that a script wrote: `<script>.json`, the record, and `metrics.csv` where the script has a curve to
show. A folder of several seeds (`lab repeat`) holds such folders as seed_0, seed_1, ...; then differences come with a
95% interval, and it can be told whether they are more than noise.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.errors import UserError
from lab.files import ROOT, display_path, read_text, writable_folder
from lab.intervals import band, difference, estimate
from lab.metrics import METRICS, read_metrics
from lab.plots import Curve, draw_curves, drawable, new_figure, save_figure, smooth, symlog

POSITIONS = (
    "steps",
    "step",
    "iteration",
    "episode",
    "round",
    "epoch",
)  # what curves are drawn against
HEADLINES = ("mean_return", "total_reward", "validation_loss", "accuracy", "start_value", "loss")  # and that it shows
OF_THE_RUN = ("seed", "output_dir", "resume")  # settings in which runs of one kind may always differ
FEW = 5  # seeds; of fewer, the bootstrap draws too few different samples
POINTS = 200  # at which the curves of several seeds are put together


@dataclass(frozen=True)
class Compare:
    """Lay runs side by side: settings that differ, final figures, curves."""

    output_dir: Path = ROOT / "runs/compare"
    """Folder for compare.png."""
    y: str | None = None
    """Column of metrics.csv to draw. Default: the return, the reward, or the loss."""


@dataclass(frozen=True)
class Run:
    """What one run left: settings and numbers, nested names joined by dots, and the columns of metrics.csv."""

    folder: Path
    script: str
    config: dict[str, Any]
    figures: dict[str, float]
    metrics: dict[str, list[float]]


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone; often just one."""

    name: str
    runs: list[Run]

    def values(self, figure: str) -> list[float]:
        """A figure of every run that has it."""
        return [run.figures[figure] for run in self.runs if figure in run.figures]


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, the names joined by dots."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        found |= flat(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {prefix + name: item}
    return found


def read_run(folder: Path) -> Run:
    """The run in a folder. Raises UserError or OSError, naming the file, where there is none or it is damaged."""
    path = _record_of(folder)
    try:
        record = json.loads(read_text(path))
        shown = {figure["name"]: figure["value"] for figure in record["figures"]}
        numbers = {**shown, **flat(record["results"]), "seconds": record["seconds"]}
        script, config = record["script"], flat(record["config"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged, or not the record of a run ({type(error).__name__}: {error})") from None
    figures = {name: float(n) for name, n in numbers.items() if isinstance(n, (int, float))}
    metrics = read_metrics(folder / METRICS) if (folder / METRICS).is_file() else {}
    return Run(folder, script, config, figures, metrics)


def _records(folder: Path) -> list[Path]:
    """All records of runs in a folder, by what they begin with."""
    return [path for path in sorted(folder.glob("*.json")) if re.match(r'\{\s*"script":', read_text(path))]


def _record_of(folder: Path) -> Path:
    """The record in a folder; among several, that of a training."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the --output_dir of a run")
    records = _records(folder)
    trainings = [path for path in records if path.stem.startswith("train")]
    if len(trainings or records) == 1:
        return (trainings or records)[0]
    names = ", ".join(path.name for path in records)
    raise UserError(f"{folder}: holds " + (f"several records ({names})" if names else "no finished run (no record)"))


def seed_folders(folder: Path) -> list[Path]:
    """Folders seed_0, seed_1, ... in `folder`, by number."""
    found = [path for path in folder.glob("seed_*") if path.is_dir() and path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def read_group(folder: Path, name: str) -> Group:
    """A run, or a folder of seeds: those that have finished."""
    seeds = seed_folders(folder)
    finished = [seed for seed in seeds if _records(seed)]
    if seeds and not finished:
        raise UserError(f"{folder}: no seed in it has finished")
    return Group(name, [read_run(seed) for seed in finished] or [read_run(folder)])


def read_groups(folders: Sequence[Path]) -> list[Group]:
    """All that is to be compared. Raises UserError for fewer than two, and for runs of different kinds."""
    if len(folders) < 2:
        raise UserError("two runs at least are needed for a comparison; name their output folders")
    names = [folder.resolve().name for folder in folders]
    unique = len(set(names)) == len(names)
    groups = [
        read_group(path, name if unique else display_path(path)) for path, name in zip(folders, names, strict=True)
    ]
    first, *others = (run for group in groups for run in group.runs)
    for other in others:
        common, fewer = first.config.keys() & other.config.keys(), min(len(first.config), len(other.config))
        if other.script != first.script or 2 * len(common) < fewer:
            raise UserError(f"{first.folder} and {other.folder}: runs of different kinds; compare like with like")
    return groups


def settings_that_differ(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Setting to its value in each group, for those that are not the same everywhere."""
    configs = [group.runs[0].config for group in groups]
    names = dict.fromkeys(name for config in configs for name in config)
    rows = {name: [str(config.get(name, "(has none)")) for config in configs] for name in names}
    return {name: row for name, row in rows.items() if len(set(row)) > 1 and name.split(".")[-1] not in OF_THE_RUN}


def shown(values: Sequence[float]) -> str:
    """A figure as text: the value of one run, or the interquartile mean of several with its interval."""
    if not values:
        return ""
    if len(set(values)) == 1:
        return f"{values[0]:.5g}"
    mean, low, high = estimate(values)
    return f"{mean:.5g} ({low:.5g} to {high:.5g})"


def compared(group: Group, first: Group, figure: str) -> str:
    """How far `group` lies from the first one, and whether that is more than noise; nothing without several seeds."""
    values, others = group.values(figure), first.values(figure)
    if min(len(values), len(others)) < 2 or len({*values, *others}) == 1:
        return ""
    found = difference(values, others)
    verdict = "more than noise" if found.excludes_zero() else "may be noise"
    return f"{found.mean:+.3g} ({found.low:+.3g} to {found.high:+.3g}): {verdict}"


def print_table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """A table with a name in front of every row."""
    table = Table(title=title, title_justify="left")
    for column in ("", *columns):
        table.add_column(escape(column), overflow="fold")
    for name, cells in rows.items():
        table.add_row(*(escape(cell) for cell in (name, *cells)))
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table)


def figures_table(groups: Sequence[Group]) -> tuple[list[str], dict[str, list[str]]]:
    """Columns and rows of the final figures: every group, then how the others differ from the first."""
    several = all(len(group.runs) > 1 for group in groups)
    names = dict.fromkeys(name for group in groups for name in group.runs[0].figures)
    columns = [f"{group.name}{f', {len(group.runs)} seeds' if len(group.runs) > 1 else ''}" for group in groups]
    rows = {name: [shown(group.values(name)) for group in groups] for name in names}
    if several:
        columns += [f"{group.name} less {groups[0].name}" for group in groups[1:]]
        for name in names:
            rows[name] += [compared(group, groups[0], name) for group in groups[1:]]
    return columns, rows


def curve(group: Group, y: str) -> Curve:
    """Column `y` of a group against its position: the run's own (smoothed), or the seeds' mean with its band."""
    lines = [_line(run, y) for run in group.runs]
    if len(lines) == 1:
        return Curve(drawable(group.name), *lines[0])
    end = min(float(x[-1]) for x, _ in lines)
    grid = np.linspace(max(float(x[0]) for x, _ in lines), end, POINTS)
    mean, low, high = band([np.interp(grid, *line) for line in lines])
    return Curve(drawable(f"{group.name}, {len(lines)} seeds"), grid, mean, low, high)


def _line(run: Run, y: str) -> tuple[NDArray, NDArray]:
    columns = run.metrics
    if y not in columns:
        raise UserError(f"{run.folder / METRICS}: no column {y!r}; there are {', '.join(columns) or 'none'}")
    values = np.array(columns[y])
    measured = np.isfinite(values)
    if not measured.any():
        raise UserError(f"{run.folder / METRICS}: nothing in column {y!r}")
    x = np.array(columns[position(columns)])[measured]
    return x, smooth(values[measured], max(measured.sum() // 20, 1))


def position(columns: Mapping[str, Any]) -> str:
    """The column that a curve is drawn against."""
    return next((name for name in POSITIONS if name in columns), next(iter(columns)))


def draw(path: Path, groups: Sequence[Group], y: str | None) -> bool:
    """Draw all curves into one plot; False where a run has no metrics.csv."""
    columns = [run.metrics for group in groups for run in group.runs]
    if not all(columns):
        return False
    common = set.intersection(*(set(found) for found in columns))
    y = y or next((name for name in HEADLINES if name in common), None)
    if y is None:
        raise UserError(f"no column to draw; choose one by --y: {', '.join(sorted(common)) or 'they share none'}")
    figure, (axes,) = new_figure()
    lines = [curve(group, y) for group in groups]
    draw_curves(axes, lines)
    values = np.concatenate([np.asarray(line.y) for line in lines])
    if values.max() < 0 and np.ptp(values) > 20:
        symlog(axes)
    axes.set(title=y.replace("_", " "), xlabel=position(columns[0]).replace("_", " "), ylabel=y.replace("_", " "))
    axes.legend()
    save_figure(figure, path)
    return True


def compare(folders: Sequence[Path], config: Compare) -> None:
    """Print what differs and what came of it, and draw the curves."""
    groups = read_groups(folders)
    picture = writable_folder(config.output_dir) / "compare.png"
    drawn = draw(picture, groups, config.y)
    settings = settings_that_differ(groups)
    if settings:
        print_table("Settings that differ", [group.name for group in groups], settings)
    else:
        print("The settings are the same, but for seed and folder.")
    print_table("Final figures", *figures_table(groups))
    if any(len(group.runs) == 1 for group in groups):
        print("One run cannot tell a difference from luck; `lab repeat` makes a folder of seeds to compare.")
    elif any(len(group.runs) < FEW for group in groups):
        print(f"Intervals from fewer than {FEW} seeds are narrower than they should be.")
    print(f"wrote {display_path(picture)}" if drawn else f"no curves: a run has no {METRICS}")
