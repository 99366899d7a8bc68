"""Right answers to the exercises on running statistics in other styles than the lab's: all must pass."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

import normalization


class AllRows:
    """Keeps all rows, and computes from the definition."""

    def __init__(self, dim: int) -> None:
        self.rows = torch.zeros(0, dim, dtype=torch.float64)

    def update(self, batch: Tensor) -> None:
        """Add the rows."""
        self.rows = torch.cat([self.rows, batch.double()])

    @property
    def mean(self) -> Tensor:
        """The mean so far."""
        return self.rows.mean(0)

    @property
    def std(self) -> Tensor:
        """The standard deviation so far."""
        return self.rows.std(0, correction=0)


class OneByOne:
    """Welford's method, one row after the other."""

    def __init__(self, dim: int) -> None:
        self.count, self.mean = 0, torch.zeros(dim).double()
        self.squares, self.std = torch.zeros(dim).double(), torch.ones(dim).double()

    def update(self, batch: Tensor) -> None:
        """Take in one row after the other."""
        for row in batch.to(torch.float64):
            self.count += 1
            difference = row - self.mean
            self.mean = self.mean + difference / self.count
            self.squares = self.squares + difference * (row - self.mean)
        self.std = torch.clamp(torch.sqrt(self.squares / self.count), min=1e-4)


class OldAndNewMean:
    """The sum of products of the distances from the old mean and from the new one, exact for batches too."""

    def __init__(self, dim: int) -> None:
        self.n = 0
        self.mean = torch.zeros(dim, dtype=torch.double)
        self.m2 = torch.zeros(dim, dtype=torch.double)

    def update(self, batch: Tensor) -> None:
        """Take in a batch."""
        batch = batch.double()
        self.n += batch.shape[0]
        old = self.mean.clone()
        self.mean += (batch - old).sum(dim=0) / self.n
        self.m2 += ((batch - old) * (batch - self.mean)).sum(dim=0)

    def std(self) -> Tensor:
        """The standard deviation so far."""
        return (self.m2 / self.n).sqrt() + 1e-8


class WeightedVariances:
    """The weighted mean of variances, and of squared distances of the means."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean, self.var = np.zeros(dim), np.ones(dim)

    def update(self, batch: Tensor) -> None:
        """Take in a batch, as NumPy."""
        rows = batch.numpy().astype(np.float64)
        weight = len(rows) / (self.count + len(rows))
        mean = (1 - weight) * self.mean + weight * rows.mean(0)
        old = self.var + (self.mean - mean) ** 2
        new = rows.var(0) + (rows.mean(0) - mean) ** 2
        self.mean, self.var, self.count = mean, (1 - weight) * old + weight * new, self.count + len(rows)
        self.std = torch.from_numpy(np.sqrt(self.var))


class Sums:
    """Sums of numbers and of squares, in float64."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.sum = self.squares = torch.zeros(dim, dtype=torch.float64)

    def update(self, batch: Tensor) -> None:
        """Add up a batch."""
        batch = batch.double()
        self.count += len(batch)
        self.sum = self.sum + batch.sum(0)
        self.squares = self.squares + (batch**2).sum(0)
        self.mean = self.sum / self.count
        self.std = (self.squares / self.count - self.mean**2).clamp(min=0).sqrt()


class ScalerOfAllReturns:
    """Keeps all returns, in Python lists."""

    def __init__(self, num_envs: int, discount: float) -> None:
        self.discount, self.running = discount, [0.0] * num_envs
        self.seen: list[float] = []

    def update(self, rewards: Tensor, ended: Tensor) -> None:
        """Follow the returns."""
        for t in range(rewards.shape[0]):
            for env in range(rewards.shape[1]):
                self.running[env] = self.discount * self.running[env] + rewards[t, env].item()
                self.seen.append(self.running[env])
                if ended[t, env]:
                    self.running[env] = 0.0

    def __call__(self, rewards: Tensor) -> Tensor:
        """Divide by the deviation."""
        mean = sum(self.seen) / len(self.seen)
        variance = sum((each - mean) ** 2 for each in self.seen) / len(self.seen)
        return rewards / (math.sqrt(variance) + 1e-8)


class ScalerOfSamples:
    """A deviation of a sample (n - 1), and float32 results."""

    def __init__(self, num_envs: int, discount: float) -> None:
        self.gamma, self.returns, self.history = discount, torch.zeros(num_envs), torch.zeros(0)

    def update(self, rewards: Tensor, ended: Tensor) -> None:
        """Follow the returns; the mask comes one step later."""
        for reward, end in zip(rewards.float(), ended, strict=True):
            self.returns = self.gamma * self.returns + reward
            self.history = torch.cat([self.history, self.returns])
            self.returns = torch.where(end, torch.zeros_like(self.returns), self.returns)

    def __call__(self, rewards: Tensor) -> Tensor:
        """Divide by the deviation."""
        return (rewards / self.history.std()).float()


class ScalerWithCount:
    """Statistics that start from a tiny count, as other libraries have them."""

    def __init__(self, num_envs: int, discount: float) -> None:
        self.discount, self.returns = discount, np.zeros(num_envs)
        self.mean, self.var, self.count = 0.0, 1.0, 1e-4

    def update(self, rewards: Any, ended: Any) -> None:
        """Follow the returns, and merge those of each step."""
        for reward, end in zip(rewards.numpy(), ended.numpy(), strict=True):
            self.returns = self.returns * self.discount + reward
            delta, total = self.returns.mean() - self.mean, self.count + len(self.returns)
            squares = self.var * self.count + self.returns.var() * len(self.returns)
            squares += delta**2 * self.count * len(self.returns) / total
            self.mean, self.var, self.count = self.mean + delta * len(self.returns) / total, squares / total, total
            self.returns[end] = 0.0

    def __call__(self, rewards: Tensor) -> Tensor:
        """Divide by the deviation."""
        return rewards / np.sqrt(self.var + 1e-8)


RIGHT = {
    "RunningMeanStd": {
        "the lab's class": {"RunningMeanStd": normalization.RunningMeanStd},
        "all rows": {"RunningMeanStd": AllRows},
        "one by one": {"RunningMeanStd": OneByOne},
        "old and new mean": {"RunningMeanStd": OldAndNewMean},
        "weighted variances": {"RunningMeanStd": WeightedVariances},
        "sums": {"RunningMeanStd": Sums},
    },
    "RewardScaler": {
        "the lab's class": {"RewardScaler": normalization.RewardScaler},
        "all returns": {"RewardScaler": ScalerOfAllReturns},
        "samples": {"RewardScaler": ScalerOfSamples},
        "tiny count": {"RewardScaler": ScalerWithCount},
    },
}
