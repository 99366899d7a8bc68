"""Train PPO on a continuous-control task: flags, watchers, files.

python train.py                                                # Reacher-v5, 409,600 steps
python train.py --resume                                       # go on where a run was stopped
python train.py --env_id InvertedPendulum-v5 --num_iterations 60 --output_dir ../runs/pendulum
torchrun --nproc_per_node 2 train.py                           # two processes train one agent
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from evaluate import SavedAgent, check_return, evaluate_policy, save_agent
from lab.distributed import process_group, rank
from lab.errors import UserError, require_at_least
from lab.launch import launch
from lab.metrics import METRICS, write_metrics
from lab.progress import track
from lab.record import RunRecord
from lab.training import checkpointed, saved_run
from ppo import Agent, IterationRecord, PPOConfig, make_agent, train
from ppo_reports import EVALUATION_EPISODES, baselines, draw_curve, metrics_row

KIND = "a PPO training run"  # what checkpoint.pth says it holds


@dataclass(frozen=True)
class Config:
    """Train a PPO agent."""

    ppo: PPOConfig = field(default_factory=PPOConfig)
    """The algorithm."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the model, the curve and the records; each file is replaced only when the new one is whole."""
    resume: bool = False
    """Go on with the run whose checkpoint.pth lies in the output folder, with the settings it was started with."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard as well (pip install tensorboard)."""
    num_threads: int = 1
    """Threads that PyTorch uses; with networks this small a second one costs more than it brings."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "num_threads")


def describe(record: IterationRecord, seconds: float, first: int) -> str:
    """The numbers that matter while training, in one line; the run is `seconds` old and began after `first`."""
    returns = f"{np.mean(record.episode_returns):8.2f}" if record.episode_returns else "   (no episode ended)"
    speed = record.steps * (record.iteration - first) / record.iteration / max(seconds, 1e-9)
    stats = record.update
    return (
        f"return {returns}  KL {stats.approx_kl:.4f}  clipped {stats.clip_fraction:.0%}  "
        f"explained variance {record.explained_variance:.2f}  entropy {stats.entropy:.2f}  {speed:,.0f} steps/s"
    )


def learn(config: Config) -> tuple[PPOConfig, list[dict[str, Any]], SavedAgent]:
    """Run the training, with checkpoints; returns its settings, the metrics of all iterations, and the agent.

    On Ctrl-C the iteration is finished and saved, then KeyboardInterrupt raised.
    """
    settings, state, rows = saved_run(config.output_dir, KIND, config.ppo, config.resume, PPOConfig())
    first, started = len(rows), time.perf_counter()
    writer = tensorboard_writer(config, first)
    stream = train(settings, state)
    if rank() == 0:
        left = settings.num_iterations - first
        stream = track(stream, left, "iteration", lambda r: describe(r, time.perf_counter() - started, first))
    stream = checkpointed(stream, config.output_dir, KIND, settings, rows, is_due=lambda r: is_due(r, settings))
    agent = None
    for record in stream:
        agent = record.agent
        rows.append(metrics_row(record))
        writer(rows[-1])
    return settings, rows, trained_agent(settings, state, agent)


def is_due(record: IterationRecord, settings: PPOConfig) -> bool:
    """Whether a checkpoint is written after this iteration."""
    return record.iteration % settings.checkpoint_every == 0 or record.iteration == settings.num_iterations


def trained_agent(settings: PPOConfig, state: dict[str, Any] | None, agent: Agent | None) -> SavedAgent:
    """The agent of a run that has ended, with the bounds of its actions; of `state` if there was nothing left to do."""
    space: Any = gym.make(settings.env_id).action_space
    if agent is None:
        observation_dim = gym.make(settings.env_id).observation_space.shape
        assert state is not None
        assert observation_dim is not None
        agent = make_agent(settings, observation_dim[0], space.shape[0])
        agent.load_state_dict(state["agent"])
    agent.policy.cpu()
    agent.value.cpu()
    return SavedAgent(agent, settings, torch.as_tensor(space.low), torch.as_tensor(space.high))


def tensorboard_writer(config: Config, first: int) -> Callable[[dict[str, Any]], None]:
    """A function that takes one row of metrics; without --tensorboard it does nothing."""
    if not config.tensorboard or rank() != 0:
        return lambda row: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard: not installed; pip install tensorboard") from None
    writer = SummaryWriter(config.output_dir / "tensorboard", purge_step=first + 1)

    def write(row: dict[str, Any]) -> None:
        for name, value in row.items():
            if value != "":
                writer.add_scalar(name, value, row["iteration"])
        writer.flush()

    return write


def main(config: Config) -> None:
    """Train, then measure the deterministic policy on episodes of their own, then save."""
    torch.set_num_threads(config.num_threads)
    with process_group():
        if rank() != 0:  # only the first process watches and writes
            learn(config)
            return
        record = RunRecord(__file__, config.output_dir, config)
        settings, rows, saved = learn(config)
    record.config = dataclasses.replace(config, ppo=settings)
    save_agent(record.file("trained_model.pth"), saved)
    write_metrics(record.file(METRICS), rows)
    lines = baselines(settings.env_id)
    draw_curve(record.file("training_reward_curve.png"), settings, rows, lines)
    summary = evaluate_policy(saved.policy(), settings.env_id, EVALUATION_EPISODES).summary()
    record.results = {"evaluation": summary, "baselines": lines}
    check_return(record, settings.env_id, summary["mean_return"])
    record.save()


if __name__ == "__main__":
    launch(Config, main)
