"""The results of a training run: its table of metrics, and its learning curve with baselines."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controllers import inverse_kinematics_controller, random_policy
from environments import make_env, spec_of
from evaluation import evaluate_policy
from lab.files import ROOT
from lab.plots import learning_curve
from ppo import IterationRecord
from ppo_config import PPOConfig, config_to_file

EVALUATION_EPISODES = 100
CURVE_WINDOW = 5  # iterations of the running mean
REFERENCE_RUNS = ROOT / "benchmarks/results/ppo.json"  # benchmarks/ppo_reacher.py


def metrics_row(record: IterationRecord) -> dict[str, Any]:
    """Return one row of metrics.csv."""
    returns = record.episode_returns
    return {
        "iteration": record.iteration,
        "steps": record.steps,
        "mean_return": float(np.mean(returns)) if returns else "",
        "episodes": len(returns),
        "explained_variance": record.explained_variance,
        "learning_rate": record.learning_rate,
        **dataclasses.asdict(record.update),
    }


def baselines(env_id: str) -> dict[str, float]:
    """Return the reference lines of the curve: the environment's threshold and baseline policies.

    All policies are evaluated on the same held-out episodes.
    """
    lines = {}
    threshold = spec_of(env_id).reward_threshold
    if threshold is not None:
        lines["threshold"] = threshold
    if env_id == "Reacher-v5":
        controller = inverse_kinematics_controller()
        evaluation = evaluate_policy(controller, env_id, EVALUATION_EPISODES)
        lines["inverse kinematics + PD"] = float(evaluation.returns.mean())
    action_space: Any = make_env(env_id).action_space
    policy = random_policy(action_space, seed=0)
    evaluation = evaluate_policy(policy, env_id, EVALUATION_EPISODES)
    lines["random policy"] = float(evaluation.returns.mean())
    return lines


def reference_band(config: PPOConfig) -> tuple[NDArray, NDArray] | None:
    """Return the lowest and highest smoothed returns, (iterations,) each, over the reference runs.

    None unless these runs had the options of `config`; only their seeds differ.
    """
    if not REFERENCE_RUNS.exists():
        return None
    options = config_to_file(config)
    for run in json.loads(REFERENCE_RUNS.read_text(encoding="utf-8"))["runs"]:  # one per processor
        settings = run["settings"] | {"hidden_sizes": tuple(run["settings"]["hidden_sizes"])}
        irrelevant = {name: options[name] for name in ("seed", "device", "checkpoint_every")}
        if settings | irrelevant == options:
            return np.array(run["band"]["low"]), np.array(run["band"]["high"])
    return None


def draw_curve(
    path: Path,
    config: PPOConfig,
    rows: list[dict[str, Any]],
    lines: dict[str, float],
    final_return: float,
) -> None:
    """Draw the mean return per iteration, with baselines and the range over the reference runs.

    During training the policy explores. The return of the final policy without exploration,
    `final_return`, is a point at the end of the curve. If no episode ended, nothing is drawn.
    """
    rows_with_episodes = [row for row in rows if row["episodes"]]
    if not rows_with_episodes:
        return
    steps = [row["steps"] for row in rows_with_episodes]
    band = reference_band(config)
    final_label = f"final policy, deterministic ({final_return:.4g})"
    learning_curve(
        path,
        steps,
        [row["mean_return"] for row in rows_with_episodes],
        title=f"PPO on {config.env_id}",
        x_label="environment steps",
        y_label="mean return per episode",
        y_name="PPO while exploring",
        window=CURVE_WINDOW,
        reference_lines=lines,
        band=None if band is None else ("PPO, range over other seeds", *band),
        points=(final_label, [rows[-1]["steps"]], [final_return]),
        y_scale="symlog",
    )
