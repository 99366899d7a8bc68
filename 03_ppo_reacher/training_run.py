"""The state of a training run: set up on one process or several, saved, and resumed.

With `torchrun` every process holds a copy of the agent and its own part of the environments; the
gradients and all statistics are averaged over the processes, so that the copies stay equal.
"""

from typing import Any

import numpy as np
import torch

from agent import make_agent
from environments import make_envs
from lab.devices import pick_device
from lab.distributed import gather, rank, world_size
from lab.errors import UserError
from lab.seeding import random_state, restore_random_state, seed_everything
from lab.training import restoring_state
from networks import as_one_vector
from normalization import RewardScaler
from ppo_config import PPOConfig
from rollout import RolloutCollector


class TrainingRun:
    """Environments, agent, optimizer and statistics of one run, and the iterations done so far.

    Raises UserError for options that do not fit the environment or the number of processes.
    """

    def __init__(self, config: PPOConfig) -> None:
        if config.num_envs % world_size():
            processes = f"the {world_size()} processes"
            raise UserError(f"--num_envs {config.num_envs} is not a multiple of {processes}")
        seed_everything(config.seed)  # the same initial weights in every process
        num_envs = config.num_envs // world_size()
        self.config = config
        self.iteration = 0
        self.device = pick_device(config.device)
        self.envs = make_envs(config.env_id, num_envs)

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
        self.collector = RolloutCollector(self.envs, config.seed + rank() * num_envs)
        torch.manual_seed(config.seed + 1_000_003 * rank())  # different exploration in each process

    def gather_returns(self, episode_returns: list[float]) -> list[float]:
        """Return the episode returns of all processes, in order of rank."""
        return [value for returns in gather(episode_returns) for value in returns]

    def restart_unsaved_episodes(self) -> None:
        """After a checkpoint, reset environments whose state cannot be saved.

        The seeds of the reset depend only on the run's seed, the iteration and the rank, so that a
        run resumed from the checkpoint equals an uninterrupted one.
        """
        after_checkpoint = self.iteration > 0 and self.iteration % self.config.checkpoint_every == 0
        if after_checkpoint and not self.collector.state_dict():
            self._restart_episodes()

    def _restart_episodes(self) -> None:
        entropy = [self.config.seed, self.iteration, rank()]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        self.collector.restart(seed % 900_000)  # below the seeds reserved for evaluation

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to resume exactly. All processes must call it together."""
        process_state = {
            "collector": self.collector.state_dict(),
            "scaled_returns": self.reward_scaler.returns.clone(),
            "random": random_state(),
        }
        return {
            "iteration": self.iteration,
            "agent": self.agent.state_dict(),
            "optimizer": self.optimizer.state_dict(),
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
            self.iteration = int(state["iteration"])
            self.agent.load_state_dict(state["agent"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.reward_scaler.statistics.load_state_dict(state["scaler"])
            self.reward_scaler.returns = process_state["scaled_returns"].clone()
            if process_state["collector"]:
                self.collector.load_state_dict(process_state["collector"])
            else:
                self._restart_episodes()
            restore_random_state(process_state["random"])
