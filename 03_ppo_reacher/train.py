"""Train PPO on a continuous-control task.

python train.py                                                # Reacher-v5, 409,600 steps
python train.py --resume                                       # resume an interrupted run
python train.py --env_id InvertedPendulum-v5 --num_iterations 60 --output_dir ../runs/pendulum
torchrun --nproc_per_node 2 train.py                           # two processes train one agent
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent import Agent, TrainedAgent, make_agent, save_agent
from environments import make_env
from evaluation import check_return, evaluate_policy
from lab.devices import pick_device
from lab.distributed import process_group, rank, world_size
from lab.errors import UserError, require_at_least
from lab.exercises import own
from lab.files import check_outputs
from lab.launch import launch
from lab.metrics import METRICS, write_metrics
from lab.progress import track
from lab.record import RunRecord
from lab.training import (
    CHECKPOINT,
    Run,
    TrainingKind,
    checkpointed,
    flag_defaults,
    restoring_state,
    run_to_resume,
    start_run,
)
from ppo import IterationRecord, train
from ppo_config import PPOConfig, config_from_file, config_to_file
from ppo_reports import EVALUATION_EPISODES, baselines, draw_curve, metrics_row

TRAINING = TrainingKind(
    "a PPO training run",
    defaults=config_to_file(PPOConfig()),
    length="num_iterations",
    places=frozenset({"device", "checkpoint_every"}),
    complete=lambda settings: config_to_file(config_from_file(settings)),
)
OUTPUT_FILES = (CHECKPOINT, "trained_model.pth", METRICS, "training_reward_curve.png", "train.json")


@dataclass(frozen=True)
class Config:
    """Train a PPO agent."""

    ppo: PPOConfig = field(default_factory=PPOConfig)
    """The algorithm."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the model, the curve and the records; existing files are replaced at the end."""
    resume: bool = False
    """Resume the run in the output folder from its checkpoint.pth, with its options. A larger
    `--num_iterations` makes it longer; the learning-rate schedule is from there on that of the longer
    run."""
    tensorboard: bool = False
    """Also log the metrics for TensorBoard (pip install tensorboard)."""
    num_threads: int = 1
    """Threads of PyTorch; for networks this small, more threads are slower."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "num_threads")

    @classmethod
    def default_for(cls, arguments: Sequence[str]) -> "Config":
        """Return the defaults of the flags: of a new run, or those of the run to resume.

        Raises UserError or OSError for a damaged checkpoint.
        """
        default = cls()
        run = run_to_resume(TRAINING, arguments, default.output_dir)
        if run is None:
            return default
        settings = {**TRAINING.defaults, **flag_defaults(TRAINING, run)}
        with restoring_state():
            return dataclasses.replace(default, ppo=config_from_file(settings))


@dataclass(frozen=True)
class TrainingResult:
    """A finished training: its options, the metrics of all its iterations, and the agent."""

    config: PPOConfig
    rows: list[dict[str, Any]]
    agent: TrainedAgent


def run_training(config: Config) -> TrainingResult:
    """Run or resume the training, with checkpoints and a progress bar.

    On Ctrl-C it finishes the iteration, saves a checkpoint and raises KeyboardInterrupt.
    """
    requested = config_to_file(config.ppo)
    device = pick_device(config.ppo.device)
    run = start_run(TRAINING, config.output_dir, requested, config.resume, device.type)
    if run.state is not None:
        with restoring_state():
            iterations = int(run.state["iteration"])
        if iterations != len(run.rows):
            raise UserError(f"{CHECKPOINT}: after {iterations} iterations, with metrics of {len(run.rows)}")
    own.check_run(run, world_size())  # with the same functions by --with as before
    ppo_config = config_from_file(run.settings)
    log = tensorboard_logger(config, len(run.rows))
    agent = None
    for record in watched(train(ppo_config, run.state), run, ppo_config):
        agent = record.agent
        run.rows.append(metrics_row(record))
        log(run.rows[-1])
    return TrainingResult(ppo_config, run.rows, trained_agent(ppo_config, run.state, agent))


def watched(
    records: Iterator[IterationRecord],
    run: Run,
    config: PPOConfig,
) -> Iterator[IterationRecord]:
    """Yield the records, with a progress bar and checkpoints."""

    def is_due(record: IterationRecord) -> bool:
        last = record.iteration == config.num_iterations
        return last or record.iteration % config.checkpoint_every == 0

    if rank() == 0:
        first = len(run.rows)
        started = time.perf_counter()
        records = track(
            records,
            config.num_iterations - first,
            "iteration",
            lambda record: describe(record, time.perf_counter() - started, first),
        )
    return checkpointed(records, run, is_due=is_due)


def describe(record: IterationRecord, seconds: float, first: int) -> str:
    """Return the most important metrics in one line; `first` iterations were done before resuming.

    `seconds` is the time since then.
    """
    returns = "   (no episode ended)"
    if record.episode_returns:
        returns = f"{np.mean(record.episode_returns):8.2f}"
    steps_per_iteration = record.steps / record.iteration
    speed = steps_per_iteration * (record.iteration - first) / max(seconds, 1e-9)
    stats = record.update
    return (
        f"return {returns}  KL {stats.approx_kl:.4f}  clipped {stats.clip_fraction:.0%}  "
        f"explained variance {record.explained_variance:.2f}  entropy {stats.entropy:.2f}  "
        f"{speed:,.0f} steps/s"
    )


def trained_agent(
    config: PPOConfig,
    state: dict[str, Any] | None,
    agent: Agent | None,
) -> TrainedAgent:
    """Return the agent on the CPU with its action bounds.

    If a resumed run was finished already, there is no `agent`, and `state` contains it.
    """
    env = make_env(config.env_id)
    space: Any = env.action_space
    if agent is None:
        observation_shape = env.observation_space.shape
        assert state is not None
        assert observation_shape is not None
        agent = make_agent(config, observation_shape[0], space.shape[0])
        agent.load_state_dict(state["agent"])
    agent.policy.cpu()
    agent.value.cpu()
    return TrainedAgent(agent, config, torch.as_tensor(space.low), torch.as_tensor(space.high))


def tensorboard_logger(config: Config, first: int) -> Callable[[dict[str, Any]], None]:
    """Return a function that logs one row of metrics; without --tensorboard it does nothing."""
    if not config.tensorboard or rank() != 0:
        return lambda row: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard: not installed; pip install tensorboard") from None
    writer = SummaryWriter(config.output_dir / "tensorboard", purge_step=first + 1)

    def log(row: dict[str, Any]) -> None:
        for name, value in row.items():
            if value != "":
                writer.add_scalar(name, value, row["iteration"])
        writer.flush()

    return log


def main(config: Config) -> None:
    """Train, save the model, evaluate the deterministic policy, and draw the learning curve."""
    torch.set_num_threads(config.num_threads)
    with process_group():
        if rank() != 0:  # only the first process writes files
            run_training(config)
            return
        check_outputs(config.output_dir, OUTPUT_FILES)
        record = RunRecord(__file__, config.output_dir, config)
        result = run_training(config)
    settings: Any = config_to_file(result.config)
    record.config = dataclasses.replace(config, ppo=settings)
    save_agent(record.file("trained_model.pth"), result.agent)
    write_metrics(record.file(METRICS), result.rows)

    env_id = result.config.env_id
    lines = baselines(env_id)
    evaluation = evaluate_policy(result.agent.policy(), env_id, EVALUATION_EPISODES)
    summary = evaluation.summary()
    curve = record.file("training_reward_curve.png")
    curve.unlink(missing_ok=True)  # there is no curve if no episode ended
    draw_curve(curve, result.config, result.rows, lines, summary["mean_return"])
    record.results = {"evaluation": summary, "baselines": lines}
    check_return(record, env_id, summary["mean_return"])
    record.save()


if __name__ == "__main__":
    launch(Config, main)
