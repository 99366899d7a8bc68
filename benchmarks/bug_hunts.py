"""Runs of the bug hunts: the lab's training with one wrong line, next to the same run without it, over several seeds.

The wrong line is put into the lab's code in this process only; it is the code of the file that a learner mends. If
interrupted, rerun the same command to resume. One plot per hunt is written next to the results.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

import functools
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bug_hunts_maze
import bug_hunts_reacher
import bug_hunts_text
import lab.projects  # noqa: F401 - puts the projects on the search path
from lab.errors import UserError, require_at_least
from lab.exercises.hunts import Hunt, find_hunt, hunts, starter
from lab.exercises.own import modules_of, originals
from lab.files import ROOT, display_path
from lab.launch import launch
from lab.plots import Curve, draw_curves, new_figure, save_figure
from lab.record import environment_info
from lab.results import ResumableResults, new_record

HEALTHY, BUGGY = "healthy", "with the wrong line"
MODULES = {  # whose function `run` does a run of a project
    "01_q_learning_maze": bug_hunts_maze,
    "02_transformer_basics": bug_hunts_text,
    "03_ppo_reacher": bug_hunts_reacher,
}


@dataclass(frozen=True)
class Config:
    """Measure the symptoms of the bug hunts."""

    output: Path = ROOT / "benchmarks/results/bug_hunts.json"
    """Results file; records that it already holds are not measured again."""
    seeds: int = 5
    """Runs per hunt and side, with seeds 0, 1, ..."""
    hunts: tuple[str, ...] = ()
    """Measure these alone; the results file and the plots are complete only with all. Default: all."""
    length: float = 1.0
    """Length of every run, as a fraction of its full length; the hunts need 1."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "seeds")
        if not 0 < self.length <= 1:
            raise UserError(f"--length is {self.length}; it must be above 0 and at most 1")
        for name in self.hunts:
            find_hunt(name)

    def chosen(self) -> list[Hunt]:
        """Return the hunts to measure."""
        return [hunt for hunt in hunts().values() if not self.hunts or hunt.name in self.hunts]


@contextmanager
def wrong_line(hunt: Hunt) -> Iterator[None]:
    """Put the function with the wrong line in the place of the lab's, during the block."""
    module = types.ModuleType(hunt.key)
    exec(compile(starter(hunt), hunt.key, "exec"), vars(module))
    wrong = getattr(module, hunt.defined)
    target = f"{hunt.source.relative_to(hunt.project).as_posix()}:{hunt.function}"
    replaced: list[tuple[Any, str, Any]] = []
    for original in originals(hunt.project, target):
        if "." in hunt.function:  # a method
            places = [(original, hunt.defined)]
        else:
            modules = [*modules_of(hunt.project), *MODULES.values()]
            places = [(each, name) for each in modules for name, value in vars(each).items() if value is original]
        replaced += [(owner, name, vars(owner)[name]) for owner, name in places]
    assert replaced, f"{target} is used nowhere"
    try:
        for owner, name, _ in replaced:
            setattr(owner, name, wrong)
        yield
    finally:
        for owner, name, value in replaced:
            setattr(owner, name, value)


def measure(hunt: Hunt, side: str, seed: int, length: float) -> dict[str, Any]:
    """Do one run of a hunt and return its curves and metrics."""
    module = MODULES[hunt.project.name]
    setting = hunt.name if hunt.name in module.SETTINGS else ""
    if side == HEALTHY:
        return healthy_run(module, setting, seed, length)
    with wrong_line(hunt):
        return module.run(setting, seed, length)


@functools.cache  # several hunts have the same setting
def healthy_run(module: Any, setting: str, seed: int, length: float) -> dict[str, Any]:
    """Do one run without a wrong line."""
    return module.run(setting, seed, length)


def draw(hunt: Hunt, results: ResumableResults, folder: Path) -> Path:
    """Draw the curves of a hunt, median and range over the seeds; return the file."""
    curves: list[Curve] = []
    for side in (HEALTHY, BUGGY):
        records = results.find(configuration=hunt.name, side=side)
        values = np.array([record[hunt.curve.key] for record in records])  # (seeds, points)
        median = np.median(values, axis=0)  # (points,)
        hidden = bool(curves) and np.array_equal(curves[0].y, median)  # one curve lies on the other
        name = f"{side}, {'the same' if hidden else 'median and range'}"
        curves.append(Curve(name, records[0]["x"], median, values.min(axis=0), values.max(axis=0)))
    figure, (axes,) = new_figure()
    draw_curves(axes, curves)
    seeds = len(results.find(configuration=hunt.name, side=HEALTHY))
    axes.set(title=f"Bug hunt {hunt.name}: {seeds} seeds", xlabel=hunt.x_label, ylabel=hunt.curve.label)
    axes.legend()
    path = folder / f"hunt_{hunt.name}.png"
    save_figure(figure, path)
    return path


def main(config: Config) -> None:
    """Measure the missing runs, write the results and the plots."""
    torch.set_num_threads(1)
    environment = environment_info()
    results = ResumableResults(config.output, "bug_hunts", {"length": config.length}, environment)
    for hunt in config.chosen():
        for seed in range(config.seeds):
            for side in (HEALTHY, BUGGY):
                if not results.find(configuration=hunt.name, side=side, seed=seed):
                    values = measure(hunt, side, seed, config.length)
                    results.add(new_record(hunt.name, side, environment, seed=seed, **values))
                    shown = ", ".join(f"{column.key} {values[column.key]:.4g}" for column in hunt.metrics)
                    print(f"{hunt.name}, seed {seed}, {side}: {shown}", flush=True)
    results.finish()
    for hunt in config.chosen():
        print(f"wrote {display_path(draw(hunt, results, config.output.parent))}")
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
