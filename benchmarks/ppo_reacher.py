"""Return and wall time of our PPO: 20 seeds of its defaults, compared with a hand-written controller.

Every repetition first times one `gymnasium.make("Reacher-v5")` for as many steps as a training run takes, then trains
one seed and evaluates it on held-out episodes, the same for all seeds and for the controller. No setting was chosen by
looking at these seeds.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

import time
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

import lab.projects  # noqa: F401 - puts the projects on the search path
from agent import TrainedAgent
from controllers import inverse_kinematics_controller
from evaluation import evaluate_policy
from lab.errors import require_at_least
from lab.files import ROOT, writable_folder
from lab.intervals import estimate
from lab.launch import launch
from lab.plots import smooth
from lab.record import environment_info
from lab.results import Record, new_record, ratio_statistics, write_results
from ppo import train
from ppo_config import PPOConfig, config_to_file
from ppo_reports import CURVE_WINDOW

ENV_ID = "Reacher-v5"


@dataclass(frozen=True)
class Config:
    """Measure PPO's return and wall time on Reacher-v5."""

    output: Path = ROOT / "benchmarks/results/ppo.json"
    """Results file."""
    seeds: int = 20
    """Training runs."""
    first_seed: int = 7020
    """Seed of the first training run; the next has this one plus 1, and so on."""
    episodes: int = 1000
    """Held-out episodes per run."""
    num_iterations: int = 200
    """Training iterations per run."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "seeds", "episodes", "num_iterations")
        require_at_least(0, self, "first_seed")


def seconds_of_one_environment(steps: int) -> float:
    """Return the wall time of `steps` random steps in one Gymnasium environment, resets included."""
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
    """Return wall time in seconds without start-up, mean return of the final policy, and learning curve of a run."""
    started = time.perf_counter()
    *before, last = train(settings)
    seconds = time.perf_counter() - started
    policy = TrainedAgent(last.agent, settings, -torch.ones(2), torch.ones(2)).policy()
    curve = [float(np.mean(record.episode_returns)) for record in (*before, last)]
    return seconds, float(evaluate_policy(policy, ENV_ID, episodes).returns.mean()), smooth(curve, CURVE_WINDOW)


def main(config: Config) -> None:
    """Measure, print and write the results."""
    writable_folder(config.output.parent)
    torch.set_num_threads(1)
    environment = environment_info()
    controller = evaluate_policy(inverse_kinematics_controller(), ENV_ID, config.episodes).returns
    steps = config.num_iterations * PPOConfig().steps_per_iter
    records: list[Record] = []
    curves = []
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        baseline = seconds_of_one_environment(steps)
        settings = PPOConfig(seed=seed, num_iterations=config.num_iterations)
        seconds, mean_return, curve = train_and_evaluate(settings, config.episodes)
        curves.append(curve)
        values = {"seed": seed, "return": mean_return, "seconds": seconds, "one_environment_seconds": baseline}
        records.append(new_record(ENV_ID, "ours", environment, **values))
        relative = seconds / baseline
        line = f"return {mean_return:.3f}, {seconds:.1f} s, {relative:.2f} times one environment"
        print(f"seed {seed}: {line}", flush=True)
    rows = summary(records, float(controller.mean()))
    ours, pd = rows
    print(f"interquartile mean {ours['mean']:.3f}, worst {ours['worst']:.3f}; {pd['side']} {pd['mean']:.3f}")
    print(f"median wall time: {ours['median_ratio']:.2f} times {steps} steps of one environment")
    write_results(
        config.output,
        "ppo",
        records,
        settings=config_to_file(PPOConfig()),
        environment=environment,
        environment_steps=steps,
        episodes=config.episodes,
        ratio="wall time of a training run relative to one Gymnasium environment",
        summary=rows,
        band={"low": np.min(curves, axis=0).round(2).tolist(), "high": np.max(curves, axis=0).round(2).tolist()},
    )


def summary(records: list[Record], controller_return: float) -> list[Record]:
    """Return the interquartile mean over the seeds with its interval, and the return of the controller."""
    returns = [record["return"] for record in records]
    seconds = [record["seconds"] for record in records]
    baseline = [record["one_environment_seconds"] for record in records]
    ours = {"side": "ours", "seeds": len(records), **estimate(returns)._asdict(), "worst": min(returns)}
    return [ours | ratio_statistics(seconds, baseline), {"side": "inverse kinematics + PD", "mean": controller_return}]


if __name__ == "__main__":
    launch(Config, main)
