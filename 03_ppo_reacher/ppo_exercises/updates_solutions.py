"""The pieces of `compute_gae` as functions: the right answers of exercises.

The lab has them in another form: tests compare them with `ppo.py`.

# T steps of a rollout, N environments
"""

import torch
from torch import Tensor


def td_errors(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
) -> Tensor:
    """TD error of every step: how much better it was than the critic expected (T, N).

    Args:
        rewards, values: of each step, (T, N) each.
        next_values: values of the true next observations, (T, N).
        terminated: the episode reached a terminal state, whose value is 0, (T, N) bool.
        truncated: the time limit ended the episode, (T, N) bool. Both flags may be set.
        discount: gamma.
    """
    # The value of what comes after the step: nothing comes after a terminal state.
    future_values = torch.where(terminated, 0.0, next_values)  # (T, N)
    # What was received and what is to come, compared with what was expected.
    return rewards + discount * future_values - values  # (T, N)


def value_targets(advantages: Tensor, values: Tensor) -> Tensor:
    """Targets of the critic (T, N): estimates of the return of each step.

    `advantages` (T, N) say how much more than `values` (T, N), the critic's old prediction, a step
    turned out to be worth.
    """
    # What the critic predicted, and by how much that was too low.
    return advantages + values
