"""Wall time of our PPO for the same number of steps, compared with one environment and with other libraries.

Every side runs in its own process with one thread, warms up, and is then interleaved with the others chunk by chunk:
each chunk is compared with the chunk of the same round. "Our settings" are the number of environments, steps, epochs,
minibatches, learning rate, discount, lambda and network of our defaults.

The other libraries have their own virtual environment, since SBX needs JAX; a missing library is recorded as such:

    make bench-setup
    python benchmarks/ppo_speed.py --peers_python runs/peers/bin/python
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import require_at_least
from lab.files import ROOT, writable_folder
from lab.launch import launch
from lab.record import environment_info
from lab.results import new_record, ratio_statistics, write_results
from worker_process import WorkerProcess

SIDES = {  # name to target: the minimum wall time relative to ours
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
    """Results file."""
    chunks: int = 20
    """Rounds per side."""
    iterations: int = 10
    """Iterations of 2,048 steps per round; 20 rounds of 10 are a complete training run."""
    peers_python: Path = Path(sys.executable)
    """Python of an environment with the other libraries."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "chunks", "iterations")


class Side(WorkerProcess):
    """One side, in its own process that waits for the next round."""

    def __init__(self, name: str, python: Path, config: Config) -> None:
        flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}
        super().__init__(python, WORKER, name, config.chunks, config.iterations, OMP_NUM_THREADS="1", **flags)
        self.run_chunk()  # imports, compilation, first steps

    def run_chunk(self) -> float:
        """Run one chunk; return its seconds."""
        return self.ask("next chunk")


def main(config: Config) -> None:
    """Run all sides in interleaved rounds, print and write the results."""
    writable_folder(config.output.parent)
    packages = ("torch", "gymnasium", "mujoco", "numpy", "stable-baselines3", "sbx-rl", "jax")
    pythons = {name: config.peers_python if ", " in name else Path(sys.executable) for name in SIDES}
    environment = environment_info(("torch", "gymnasium", "mujoco", "numpy"))
    peer_packages = peer_versions(config.peers_python, packages)
    sides = {name: Side(name, python, config) for name, python in pythons.items() if has(python, name)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for chunk in range(config.chunks):
        for name, side in sides.items():
            seconds[name].append(side.run_chunk())
        line = ", ".join(f"{name} {times[-1]:.2f}" for name, times in seconds.items())
        print(f"round {chunk + 1}/{config.chunks}, seconds: {line}", flush=True)
    records = []
    for name, target in SIDES.items():
        measured_in = environment | {"packages": peer_packages} if ", " in name else environment
        values = record_values(seconds.get(name), seconds["ours"], target if name != "ours" else None)
        if name == "ours":
            values = {"seconds": seconds[name], "total_seconds": round(sum(seconds[name]), 3)}
        records.append(new_record("Reacher-v5", name, measured_in, **values))
        print(f"{name:<32} {values}")
    write_results(
        config.output,
        "ppo_speed",
        records,
        settings={"steps_per_turn": 2048 * config.iterations, "turns": config.chunks},
        environment=environment,
        ratio="wall time relative to ours",
    )


def has(python: Path, side: str) -> bool:
    """Return True if that Python has the library of a side; ours and the plain environment need only gymnasium."""
    library = "sbx" if side.startswith("SBX") else "stable_baselines3" if ", " in side else "gymnasium"
    return subprocess.run([python, "-c", f"import {library}"], capture_output=True).returncode == 0


def peer_versions(python: Path, packages: tuple[str, ...]) -> dict[str, str | None]:
    """Return the package versions in the environment of the other libraries."""
    code = f"import json; from lab.record import version; print(json.dumps({{p: version(p) for p in {packages!r}}}))"
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=variables)
    return json.loads(done.stdout) if done.returncode == 0 else dict.fromkeys(packages)


def record_values(times: list[float] | None, ours: list[float], target: float | None) -> dict[str, Any]:
    """Return the measured values of a side: seconds of every round, and the ratios to ours."""
    if times is None:
        return {"not_measured": "it is not installed (make bench-setup)"}
    return {
        "seconds": times,
        "total_seconds": round(sum(times), 3),
        **ratio_statistics(times, ours),
        "target": target,
    }


if __name__ == "__main__":
    launch(Config, main)
