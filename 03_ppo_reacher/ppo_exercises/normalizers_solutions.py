"""Running statistics for one process: the right answers of exercises.

The lab has them in another form: tests compare them with `normalization.py`.

# B batch, T steps of a rollout, N environments
"""

import torch
from torch import Tensor

import normalization


class RunningMeanStd:
    """Mean and standard deviation of each feature over all rows so far, in float64.

    `mean` and `std` are (dim,); they are right after every `update`, however the rows are divided
    into batches.
    """

    def __init__(self, dim: int) -> None:
        # The number of rows so far, their mean, and the sum of their squared deviations from it.
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)  # (dim,)
        self.squares = torch.zeros(dim, dtype=torch.float64)  # (dim,)
        self.std = torch.ones(dim, dtype=torch.float64)  # (dim,)

    def update(self, batch: Tensor) -> None:
        """Take in a batch of rows (B, dim)."""
        # Count, mean and sum of squared deviations of the new rows alone.
        batch = batch.double()
        batch_count = len(batch)
        batch_mean = batch.mean(0)  # (B, dim) -> (dim,)
        batch_squares = (batch - batch_mean).square().sum(0)  # (B, dim) -> (dim,)
        # Merge them with those of the old rows; the means differ, which adds to the deviations.
        count = self.count + batch_count
        difference = batch_mean - self.mean  # (dim,)
        between = difference.square() * self.count * batch_count / count
        self.squares = self.squares + batch_squares + between
        self.mean = self.mean + difference * batch_count / count
        self.count = count
        # The deviation of all rows so far, kept above 0, so that one can divide by it.
        self.std = (self.squares / self.count + 1e-8).sqrt()


class RewardScaler:
    """Divides rewards by the standard deviation of the discounted return.

    For every environment it keeps the discounted return of the running episode. One deviation is
    computed of all these returns, over all environments and all steps so far.
    """

    def __init__(self, num_envs: int, discount: float) -> None:
        # `normalization.RunningMeanStd()` is the lab's answer to exercise 3.10, here for numbers.
        self.discount = discount
        self.statistics = normalization.RunningMeanStd()
        self.returns = torch.zeros(num_envs, dtype=torch.float64)  # (N,)

    def update(self, rewards: Tensor, ended: Tensor) -> None:
        """Take in the rewards of a rollout and the ends of episodes, (T, N) each."""
        for reward, end in zip(rewards, ended, strict=True):
            # The return so far loses value with every step, and gains the new reward.
            self.returns = self.returns * self.discount + reward  # (N,)
            # Take it into the statistics.
            self.statistics.update(self.returns)
            # Where an episode ended, the next one starts from 0.
            self.returns = self.returns * ~end  # (N,)

    def __call__(self, rewards: Tensor) -> Tensor:
        """Return scaled rewards in the same shape. Nothing is subtracted."""
        return rewards / self.statistics.std
