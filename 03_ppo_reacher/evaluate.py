"""How good is a trained policy? Deterministic actions, every episode counted, seeds that no training run uses.

python evaluate.py --model_path results/trained_model.pth --save_gif
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from controllers import Policy
from environments import make_envs, spec_of, true_next_observations
from lab.animations import save_gif, save_video
from lab.checkpoints import load_checkpoint, save_checkpoint
from lab.errors import UserError, require_at_least
from lab.launch import launch
from lab.record import RunRecord
from lab.rendering import prepare_rendering
from lab.seeding import check_seed
from ppo import Agent, PPOConfig, make_agent
from reacher_drawing import film_episodes, show_episodes

KIND = "a PPO policy"
NORMAL_RETURN = {"Reacher-v5": -4.1}  # what a run with the default settings stays above, whatever its seed
FILMED_EPISODES, EVERY_NTH_FRAME = 4, 2
HELD_OUT_SEED = 1_000_000  # training resets with seeds that start at --seed; evaluation stays clear of them


@dataclass(frozen=True)
class Config:
    """Measure a trained policy on episodes of its environment."""

    model_path: Path = Path(__file__).parent / "results/trained_model.pth"
    """Checkpoint that train.py wrote."""
    episodes: int = 100
    """Episodes to run."""
    seed: int = HELD_OUT_SEED
    """Episode i starts from a reset with seed + i."""
    save_gif: bool = False
    """Write trained_agent.gif beside the model."""
    record_video: bool = False
    """Write trained_agent.mp4 beside the model."""
    render: Literal["human"] | None = None
    """human: then show the episodes in a window, in real time."""
    json: bool = False
    """End with one line of JSON in place of the table."""
    output_dir: Path | None = None
    """Folder for the record of the run. Default: beside the model."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "episodes")
        check_seed(self.seed)


@dataclass(frozen=True)
class SavedAgent:
    """What a checkpoint holds: the agent, the configuration it was trained with, the bounds of its actions (A,)."""

    agent: Agent
    config: PPOConfig
    low: torch.Tensor
    high: torch.Tensor

    def policy(self) -> Policy:
        """The deterministic policy: the mean action, clipped to the bounds."""

        @torch.inference_mode()
        def act(observations: NDArray) -> NDArray:
            normalized = self.agent.normalizer(torch.as_tensor(observations))
            return self.agent.policy.mean(normalized).clamp(self.low, self.high).numpy()

        return act


def save_agent(path: Path, saved: SavedAgent) -> None:
    """Write everything that acting needs, and the configuration, as plain data."""
    state = {
        "config": dataclasses.asdict(saved.config),
        "observation_dim": saved.agent.normalizer.statistics.mean.shape[0],
        "low": saved.low,
        "high": saved.high,
        "agent": saved.agent.state_dict(),
    }
    save_checkpoint(path, KIND, state)


def load_agent(path: Path) -> SavedAgent:
    """Read what `save_agent` wrote. Raises OSError (no such file) or UserError (damaged, foreign), naming the file."""
    state = load_checkpoint(path, KIND)
    try:
        config = PPOConfig(**state["config"])
        agent = make_agent(config, state["observation_dim"], len(state["low"]))
        agent.load_state_dict(state["agent"])
        return SavedAgent(agent, config, state["low"], state["high"])
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: its parts do not fit together ({str(error).splitlines()[0]})") from None


def load_policy(path: str | Path) -> Policy:
    """The deterministic policy of a checkpoint: observations (N, O) to clipped actions (N, A), NumPy in and out."""
    return load_agent(Path(path)).policy()


@dataclass(frozen=True)
class Evaluation:
    """Return and length of each episode (episodes,), and for Reacher the fingertip's last distance in metres."""

    returns: NDArray
    lengths: NDArray
    final_distances: NDArray | None

    def summary(self) -> dict[str, Any]:
        """Mean with its 95% interval (normal approximation), spread, worst episode."""
        mean, std = float(self.returns.mean()), float(self.returns.std())
        half = 1.96 * std / len(self.returns) ** 0.5
        distances = self.final_distances
        return {
            "mean_return": mean,
            "std_return": std,
            "interval_95": [mean - half, mean + half],
            "worst_return": float(self.returns.min()),
            "worst_episode": int(self.returns.argmin()),
            "mean_length": float(self.lengths.mean()),
            "mean_final_distance_mm": None if distances is None else 1000 * float(distances.mean()),
            "episodes": len(self.returns),
        }


