"""How fast is our PPO: seconds for as many steps, beside one environment and beside the libraries that people use.

Every side lives in a process of its own on one thread, warms up, and then takes its turn, chunk by chunk, so that all
meet the same machine: what is compared is the time of a chunk with that of the same turn. "Our settings" are the
number of environments, steps, passes, minibatches, learning rate, discount, lambda and network of our defaults.

The peers live in an environment of their own, since SBX needs JAX; a side that is not installed says so in its row:

    make bench-setup
    python benchmarks/ppo_speed.py --peers_python runs/peers/bin/python
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.errors import UserError, require_at_least
from lab.files import ROOT, writable_folder, write_json
from lab.launch import launch
from lab.projects import FOLDERS
from lab.record import environment_info

SIDES = {  # and the bar: how many times as long as ours they must take at least
    "ours": None,
    "one environment": 1 / 1.2,
    "Stable-Baselines3, its defaults": 12,
    "Stable-Baselines3, our settings": 3,
    "SBX, our settings": 2,
}
WORKER = Path(__file__).with_name("ppo_speed_worker.py")


@dataclass(frozen=True)
class Config:
    """Compare the wall time of PPO on Reacher-v5."""

    output: Path = ROOT / "benchmarks/results/ppo_speed.json"
    """File for the figures."""
    chunks: int = 20
    """Turns of every side."""
    iterations: int = 10
    """Iterations of 2,048 steps a turn; 20 turns of 10 are a whole training."""
    peers_python: Path = Path(sys.executable)
    """Python of an environment that has the peers."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "chunks", "iterations")


class Side:
    """One side, in a process of its own that waits for its turn."""

    def __init__(self, name: str, python: Path, config: Config) -> None:
        threads = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}
        paths = os.pathsep.join(str(folder) for folder in (ROOT, *(ROOT / name for name in FOLDERS)))
        self.process = subprocess.Popen(
            [python, WORKER, name, str(config.chunks), str(config.iterations)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads, "PYTHONPATH": paths},
        )
        self.turn()  # imports, compilation, first steps

    def turn(self) -> float:
        """Let it run one chunk; the seconds that it took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print("go", file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise UserError(f"{' '.join(map(str, self.process.args))} ended before its time") from None  # pyright: ignore[reportArgumentType,reportCallIssue]


def main(config: Config) -> None:
    """Start all sides, let them take turns, print and write."""
    writable_folder(config.output.parent)
    before = environment_info(("torch", "gymnasium", "mujoco", "numpy", "stable-baselines3"))
    pythons = {name: config.peers_python if ", " in name else Path(sys.executable) for name in SIDES}
    sides = {name: Side(name, python, config) for name, python in pythons.items() if has(python, name)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for chunk in range(config.chunks):
        for name, side in sides.items():
            seconds[name].append(side.turn())
        shown = ", ".join(f"{name} {times[-1]:.2f}" for name, times in seconds.items())
        print(f"turn {chunk + 1}/{config.chunks}, seconds: {shown}", flush=True)
    rows = {name: summary(seconds.get(name), seconds["ours"], bar) for name, bar in SIDES.items()}
    for name, row in rows.items():
        print(f"{name:<32} {row}")
    steps = {"steps_per_turn": 2048 * config.iterations, "turns": config.chunks}
    write_json(config.output, {**steps, "sides": rows, "seconds": seconds, "circumstances": before})


def has(python: Path, side: str) -> bool:
    """Whether that Python has the library of a side (what ours and the bare environment need, every one has)."""
    library = "sbx" if side.startswith("SBX") else "stable_baselines3" if ", " in side else "gymnasium"
    return subprocess.run([python, "-c", f"import {library}"], capture_output=True).returncode == 0


def summary(times: list[float] | None, ours: list[float], bar: float | None) -> dict[str, float | str | None]:
    """How many times as long as ours a side took: in all, and the middle half of the turns."""
    if times is None:
        return {"not_measured": "it is not installed (make bench-setup)"}
    ratios = [theirs / own for theirs, own in zip(times, ours, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    figures = {"seconds": sum(times), "times_ours": sum(times) / sum(ours), "median": median, "low": low, "high": high}
    return {name: round(value, 3) for name, value in figures.items()} | {"bar": bar}


if __name__ == "__main__":
    launch(Config, main)
