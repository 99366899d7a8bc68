"""How good is PPO in other libraries on the same task: learning curves, final returns, time to the threshold.

Every training runs in a process of its own on one thread, one after the other, the sides in turns. Now and then it
stops its clock and shows its deterministic policy the same episodes as all others; in the end it plays the held-out
ones. What was stopped goes on with the same command. `make bench-setup` makes the environment that has the peers.

"Our settings" are all of our defaults that the library knows: environments, steps, passes, minibatches, networks,
falling learning rate, discount, lambda, observations and rewards (or returns) normalised by the library. "The zoo's
settings" are those that rl-baselines3-zoo (hyperparams/ppo.yml) tuned for Reacher-v2.
"""

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

import lab.projects  # noqa: F401 - lets the projects' modules be found
from controllers import inverse_kinematics_controller, random_policy
from evaluation import evaluate_policy
from lab.errors import UserError, require_at_least
from lab.files import ROOT, display_path
from lab.intervals import estimate
from lab.launch import launch
from lab.record import environment_info
from lab.rows import ResumableResults
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
    """File for the figures; rows that it holds are not measured again."""
    seeds: int = 5
    """Training runs of every peer, with seeds 0, 1, ..."""
    our_seeds: int = 10
    """Training runs of ours."""
    num_iterations: int = 200
    """Length of a training, in our iterations of 2,048 steps."""
    episodes: int = 1000
    """Held-out episodes at the end."""
    curve_episodes: int = 200
    """Other held-out episodes at each of the curve's 20 points."""
    peers_python: Path = Path(sys.executable)
    """Python of an environment that has the peers."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "seeds", "our_seeds", "num_iterations", "episodes", "curve_episodes")


def run(side: str, seed: int, config: Config) -> dict[str, Any]:
    """One training in a process of its own; its row, or why there is none."""
    numbers = (seed, config.num_iterations, config.episodes, config.curve_episodes)
    threads = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}
    paths = os.pathsep.join([str(ROOT), *(str(path) for path in ROOT.glob("0*_*"))])
    python = sys.executable if side == OURS else str(config.peers_python)
    command = [python, str(WORKER), side, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads, "PYTHONPATH": paths})
    try:
        return {"side": side, "seed": seed} | json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        if done.returncode < 0:
            raise UserError(f"{side}: stopped by signal {-done.returncode}") from None
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"side": side, "seed": seed, "not_measured": reason}


def reached(row: dict[str, Any], threshold: float) -> tuple[float, float] | None:
    """Steps and seconds after which a training's curve first got to the threshold; None if it never did."""
    curve = row["curve"]
    points = zip(curve["steps"], curve["seconds"], curve["return"], strict=True)
    return next(((steps, seconds) for steps, seconds, value in points if value >= threshold), None)


def summary(rows: ResumableResults, threshold: float) -> list[dict[str, Any]]:
    """Every side with its interquartile mean and interval, time, and when (the median of those) it got to -3.75."""
    found = []
    for side in SIDES:
        own = [row for row in rows.find(side=side) if "return" in row]
        if not own:
            reasons = [row["not_measured"] for row in rows.contents.get("failed", ()) if row["side"] == side]
            found.append({"side": side, "not_measured": (reasons or ["no seed was run"])[-1]})
            continue
        times = [time for row in own if (time := reached(row, threshold))]
        steps, seconds = zip(*times, strict=True) if times else ((), ())
        found.append(
            {
                "side": side,
                "seeds": len(own),
                **estimate([row["return"] for row in own])._asdict(),
                "worst": min(row["return"] for row in own),
                "seconds": statistics.median(row["seconds"] for row in own),
                "reached": len(times),
                "steps_to_threshold": statistics.median(steps) if steps else None,
                "seconds_to_threshold": statistics.median(seconds) if seconds else None,
            }
        )
    return found


def baselines(episodes: int) -> dict[str, float]:
    """Mean returns without learning, on the held-out episodes."""
    space: Any = gym.make(ENV_ID).action_space
    policies = {"inverse kinematics + PD": inverse_kinematics_controller(), "random policy": random_policy(space, 0)}
    return {name: float(np.mean(evaluate_policy(p, ENV_ID, episodes).returns)) for name, p in policies.items()}


def main(config: Config) -> None:
    """Measure what is missing, print, write."""
    names = ("num_iterations", "episodes", "curve_episodes")
    settings = {name: getattr(config, name) for name in names} | {
        "steps": config.num_iterations * PPOConfig().steps_per_iter
    }
    rows = ResumableResults(config.output, settings)
    before = environment_info()
    failed: dict[str, dict[str, Any]] = {}
    for seed in range(max(config.seeds, config.our_seeds)):
        for side in SIDES:
            wanted = config.our_seeds if side == OURS else config.seeds
            if seed >= wanted or rows.find(side=side, seed=seed) or side in failed:
                continue
            row = run(side, seed, config)
            if "not_measured" in row:
                failed[side] = row
                print(f"{side}: not measured: {row['not_measured']}", flush=True)
                continue
            rows.add(row)
            print(f"{side}, seed {seed}: return {row['return']:.3f}, {row['seconds']:.1f} s", flush=True)
    lines = baselines(config.episodes)
    threshold = gym.spec(ENV_ID).reward_threshold
    assert threshold is not None
    rows.contents["failed"] = list(failed.values())
    found = summary(rows, threshold)
    rows.finish(
        sides=list(SIDES),
        threshold=threshold,
        baselines={"threshold": threshold, **lines},
        summary=found,
        circumstances=before,
    )
    for row in found:
        said = f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})" if "mean" in row else row["not_measured"]
        print(f"{row['side']:<40} {said}")
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
