"""Running statistics that normalize observations and scale rewards.

# B batch, T steps of a rollout, N environments, O observation_dim
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.checkpoints import check_like
from lab.distributed import sum_over_ranks, world_size


class RunningMeanStd:
    """Mean and variance per feature of all values so far, in float64.

    Batches are merged one by one (Chan et al. 1979). Before the first batch the mean is 0 and the
    variance 1, so that normalizing changes nothing.
    """

    def __init__(self, *shape: int) -> None:
        self.mean = torch.zeros(shape, dtype=torch.float64)
        self.variance = torch.ones(shape, dtype=torch.float64)
        self.count = 0
        self.std = self._compute_std()

    def update(self, batch: Tensor) -> None:
        """Merge a batch (B, *shape), together with the batches of all other processes."""
        batch = batch.double()

        # Mean and sum of squared deviations of the new values, over all processes.
        batch_count = len(batch) * world_size()
        batch_mean = sum_over_ranks(batch.sum(0)) / batch_count  # (B, *shape) -> (*shape)
        batch_squares = sum_over_ranks((batch - batch_mean).square().sum(0))  # (*shape)

        # Merge them with those of the old values; the last term is due to the different means.
        count = self.count + batch_count
        difference = batch_mean - self.mean
        old_squares = self.variance * self.count
        between = difference.square() * self.count * batch_count / count
        squares = old_squares + batch_squares + between
        self.mean = self.mean + difference * batch_count / count
        self.variance = squares / count
        self.count = count
        self.std = self._compute_std()

    def _compute_std(self) -> Tensor:
        """Return the standard deviation (*shape), positive even for features that never change."""
        return (self.variance + 1e-8).sqrt()

    def state_dict(self) -> dict[str, Tensor | int]:
        """Return the mean, the variance and the count."""
        return {"mean": self.mean, "variance": self.variance, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the statistics from a `state_dict`. Raises ValueError for others: another shape, not finite."""
        check_like(state, self.state_dict(), "statistics")
        if bool((state["variance"] < 0).any()) or state["count"] < 0:
            raise ValueError("statistics have a negative variance or count")
        self.mean = state["mean"].clone()
        self.variance = state["variance"].clone()
        self.count = int(state["count"])
        self.std = self._compute_std()


class ObservationNormalizer:
    """Normalizes observations to mean 0 and standard deviation 1, clipped to [-10, 10].

    The statistics change only between iterations: a rollout and the update on it use the same ones.
    If not `enabled`, observations pass unchanged.
    """

    def __init__(self, observation_dim: int, enabled: bool = True) -> None:
        self.statistics = RunningMeanStd(observation_dim)
        self.enabled = enabled

    def __call__(self, observations: Tensor) -> Tensor:
        """Return observations (..., O), float32 or float64, normalized, as float32 (..., O)."""
        if not self.enabled:
            return observations.float()
        normalized = (observations.double() - self.statistics.mean) / self.statistics.std
        return normalized.clamp(-10.0, 10.0).float()


class RewardScaler:
    """Divides rewards by the standard deviation of the discounted return.

    The critic's targets are then of the order of 1. Rewards are not shifted, because that would
    change the optimal policy where episodes differ in length.
    """

    def __init__(self, num_envs: int, discount: float) -> None:
        self.discount = discount
        self.statistics = RunningMeanStd()
        self.returns = torch.zeros(num_envs, dtype=torch.float64)  # (N,)

    def update(self, rewards: Tensor, ended: Tensor) -> None:
        """Update the statistics with rewards and episode ends, (T, N) each."""
        returns = self.returns.numpy().copy()  # (N,) NumPy is faster for so few numbers
        history = []
        for reward, end in zip(rewards.numpy(), ended.numpy(), strict=True):
            returns = returns * self.discount + reward
            history.append(returns)
            returns = returns * ~end  # the next episode starts from 0
        self.returns = torch.from_numpy(returns)
        self.statistics.update(torch.from_numpy(np.concatenate(history)))  # (T * N,)

    def __call__(self, rewards: Tensor) -> Tensor:
        """Return scaled rewards, in the same shape, as float32."""
        return (rewards / self.statistics.std).float()
