"""Runs of the bug hunts with the Reacher arm: returns in training, the critic, and the saved agent's evaluation."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lab.projects  # noqa: F401 - puts the projects on the search path
from agent import TrainedAgent, load_policy, save_agent
from evaluation import evaluate_policy
from lab.plots import smooth
from ppo import train
from ppo_config import PPOConfig

ENV_ID = "Reacher-v5"
EVERY = 4  # iterations per point of the curves
EPISODES = 200  # held out
DEFAULTS = PPOConfig(num_iterations=80)
SETTINGS = {"": DEFAULTS, "wild_arm": dataclasses.replace(DEFAULTS, initial_log_std=1.0, num_epochs=3)}


def run(setting: str, seed: int, length: float) -> dict[str, Any]:
    """Return the curves and metrics of one run."""
    iterations = max(int(SETTINGS[setting].num_iterations * length), EVERY)
    config = dataclasses.replace(SETTINGS[setting], seed=seed, num_iterations=iterations)
    returns: list[float] = []
    explained: list[float] = []
    clipped: list[float] = []
    *before, last = train(config)
    for record in (*before, last):
        returns.append(float(np.mean(record.episode_returns)))
        explained.append(record.explained_variance)
        clipped.append(record.update.clip_fraction)
    points = range(EVERY - 1, iterations, EVERY)
    return {
        "x": [iteration + 1 for iteration in points],
        "training_return": smooth(returns, EVERY)[list(points)].round(3).tolist(),
        "explained_variance": float(np.mean(explained[-iterations // 4 :])),
        "clipped_percent": 100 * float(np.mean(clipped)),
        "deviation": float(last.agent.policy.log_std.detach().exp().mean()),
        "evaluation_return": evaluated(TrainedAgent(last.agent, config, -torch.ones(2), torch.ones(2))),
    }


def evaluated(trained: TrainedAgent) -> float:
    """Return the mean return of an agent on held-out episodes, after it was saved to a file and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.pth"
        save_agent(path, trained)
        return float(evaluate_policy(load_policy(path), ENV_ID, EPISODES).returns.mean())
