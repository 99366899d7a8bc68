"""Running statistics that keep observations and rewards at a scale that networks learn well from."""

import numpy as np
import torch
from torch import Tensor

from lab.distributed import sum_over_ranks, world_size


class RunningMeanStd:
    """Mean and variance of all values seen, one a feature, merged batch by batch (Chan et al. 1979), in float64.

    Before anything was seen the mean is 0 and the variance 1, so that normalising changes nothing.
    """

    def __init__(self, *shape: int) -> None:
        self.mean = torch.zeros(shape, dtype=torch.float64)
        self.variance = torch.ones(shape, dtype=torch.float64)
        self.count = 0
        self.std = self._std()

    def update(self, batch: Tensor) -> None:
        """Take in batch (B, *shape), from all processes where several train together."""
        batch = batch.double()
        new = len(batch) * world_size()
        batch_mean = sum_over_ranks(batch.sum(0)) / new
        batch_squares = sum_over_ranks((batch - batch_mean).square().sum(0))
        count = self.count + new
        difference = batch_mean - self.mean
        squares = self.variance * self.count + batch_squares + difference.square() * self.count * new / count
        self.mean = self.mean + difference * new / count
        self.variance = squares / count
        self.count = count
        self.std = self._std()

    def _std(self) -> Tensor:
        """Standard deviation (*shape), kept above zero for features that never change."""
        return (self.variance + 1e-8).sqrt()

    def state_dict(self) -> dict[str, Tensor | int]:
        """Everything that a checkpoint must hold."""
        return {"mean": self.mean, "variance": self.variance, "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        """Take over the state of another."""
        self.mean, self.variance, self.count = state["mean"].clone(), state["variance"].clone(), int(state["count"])
        self.std = self._std()


class ObservationNormalizer:
    """Shifts and scales observations to mean 0 and standard deviation 1, cut off at ±10.

    The statistics change only between rollouts: within one, all network calls see the same function of the observation.
    With `enabled` false it passes observations on as they are.
    """

    def __init__(self, observation_dim: int, enabled: bool = True) -> None:
        self.statistics = RunningMeanStd(observation_dim)
        self.enabled = enabled

    def __call__(self, observations: Tensor) -> Tensor:
        """observations (..., O), float64 or float32, to normalised ones (..., O) in float32."""
        if not self.enabled:
            return observations.float()
        normalized = (observations.double() - self.statistics.mean) / self.statistics.std
        return normalized.clamp(-10.0, 10.0).float()


class RewardScaler:
    """Divides rewards by the standard deviation of the discounted return, so that values are of the order of 1.

    Rewards are not shifted: that would change what is optimal where episodes differ in length.
    """

    def __init__(self, num_envs: int, discount: float) -> None:
        self.discount = discount
        self.statistics = RunningMeanStd()
        self.returns = torch.zeros(num_envs, dtype=torch.float64)

    def update(self, rewards: Tensor, ended: Tensor) -> None:
        """Take in rewards and ends (T, N): the return so far is discounted forward, and starts anew at ends."""
        returns, history = self.returns.numpy().copy(), []
        for reward, end in zip(rewards.numpy(), ended.numpy(), strict=True):  # NumPy, which is quicker with few numbers
            returns = returns * self.discount + reward
            history.append(returns)
            returns = returns * ~end
        self.returns = torch.from_numpy(returns)
        self.statistics.update(torch.from_numpy(np.concatenate(history)))

    def __call__(self, rewards: Tensor) -> Tensor:
        """rewards of any shape, scaled, in float32."""
        return (rewards / self.statistics.std).float()
