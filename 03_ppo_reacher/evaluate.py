"""Evaluate a trained policy with deterministic actions on held-out episodes.

python evaluate.py --model_path results/trained_model.pth --save_gif
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from agent import TrainedAgent, load_agent
from environments import is_flat_box, make_env, training_seed
from evaluation import HELD_OUT_SEED, check_return, evaluate_policy
from lab.animations import save_gif, save_video
from lab.errors import UserError, require_at_least
from lab.launch import launch, warn_once
from lab.record import RunRecord
from lab.rendering import prepare_rendering
from lab.seeding import check_seed
from reacher_drawing import frames_per_second, render_episodes, show_episodes

RECORDED_EPISODES = 4
FRAME_STEP = 2  # record every second frame


@dataclass(frozen=True)
class Config:
    """Evaluate a trained policy on held-out episodes of its environment."""

    model_path: Path = Path(__file__).parent / "results/trained_model.pth"
    """Model file written by train.py."""
    episodes: int = 100
    """Number of episodes."""
    seed: int = HELD_OUT_SEED
    """Episode i is reset with seed + i."""
    save_gif: bool = False
    """Write trained_agent.gif to the model's folder."""
    record_video: bool = False
    """Write trained_agent.mp4 to the model's folder."""
    render: Literal["human"] | None = None
    """human: also show the episodes in a window, in real time."""
    json: bool = False
    """Print one line of JSON instead of the table."""
    output_dir: Path | None = None
    """Folder for the JSON record of the run; if not set, the model's folder."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "episodes")
        check_seed(self.seed)


def print_table(summary: dict[str, Any]) -> None:
    """Print the results of an evaluation with units, one per line."""
    interval = ""
    if summary["interval_95"] is not None:
        low, high = summary["interval_95"]
        interval = f"  (95% interval {low:.3f} to {high:.3f})"
    print(f"episodes            {summary['episodes']}")
    print(f"mean return         {summary['mean_return']:.3f}{interval}")
    print(f"standard deviation  {summary['std_return']:.3f}")
    print(f"worst episode       {summary['worst_return']:.3f}  (number {summary['worst_episode']})")
    distance = summary["mean_final_distance_mm"]
    if distance is not None:
        print(f"final distance      {distance:.1f} mm from fingertip to target")


def check_environment(config: Config, trained: TrainedAgent) -> None:
    """Raise UserError if the environment has other observations or actions than in training."""
    env_id = trained.config.env_id
    env = make_env(env_id)
    sizes = {"observations": len(trained.agent.normalizer.statistics.mean), "actions": len(trained.low)}
    for name, space in (("observations", env.observation_space), ("actions", env.action_space)):
        if is_flat_box(space) and space.shape != (sizes[name],):
            now = f"those of {env_id} have shape {space.shape} now"
            raise UserError(f"{config.model_path}: trained with {name} of shape {(sizes[name],)}; {now}")


def warn_of_training_episodes(config: Config, trained: TrainedAgent) -> None:
    """Print a note if training began with some of these episodes, so that they are not held out."""
    first = training_seed(trained.config.seed, trained.config.num_envs)
    common = min(first + trained.config.num_envs, config.seed + config.episodes) - max(first, config.seed)
    if common > 0:
        warn_once(f"--seed {config.seed}: training began with {common} of these episodes; they are not held out")


def record_episodes(config: Config, trained: TrainedAgent) -> list[Path]:
    """Write the first episodes as a GIF, a video or both, in real time; return the files' paths."""
    env_id = trained.config.env_id
    seeds = range(config.seed, config.seed + RECORDED_EPISODES)
    frames = render_episodes(trained.policy(), env_id, seeds, FRAME_STEP)
    speed = frames_per_second(env_id) / FRAME_STEP
    files = []
    if config.save_gif:
        files.append(config.model_path.with_name("trained_agent.gif"))
        save_gif(files[-1], frames, speed)
    if config.record_video:
        files.append(config.model_path.with_name("trained_agent.mp4"))
        save_video(files[-1], frames, speed)
    return files


def main(config: Config) -> None:
    """Load the model, evaluate it, show or record episodes, and write the record."""
    torch.set_num_threads(1)
    trained = load_agent(config.model_path)
    record = RunRecord(__file__, config.output_dir or config.model_path.parent, config)
    env_id = trained.config.env_id
    check_environment(config, trained)
    warn_of_training_episodes(config, trained)
    summary = evaluate_policy(trained.policy(), env_id, config.episodes, config.seed).summary()
    if not config.json:
        print_table(summary)
    if config.render == "human":
        seeds = range(config.seed, config.seed + config.episodes)
        show_episodes(trained.policy(), env_id, seeds)
    if config.save_gif or config.record_video:
        record.files += record_episodes(config, trained)
    record.results = summary
    check_return(record, env_id, summary["mean_return"])
    record.save(quiet=config.json)
    if config.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    prepare_rendering()
    launch(Config, main)
