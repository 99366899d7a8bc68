"""What a training run leaves behind: the table of its iterations, and the curve beside what is to be expected."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from controllers import inverse_kinematics_controller, random_policy
from environments import spec_of
from evaluate import evaluate_policy
from lab.files import ROOT
from lab.plots import learning_curve
from ppo import IterationRecord, PPOConfig

EVALUATION_EPISODES = 100
CURVE_WINDOW = 5  # iterations that the curve is smoothed over
MEASURED_RUNS = ROOT / "benchmarks/results/ppo.json"  # ten seeds of the defaults; benchmarks/ppo_reacher.py writes it


def metrics_row(record: IterationRecord) -> dict[str, Any]:
    """One line of metrics.csv."""
    return {
        "iteration": record.iteration,
        "steps": record.steps,
        "mean_return": float(np.mean(record.episode_returns)) if record.episode_returns else "",
        "episodes": len(record.episode_returns),
        "explained_variance": record.explained_variance,
        "learning_rate": record.learning_rate,
        **dataclasses.asdict(record.update),
    }


def baselines(env_id: str) -> dict[str, float]:
    """Lines to compare the curve with: the environment's threshold, and mean returns measured on the same episodes."""
    action_space: Any = gym.make(env_id).action_space
    threshold = spec_of(env_id).reward_threshold
    lines = {} if threshold is None else {"threshold": threshold}
    if env_id == "Reacher-v5":
        controller = evaluate_policy(inverse_kinematics_controller(), env_id, EVALUATION_EPISODES)
        lines["inverse kinematics + PD"] = float(controller.returns.mean())
    dice = evaluate_policy(random_policy(action_space, seed=0), env_id, EVALUATION_EPISODES)
    return lines | {"random policy": float(dice.returns.mean())}


def normal_band(config: PPOConfig) -> tuple[NDArray, NDArray] | None:
    """The lowest and the highest (iterations,) of the smoothed curves of the measured runs, which differ in their seed
    alone; None where none were measured with the settings of this run."""
    if not MEASURED_RUNS.exists():
        return None
    measured = json.loads(MEASURED_RUNS.read_text(encoding="utf-8"))
    same_run = {"seed": config.seed, "device": config.device, "checkpoint_every": config.checkpoint_every}
    settings = {**measured["settings"], **same_run, "hidden_sizes": tuple(measured["settings"]["hidden_sizes"])}
    if settings != dataclasses.asdict(config):
        return None
    return np.array(measured["band"]["low"]), np.array(measured["band"]["high"])


def draw_curve(path: Path, config: PPOConfig, rows: list[dict[str, Any]], lines: dict[str, float]) -> None:
    """Mean return of the episodes that ended in each iteration, beside the baselines and what other seeds gave."""
    ended = [row for row in rows if row["episodes"]]
    if not ended:
        return
    band = normal_band(config)
    learning_curve(
        path,
        [row["steps"] for row in ended],
        [row["mean_return"] for row in ended],
        title=f"PPO on {config.env_id}",
        x_label="environment steps",
        y_label="return of an episode (while exploring)",
        y_name="PPO",
        window=CURVE_WINDOW,
        reference_lines=lines,
        band=None if band is None else ("ten seeds, lowest to highest", *band),
        y_scale="symlog",
    )
