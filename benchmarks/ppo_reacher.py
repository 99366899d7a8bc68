"""How good and how fast is our PPO: ten seeds of its defaults, beside a hand-written controller and one environment.

Every repetition times one `gymnasium.make("Reacher-v5")` over as many steps as a training takes, then trains one seed
and evaluates it on held-out episodes, the same for all seeds and for inverse kinematics + PD.
"""

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

import lab.projects  # noqa: F401 - lets the projects' modules be found
from agent import TrainedAgent
from controllers import inverse_kinematics_controller
from evaluation import evaluate_policy
from lab.errors import require_at_least
from lab.files import ROOT, writable_folder, write_json
from lab.intervals import estimate
from lab.launch import launch
from lab.plots import smooth
from lab.record import environment_info
from ppo import train
from ppo_config import PPOConfig, config_to_file
from ppo_reports import CURVE_WINDOW

ENV_ID = "Reacher-v5"


@dataclass(frozen=True)
class Config:
    """Measure PPO's return and wall time on Reacher-v5."""

    output: Path = ROOT / "benchmarks/results/ppo.json"
    """File for the figures."""
    seeds: int = 10
    """Training runs, with seeds 0, 1, ..."""
    episodes: int = 1000
    """Held-out episodes for each."""
    num_iterations: int = 200
    """Iterations of a training."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "seeds", "episodes", "num_iterations")


def seconds_of_one_environment(steps: int) -> float:
    """Wall time of `steps` random steps in one environment of Gymnasium's, resets included."""
    env = gym.make(ENV_ID)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 2)).astype(np.float32)
    started = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return time.perf_counter() - started


def train_and_evaluate(settings: PPOConfig, episodes: int) -> tuple[float, float, NDArray]:
    """Wall time of a training in seconds, start-up excluded, the mean return of its policy, and its learning curve."""
    started = time.perf_counter()
    *before, last = train(settings)
    seconds = time.perf_counter() - started
    policy = TrainedAgent(last.agent, settings, -torch.ones(2), torch.ones(2)).policy()
    curve = [float(np.mean(record.episode_returns)) for record in (*before, last)]
    return seconds, float(evaluate_policy(policy, ENV_ID, episodes).returns.mean()), smooth(curve, CURVE_WINDOW)


def main(config: Config) -> None:
    """Measure, print, write."""
    writable_folder(config.output.parent)
    torch.set_num_threads(1)
    before = environment_info()
    controller = evaluate_policy(inverse_kinematics_controller(), ENV_ID, config.episodes).returns
    steps = config.num_iterations * PPOConfig().steps_per_iter
    rows: list[dict[str, Any]] = []
    curves = []
    for seed in range(config.seeds):
        one_environment = seconds_of_one_environment(steps)
        settings = PPOConfig(seed=seed, num_iterations=config.num_iterations)
        seconds, mean_return, curve = train_and_evaluate(settings, config.episodes)
        curves.append(curve)
        ratio = seconds / one_environment
        rows.append({"seed": seed, "return": mean_return, "seconds": seconds, "one_environment": one_environment})
        print(f"seed {seed}: return {mean_return:.3f}, {seconds:.1f} s, {ratio:.2f} times one environment", flush=True)
    returns = [row["return"] for row in rows]
    ratio = statistics.median(row["seconds"] / row["one_environment"] for row in rows)
    (mean, *ends), pd = estimate(returns), float(controller.mean())
    print(f"interquartile mean {mean:.3f}, worst {min(returns):.3f}; inverse kinematics + PD {pd:.3f}")
    print(f"median time: {ratio:.2f} times one environment's {steps} steps")
    result = {
        "environment_steps": steps,
        "episodes": config.episodes,
        "interquartile_mean_return": mean,
        "interval_95": ends,
        "worst_return": min(returns),
        "controller_return": pd,
        "median_seconds_over_one_environment": ratio,
        "runs": rows,
        "settings": asdict(config_to_file(PPOConfig())),
        "band": {"low": np.min(curves, axis=0).round(2).tolist(), "high": np.max(curves, axis=0).round(2).tolist()},
        "circumstances": before,
    }
    write_json(config.output, result)


if __name__ == "__main__":
    launch(Config, main)
