"""Collecting experience: T steps of N environments with the current policy.

# T steps of a rollout, N environments, O observation_dim, A action_dim
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from agent import Agent
from environments import true_next_observations


@dataclass(frozen=True)
class Rollout:
    """T steps of N environments, on policy.

    `next_observations` are the true ones: where an episode ends, its final observation and not the
    first one of the next episode.
    """

    observations: Tensor  # (T, N, O) not normalized
    next_observations: Tensor  # (T, N, O) not normalized
    actions: Tensor  # (T, N, A) as sampled, not as the environments received them
    rewards: Tensor  # (T, N)
    terminated: Tensor  # (T, N) bool: the episode reached a terminal state
    truncated: Tensor  # (T, N) bool: the episode was cut off by the time limit
    episode_returns: list[float]  # of the episodes that ended during the rollout


class RolloutCollector:
    """Steps the environments with a policy; episodes continue from one rollout to the next."""

    def __init__(self, envs: VectorEnv, seed: int) -> None:
        self.envs = envs
        space: Any = envs.single_action_space
        self.low = torch.from_numpy(space.low)  # (A,)
        self.high = torch.from_numpy(space.high)  # (A,)
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Reset all environments; environment i is seeded with seed + i."""
        self.observations: np.ndarray = self.envs.reset(seed=seed)[0]  # (N, O)
        self.running_returns = np.zeros(self.envs.num_envs)  # (N,)

    @torch.inference_mode()
    def collect(self, agent: Agent, num_steps: int) -> Rollout:
        """Step the environments `num_steps` = T times with actions sampled from the policy."""
        policy = agent.policy

        # The standard deviation is equal for all states: draw the noise of all steps at once.
        std = policy.log_std.exp().cpu()  # (A,)
        noise = std * torch.randn(num_steps, self.envs.num_envs, len(std))  # (T, N, A)

        observations = []
        next_observations = []
        actions = []
        rewards = []
        terminations = []
        truncations = []
        episode_returns: list[float] = []
        for t in range(num_steps):
            # Sample an action from the Gaussian policy: its mean plus noise.
            normalized = agent.normalizer(torch.from_numpy(self.observations))  # (N, O)
            mean = policy.mean(normalized.to(policy.log_std.device)).cpu()  # (N, O) -> (N, A)
            action = mean + noise[t]

            # The environments receive the action clipped, and scaled to their bounds.
            bounded = agent.environment_actions(action, self.low, self.high).numpy()  # (N, A)
            next_obs, reward, terminated, truncated, info = self.envs.step(bounded)

            # The rollout stores the sampled one, which the log-probability belongs to.
            observations.append(self.observations)
            next_observations.append(true_next_observations(next_obs, info))
            actions.append(action.numpy())
            rewards.append(reward)
            terminations.append(terminated)
            truncations.append(truncated)

            # Environments whose episodes ended have been reset: continue from the new observation.
            episode_returns += self._finished_returns(reward, terminated | truncated)
            self.observations = next_obs
        return Rollout(
            observations=_stack(observations),
            next_observations=_stack(next_observations),
            actions=_stack(actions),
            rewards=_stack(rewards),
            terminated=_stack(terminations),
            truncated=_stack(truncations),
            episode_returns=episode_returns,
        )

    def _finished_returns(self, rewards: np.ndarray, ended: np.ndarray) -> list[float]:
        """Add one step's rewards (N,); return the returns of the episodes that ended, (N,) bool."""
        self.running_returns += rewards
        if not ended.any():
            return []
        finished = self.running_returns[ended].tolist()
        self.running_returns[ended] = 0.0
        return finished


def _stack(steps: list[np.ndarray]) -> Tensor:
    """Stack T arrays (N, ...) to one tensor (T, N, ...)."""
    return torch.from_numpy(np.stack(steps))