def evaluate_policy(
    policy: Policy, env_id: str, episodes: int, seed: int = HELD_OUT_SEED, num_envs: int = 50
) -> Evaluation:
    """Run `episodes` whole episodes, `num_envs` at a time; episode i starts from a reset with seed + i."""
    returns, lengths, last_observations = np.zeros(episodes), np.zeros(episodes, int), []
    for first in range(0, episodes, num_envs):
        count = min(num_envs, episodes - first)
        envs = make_envs(env_id, count)
        seeds: Any = [seed + first + i for i in range(count)]
        observations, _ = envs.reset(seed=seeds)
        running = np.ones(count, dtype=bool)
        last = observations.copy()
        while running.any():
            observations, rewards, terminated, truncated, info = envs.step(policy(observations))
            returns[first : first + count] += np.where(running, rewards, 0.0)
            lengths[first : first + count] += running
            last[running] = true_next_observations(observations, info)[running]
            running &= ~(terminated | truncated)
        last_observations.append(last)
        envs.close()
    last = np.concatenate(last_observations)
    distances = np.linalg.norm(last[:, 8:10], axis=-1) if env_id.startswith("Reacher-") else None
    return Evaluation(returns, lengths, distances)


def check_return(record: RunRecord, env_id: str, mean_return: float) -> None:
    """Note the mean return beside what is to be expected: a normal run of Reacher, else the environment's threshold."""
    threshold = spec_of(env_id).reward_threshold
    least = NORMAL_RETURN.get(env_id, threshold)
    if least is not None:
        record.check(
            "mean return", round(mean_return, 3), f"{least} or more; threshold {threshold}", mean_return >= least
        )


def print_table(summary: dict[str, Any]) -> None:
    """The figures of an evaluation, a line each, with units."""
    low, high = summary["interval_95"]
    print(f"episodes            {summary['episodes']}")
    print(f"mean return         {summary['mean_return']:.3f}  (95% interval {low:.3f} to {high:.3f})")
    print(f"standard deviation  {summary['std_return']:.3f}")
    print(f"worst episode       {summary['worst_return']:.3f}  (number {summary['worst_episode']})")
    if summary["mean_final_distance_mm"] is not None:
        print(f"fingertip at end    {summary['mean_final_distance_mm']:.1f} mm from the target")


def film(config: Config, saved: SavedAgent) -> list[Path]:
    """Write the first episodes as a GIF, a video or both, in real time; returns the files."""
    env_id = saved.config.env_id
    frames = film_episodes(saved.policy(), env_id, range(config.seed, config.seed + FILMED_EPISODES), EVERY_NTH_FRAME)
    speed = gym.make(env_id).metadata.get("render_fps", 50) / EVERY_NTH_FRAME
    gif, video = (config.model_path.with_name(f"trained_agent.{kind}") for kind in ("gif", "mp4"))
    if config.save_gif:
        save_gif(gif, frames, speed)
    if config.record_video:
        save_video(video, frames, speed)
    return [gif] * config.save_gif + [video] * config.record_video


def main(config: Config) -> None:
    """Load, measure, film, record."""
    torch.set_num_threads(1)
    saved = load_agent(config.model_path)
    record = RunRecord(__file__, config.output_dir or config.model_path.parent, config)
    env_id = saved.config.env_id
    summary = evaluate_policy(saved.policy(), env_id, config.episodes, config.seed).summary()
    if not config.json:
        print_table(summary)
    if config.render == "human":
        show_episodes(saved.policy(), env_id, range(config.seed, config.seed + config.episodes))
    if config.save_gif or config.record_video:
        record.files += film(config, saved)
    record.results = summary
    check_return(record, env_id, summary["mean_return"])
    record.save(quiet=config.json)
    if config.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    prepare_rendering()
    launch(Config, main)
