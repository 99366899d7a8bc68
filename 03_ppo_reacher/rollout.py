"""Experience: T steps of N environments with the current policy.

# T steps of a rollout, N environments, B = T * N transitions, O observation_dim, A action_dim
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from environments import true_next_observations
from networks import PolicyNetwork
from normalization import ObservationNormalizer
from reacher_vec import ReacherVectorEnv


@dataclass(frozen=True)
class Rollout:
    """T steps of N environments, on policy. `next_observations` are those that truly followed: at an episode's end its
    last one, not the first of the next episode."""

    observations: Tensor  # (T, N, O) as the environment gave them
    next_observations: Tensor  # (T, N, O)
    actions: Tensor  # (T, N, A) as drawn, before clipping to the bounds
    rewards: Tensor  # (T, N)
    terminated: Tensor  # (T, N) bool: the episode ended for good, nothing follows
    truncated: Tensor  # (T, N) bool: the clock ran out, the world would have gone on
    episode_returns: list[float]  # of the episodes that ended


class RolloutCollector:
    """Steps the environments with the current policy and remembers where they stand from rollout to rollout."""

    def __init__(self, envs: VectorEnv, seed: int) -> None:
        self.envs = envs
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin all episodes anew, environment i from seed + i."""
        self.observations: np.ndarray = self.envs.reset(seed=seed)[0]  # (N, O)
        self.running_returns = np.zeros(self.envs.num_envs)

    @torch.inference_mode()
    def collect(self, policy: PolicyNetwork, normalizer: ObservationNormalizer, num_steps: int) -> Rollout:
        """Step the environments `num_steps` = T times with actions drawn from the policy."""
        space: Any = self.envs.single_action_space
        low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)  # (A,) each
        std = policy.log_std.exp().cpu()
        noise = std * torch.randn(num_steps, self.envs.num_envs, *std.shape)  # (T, N, A)
        before, after, drawn, rewards, terminated, truncated = ([] for _ in range(6))
        episode_returns: list[float] = []
        for t in range(num_steps):
            mean = policy.mean(normalizer(torch.from_numpy(self.observations))).cpu()  # (N, A)
            action = mean + noise[t]
            clipped = action.clamp(low, high).numpy()  # the world gets the clipped action ...
            next_observations, reward, ends, cuts, info = self.envs.step(clipped)
            before.append(self.observations)
            after.append(true_next_observations(next_observations, info))
            drawn.append(action.numpy())  # ... the log-probability belongs to the one that was drawn
            rewards.append(reward)
            terminated.append(ends)
            truncated.append(cuts)
            self.running_returns += reward
            ended = ends | cuts
            if ended.any():
                episode_returns += self.running_returns[ended].tolist()
                self.running_returns[ended] = 0.0
            self.observations = next_observations
        columns = (before, after, drawn, rewards, terminated, truncated)
        return Rollout(*[torch.from_numpy(np.stack(column)) for column in columns], episode_returns=episode_returns)

    def state_dict(self) -> dict[str, Any]:
        """Where the episodes stand; for environments that cannot tell, nothing (see `train`)."""
        if not isinstance(self.envs, ReacherVectorEnv):
            return {}
        observations, returns = torch.from_numpy(self.observations), self.running_returns.tolist()
        return {"observations": observations, "running_returns": returns, "envs": self.envs.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict`, which was not empty, was taken."""
        assert isinstance(self.envs, ReacherVectorEnv)
        self.observations = state["observations"].numpy()
        self.running_returns = np.array(state["running_returns"])
        self.envs.load_state_dict(state["envs"])
