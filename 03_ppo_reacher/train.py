"""Train PPO on a continuous-control task: flags, watchers, files.

python train.py                                                # Reacher-v5, 409,600 steps
python train.py --num_iterations 200 --steps_per_iter 2048     # the same, spelled out
"""

import csv
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from controllers import inverse_kinematics_controller, random_policy
from evaluate import SavedAgent, check_return, evaluate_policy, save_agent
from lab.errors import UserError
from lab.files import atomic
from lab.launch import launch
from lab.plots import learning_curve
from lab.progress import watch
from lab.record import RunRecord
from ppo import IterationRecord, PPOConfig, train

EVALUATION_EPISODES = 100


@dataclass(frozen=True)
class Config:
    """Train a PPO agent."""

    ppo: PPOConfig = field(default_factory=PPOConfig)
    """The algorithm."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the model, the curve and the records; each file is replaced only when the new one is whole."""
    num_threads: int = 1
    """Threads that PyTorch uses; with networks this small a second one costs more than it brings."""

    def __post_init__(self) -> None:
        if self.num_threads < 1:
            raise UserError(f"--num_threads is {self.num_threads}; it must be at least 1")


def describe(record: IterationRecord) -> str:
    """The numbers that matter while training, in one line."""
    returns = f"{np.mean(record.episode_returns):8.2f}" if record.episode_returns else "   (no episode ended)"
    return (
        f"return {returns}  KL {record.update.approx_kl:.4f}  clipped {record.update.clip_fraction:.0%}  "
        f"explained variance {record.explained_variance:.2f}"
    )


def metrics_row(record: IterationRecord) -> dict[str, Any]:
    """One line of metrics.csv."""
    return {
        "iteration": record.iteration,
        "steps": record.steps,
        "mean_return": np.mean(record.episode_returns) if record.episode_returns else "",
        "episodes": len(record.episode_returns),
        "explained_variance": record.explained_variance,
        "learning_rate": record.learning_rate,
        **dataclasses.asdict(record.update),
    }


def write_metrics(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write the rows as CSV with a header."""
    rows = list(rows)
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def baselines(env_id: str, action_space: gym.spaces.Box) -> dict[str, float]:
    """Lines to compare the curve with: the environment's threshold, and mean returns measured on the same episodes."""
    threshold = gym.spec(env_id).reward_threshold
    lines = {} if threshold is None else {"threshold": threshold}
    if env_id == "Reacher-v5":
        controller = evaluate_policy(inverse_kinematics_controller(), env_id, EVALUATION_EPISODES)
        lines["inverse kinematics + PD"] = float(controller.returns.mean())
    dice = evaluate_policy(random_policy(action_space, seed=0), env_id, EVALUATION_EPISODES)
    return lines | {"random policy": float(dice.returns.mean())}


def draw_curve(path: Path, env_id: str, rows: list[dict[str, Any]], lines: dict[str, float]) -> None:
    """Mean return of the episodes that ended in each iteration, beside the baselines."""
    ended = [row for row in rows if row["episodes"]]
    if not ended:
        return
    learning_curve(
        path,
        [row["steps"] for row in ended],
        [row["mean_return"] for row in ended],
        title=f"PPO on {env_id}",
        x_label="environment steps",
        y_label="return of an episode (while exploring)",
        y_name="PPO",
        window=5,
        reference_lines=lines,
        y_scale="symlog",
    )


def main(config: Config) -> None:
    """Train, then measure the deterministic policy on episodes of their own, then save."""
    torch.set_num_threads(config.num_threads)
    record = RunRecord(__file__, config.output_dir, config)
    rows, agent = [], None
    for iteration in watch(train(config.ppo), config.ppo.num_iterations, "iteration", describe):
        rows.append(metrics_row(iteration))
        agent = iteration.agent
    assert agent is not None
    env_id = config.ppo.env_id
    action_space: Any = gym.make(env_id).action_space
    save_agent(record.file("trained_model.pth"), agent, config.ppo, action_space)
    write_metrics(record.file("metrics.csv"), rows)
    lines = baselines(env_id, action_space)
    draw_curve(record.file("training_reward_curve.png"), env_id, rows, lines)
    saved = SavedAgent(agent, config.ppo, torch.as_tensor(action_space.low), torch.as_tensor(action_space.high))
    summary = evaluate_policy(saved.policy(), env_id, EVALUATION_EPISODES).summary()
    record.results = {"evaluation": summary, "baselines": lines}
    check_return(record, env_id, summary["mean_return"])
    record.save()


if __name__ == "__main__":
    launch(Config, main)
