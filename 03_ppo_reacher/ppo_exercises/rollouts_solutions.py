"""The Gaussian policy as functions: the right answers of exercises.

The lab has them in another form: tests compare them with `networks.py` and `rollout.py`.

# B batch, A action_dim
"""

import math

import torch
from torch import Tensor


def log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Log-density of actions under a Gaussian policy whose dimensions are independent.

    mean (B, A), log_std (A,), the logarithm of the standard deviation, action (B, A) -> (B,).
    """
    # The distance of the action from the mean, measured in standard deviations.
    z = (action - mean) / log_std.exp()  # (B, A)
    # The logarithm of the normal density, for each dimension on its own.
    log_densities = -0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)  # (B, A)
    # The dimensions are independent: the density of the action is the product of theirs.
    return log_densities.sum(-1)  # (B, A) -> (B,)


def sample_action(
    mean: Tensor,
    log_std: Tensor,
    noise: Tensor,
    low: float | Tensor,
    high: float | Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw actions from a Gaussian policy, and clip them to the bounds for the environment.

    Args:
        mean: of the policy, (B, A).
        log_std: logarithm of its standard deviation, (A,).
        noise: drawn from the standard normal distribution, (B, A).
        low, high: bounds of the actions, numbers or (A,).

    Returns:
        the action that the rollout stores (B, A), the action that the environment receives (B, A),
        and the log-density of the stored action (B,).
    """
    # The action: its mean, and noise as large as the standard deviation.
    std = log_std.exp()  # (A,)
    action = mean + std * noise  # (B, A)
    # The environment accepts actions within the bounds only.
    clipped = torch.clamp(torch.clamp(action, min=low), max=high)  # (B, A)
    # The log-density of the stored action under the policy that drew it, summed over dimensions.
    z = (action - mean) / std  # (B, A)
    log_densities = -0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)  # (B, A)
    return action, clipped, log_densities.sum(-1)  # (B, A) -> (B,)
