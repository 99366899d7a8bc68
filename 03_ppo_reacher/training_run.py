"""The state of a training run: set up on one process or several, saved, and resumed.

With `torchrun` every process holds a copy of the agent and its own part of the environments; the
gradients and all statistics are averaged over the processes, so that the copies stay equal.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from agent import Agent, copy_to_cpu, make_agent
from environments import make_envs, restart_seed, training_seed
from lab.checkpoints import check_like, load_optimizer
from lab.devices import pick_device
from lab.distributed import gather, rank, world_size
from lab.errors import UserError
from lab.seeding import random_state, restore_random_state, seed_everything
from lab.training import restoring_state
from networks import as_one_vector
from normalization import RewardScaler
from ppo_config import PPOConfig
from reacher_vec import ReacherVectorEnv
from rollout import Rollout, RolloutCollector


@dataclass(frozen=True)
class UpdateStats:
    """Diagnostics of an update, computed on the whole rollout after its last gradient step."""

    policy_loss: float
    value_loss: float
    entropy: float  # nats
    approx_kl: float  # nats, KL(old policy || new policy)
    clip_fraction: float  # fraction of the transitions whose ratio is outside the clipping range


@dataclass(frozen=True)
class IterationRecord:
    """Results of one iteration. `agent` and `snapshot` are live: the next one changes them."""

    iteration: int  # starts at 1
    steps: int  # environment steps since the start of the run
    episode_returns: list[float]  # of the episodes that ended during this iteration
    explained_variance: float
    learning_rate: float
    update: UpdateStats
    agent: Agent = field(repr=False)
    snapshot: Callable[[], dict[str, Any]] = field(repr=False)  # returns what `train` resumes from


def check_processes(config: PPOConfig) -> None:
    """Raise UserError unless every process gets the same number of environments and enough steps."""
    processes = f"the {world_size()} processes"
    if config.num_envs % world_size():
        raise UserError(f"--num_envs {config.num_envs} is not a multiple of {processes}")
    if config.num_minibatches * 2 > config.steps_per_iter // world_size():
        result = f"fewer than 2 transitions per minibatch in each of {processes}"
        raise UserError(f"--num_minibatches {config.num_minibatches} leaves {result}")


class TrainingRun:
    """Environments, agent, optimizer and statistics of one run, and the iterations done so far.

    Raises UserError for options that do not fit the environment or the number of processes.
    """

    def __init__(self, config: PPOConfig) -> None:
        check_processes(config)
        num_envs = config.num_envs // world_size()
        self.config = config
        self.iteration = 0
        self.device = pick_device(config.device)
        seed_everything(config.seed)
        self.envs = make_envs(config.env_id, num_envs)
        seed_everything(config.seed)  # again, whatever the environments drew: equal initial weights in every process

        observation_shape = self.envs.single_observation_space.shape
        action_shape = self.envs.single_action_space.shape
        assert observation_shape is not None
        assert action_shape is not None
        self.agent = make_agent(config, observation_shape[0], action_shape[0])
        self.agent.policy.to(self.device)
        self.agent.value.to(self.device)
        parameters = as_one_vector(self.agent.parameters())  # (P,)
        self.optimizer = torch.optim.Adam(
            [parameters],
            lr=config.learning_rate,
            eps=1e-5,
            fused=True,
        )

        self.reward_scaler = RewardScaler(num_envs, config.discount)
        first_seed = training_seed(config.seed, config.num_envs)
        self.collector = RolloutCollector(self.envs, first_seed + rank() * num_envs)
        process_seed = config.seed + 1_000_003 * rank()  # different exploration in each process
        torch.manual_seed(process_seed % 2**63)

    def gather_returns(self, episode_returns: list[float]) -> list[float]:
        """Return the episode returns of all processes, in order of rank."""
        return [value for returns in gather(episode_returns) for value in returns]

    def collect(self, num_steps: int) -> Rollout:
        """Collect a rollout of `num_steps` steps. Raises UserError for a fault of an environment."""
        try:
            return self.collector.collect(self.agent, num_steps)
        except UserError as error:
            raise UserError(f"{error} (in iteration {self.iteration + 1})") from error

    def check_finite(self, stats: UpdateStats) -> None:
        """Raise UserError if the last update diverged."""
        if not np.isfinite(stats.policy_loss + stats.value_loss + stats.approx_kl):
            reason = f"diverged in iteration {self.iteration}: a loss is not finite"
            raise UserError(f"{reason}; try a lower --learning_rate")

    def episodes_state(self) -> dict[str, Any]:
        """Return the state of the episodes, or {} if the environments cannot save theirs."""
        if not isinstance(self.envs, ReacherVectorEnv):
            return {}
        return {
            "observations": torch.from_numpy(self.collector.observations),
            "running_returns": self.collector.running_returns.tolist(),
            "envs": self.envs.state_dict(),
        }

    def load_episodes_state(self, state: dict[str, Any]) -> None:
        """Continue the episodes of an `episodes_state`; without one, start new ones with new seeds."""
        if isinstance(self.envs, ReacherVectorEnv):
            self.collector.observations = state["observations"].numpy()
            self.collector.running_returns = np.array(state["running_returns"])
            self.envs.load_state_dict(state["envs"])
        else:
            first = restart_seed(self.config.seed, self.iteration, self.config.num_envs)
            self.collector.restart(first + rank() * self.envs.num_envs)
            self.reward_scaler.returns.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to resume exactly. All processes must call it together."""
        process_state = {
            "collector": self.episodes_state(),
            "scaled_returns": self.reward_scaler.returns.clone(),
            "random": random_state(),
        }
        optimizer = self.optimizer.state_dict()
        moments = {index: copy_to_cpu(state) for index, state in optimizer["state"].items()}
        return {
            "iteration": self.iteration,
            "agent": self.agent.state_dict(),
            "optimizer": {"state": moments, "param_groups": optimizer["param_groups"]},
            "scaler": self.reward_scaler.statistics.state_dict(),
            "processes": gather(process_state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`. Raises UserError if the number of processes differs."""
        with restoring_state():
            saved = len(state["processes"])
        if saved != world_size():
            counts = f"saved by {saved} processes, resumed by {world_size()}"
            raise UserError(f"{counts}; start {saved}")
        with restoring_state():
            process_state = state["processes"][rank()]
            check_like(process_state["scaled_returns"], self.reward_scaler.returns, "scaled_returns")
            check_like(process_state["collector"], self.episodes_state(), "collector")
            self.iteration = int(state["iteration"])
            if self.iteration < 0:
                raise ValueError(f"iteration is {self.iteration}")
            self.agent.load_state_dict(state["agent"])
            load_optimizer(self.optimizer, copy.deepcopy(state["optimizer"]))
            self.reward_scaler.statistics.load_state_dict(state["scaler"])
            self.reward_scaler.returns = process_state["scaled_returns"].clone()
            self.load_episodes_state(process_state["collector"])
            restore_random_state(process_state["random"])
