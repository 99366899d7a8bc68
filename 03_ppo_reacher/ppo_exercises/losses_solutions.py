"""Losses as functions: the right answers of exercises.

The lab has them in another form: tests compare them with `ppo.py`.

# B transitions of a batch
"""

import torch
from torch import Tensor


def normalize_advantages(advantages: Tensor) -> Tensor:
    """Return advantages (B,) shifted and scaled to mean 0 and standard deviation 1.

    If all of them are equal, or if there is only one, the result is zeros.
    """
    # Shift them: the mean becomes 0.
    centered = advantages - advantages.mean()  # (B,)
    # Scale them: the deviation becomes 1. It may have been 0.
    std = centered.square().mean().sqrt()  # a scalar
    return centered / (std + 1e-8)  # (B,)


def value_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of the critic, L^VF of eq. 9 (Schulman et al. 2017), a scalar.

    `predictions` are (B,) or (B, 1); `targets` (B,) are held fixed: no gradient flows to them.
    """
    # One error for each prediction: both sides must have the same shape.
    errors = predictions.reshape(-1) - targets.detach()  # (B,)
    # A large error counts more than several small ones.
    return torch.mean(errors.square())
