"""PPO of other libraries on the same task: learning curves, final returns, time to the threshold.

Every training run has its own process with one thread; runs are sequential, with the sides interleaved. At 20 points
the clock is paused and the deterministic policy is evaluated on the same episodes for all sides, at the end on held-out
episodes. If interrupted, rerun the same command to resume. `make bench-setup` installs the other libraries.

"Our settings" are all of our defaults that the library supports: environments, steps, epochs, minibatches, networks,
annealed learning rate, discount, lambda, observations and rewards (or returns) normalized by the library. "The zoo's
settings" are those that rl-baselines3-zoo (hyperparams/ppo.yml) tuned for Reacher-v2.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import lab.projects  # noqa: F401 - puts the projects on the search path
from controllers import inverse_kinematics_controller, random_policy
from evaluation import evaluate_policy
from lab.errors import UserError, require_at_least
from lab.files import ROOT, display_path
from lab.intervals import estimate
from lab.launch import launch
from lab.record import environment_info
from lab.results import Record, ResumableResults, new_record
from ppo_config import PPOConfig

ENV_ID = "Reacher-v5"
WORKER = Path(__file__).with_name("ppo_peers_worker.py")
OURS = "ours"
SIDES = (
    OURS,
    "Stable-Baselines3, its defaults",
    "Stable-Baselines3, the zoo's settings",
    "Stable-Baselines3, our settings",
    "SBX, its defaults",
    "SBX, our settings",
    "skrl, our settings",
    "Tianshou, our settings",
)


@dataclass(frozen=True)
class Config:
    """Compare the learning of PPO implementations on Reacher-v5."""

    output: Path = ROOT / "benchmarks/results/ppo_peers.json"
    """Results file; records that it already holds are not measured again."""
    seeds: int = 5
    """Training runs per library, with seeds 0, 1, ..."""
    our_seeds: int = 10
    """Training runs of our PPO."""
    num_iterations: int = 200
    """Length of a run, in iterations of 2,048 steps."""
    episodes: int = 1000
    """Held-out episodes after training."""
    curve_episodes: int = 200
    """Separate held-out episodes at each of the 20 points of the learning curve."""
    peers_python: Path = Path(sys.executable)
    """Python of an environment with the other libraries."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "seeds", "our_seeds", "num_iterations", "episodes", "curve_episodes")


def run(side: str, seed: int, config: Config) -> dict[str, Any]:
    """Run one training in its own process; return what it measured, or the reason that it could not run."""
    numbers = (seed, config.num_iterations, config.episodes, config.curve_episodes)
    threads = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}
    paths = os.pathsep.join([str(ROOT), *(str(path) for path in ROOT.glob("0*_*"))])
    python = sys.executable if side == OURS else str(config.peers_python)
    command = [python, str(WORKER), side, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads, "PYTHONPATH": paths})
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        if done.returncode < 0:
            raise UserError(f"{side}: stopped by signal {-done.returncode}") from None
        reason = (done.stderr.strip().splitlines() or ["no error message"])[-1]
        return {"not_measured": reason}


def time_to_threshold(record: Record, threshold: float) -> tuple[float, float] | None:
    """Return the steps and seconds at which a learning curve first reaches the threshold; None if it never does."""
    points = zip(record["curve_steps"], record["curve_seconds"], record["curve_return"], strict=True)
    return next(((steps, seconds) for steps, seconds, value in points if value >= threshold), None)


def summary(results: ResumableResults, threshold: float) -> list[Record]:
    """Return return, wall time, and median steps and seconds to the threshold of every side."""
    rows = []
    for side in SIDES:
        own = results.find(side=side)
        if not own:
            reasons = [row["not_measured"] for row in results.run.get("failed", ()) if row["side"] == side]
            rows.append({"side": side, "not_measured": (reasons or ["no seed was run"])[-1]})
            continue
        times = [time for record in own if (time := time_to_threshold(record, threshold))]
        steps, seconds = zip(*times, strict=True) if times else ((), ())
        rows.append(
            {
                "side": side,
                "seeds": len(own),
                **estimate([record["return"] for record in own])._asdict(),
                "worst": min(record["return"] for record in own),
                "seconds": statistics.median(record["seconds"] for record in own),
                "reached": len(times),
                "steps_to_threshold": statistics.median(steps) if steps else None,
                "seconds_to_threshold": statistics.median(seconds) if seconds else None,
            }
        )
    return rows


def baselines(episodes: int) -> dict[str, float]:
    """Return the mean returns of the baseline policies on the held-out episodes."""
    space: Any = gym.make(ENV_ID).action_space
    policies = {"inverse kinematics + PD": inverse_kinematics_controller(), "random policy": random_policy(space, 0)}
    return {name: float(np.mean(evaluate_policy(p, ENV_ID, episodes).returns)) for name, p in policies.items()}


def main(config: Config) -> None:
    """Measure the missing runs, print and write the results."""
    names = ("num_iterations", "episodes", "curve_episodes")
    steps = config.num_iterations * PPOConfig().steps_per_iter
    settings = {name: getattr(config, name) for name in names} | {"steps": steps}
    environment = environment_info()
    results = ResumableResults(config.output, "ppo_peers", settings, environment)
    failed: dict[str, Record] = {}
    for seed in range(max(config.seeds, config.our_seeds)):
        for side in SIDES:
            seeds = config.our_seeds if side == OURS else config.seeds
            if seed >= seeds or results.find(side=side, seed=seed) or side in failed:
                continue
            values = run(side, seed, config)
            if "not_measured" in values:
                failed[side] = {"side": side, "seed": seed, **values}
                print(f"{side}: not measured: {values['not_measured']}", flush=True)
                continue
            versions = environment | {"packages": values.pop("packages")}
            results.add(new_record(ENV_ID, side, versions, seed=seed, **values))
            print(f"{side}, seed {seed}: return {values['return']:.3f}, {values['seconds']:.1f} s", flush=True)
    threshold = gym.spec(ENV_ID).reward_threshold
    assert threshold is not None
    results.run["failed"] = list(failed.values())
    rows = summary(results, threshold)
    lines = {"threshold": threshold, **baselines(config.episodes)}
    results.finish(threshold=threshold, baselines=lines, summary=rows)
    for row in rows:
        line = f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})" if "mean" in row else row["not_measured"]
        print(f"{row['side']:<40} {line}")
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
