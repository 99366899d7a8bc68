"""More wrong answers to the exercises on advantages: each a function of its own, not to be combined."""

import torch
from torch import Tensor


def _rows(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> list[Tensor]:
    """Return the right advantages, row by row."""
    advantage, rows = torch.zeros_like(rewards[0]), []
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + discount * next_values[t] * ~terminated[t] - values[t]
        advantage = delta + discount * gae_lambda * ~(terminated[t] | truncated[t]) * advantage
        rows.insert(0, advantage)
    return rows


def bool_subtracted(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, discount: float
) -> Tensor:
    """Subtract a boolean mask from 1."""
    return rewards + discount * next_values * (1 - terminated) - values


def integers_inverted(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, discount: float
) -> Tensor:
    """Invert integers bit by bit."""
    return rewards + discount * next_values * ~terminated.int() - values


def not_reversed(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Leave the advantages in the order in which they were computed."""
    advantages = _rows(rewards, values, next_values, terminated, truncated, discount, gae_lambda)
    turned = torch.stack(advantages[::-1])
    return turned, turned + values


def one_tensor_for_all(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Collect the same tensor for every row."""
    advantages = _rows(rewards, values, next_values, terminated, truncated, discount, gae_lambda)
    repeated = torch.stack([advantages[0]] * len(advantages))
    return repeated, repeated + values


def last_row_skipped(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Leave the advantage of the last row at 0."""
    given = rewards[:-1], values[:-1], next_values[:-1], terminated[:-1], truncated[:-1]
    advantages = torch.stack([*_rows(*given, discount, gae_lambda), torch.zeros_like(rewards[0])])
    return advantages, advantages + values


def values_of_next_row(advantages: Tensor, values: Tensor) -> Tensor:
    """Add the values of the next row, and its own to the last."""
    return advantages + torch.cat([values[1:], values[-1:]])


TD_ERRORS = {
    "bool_subtracted": {"td_errors": bool_subtracted},
    "integers_inverted": {"td_errors": integers_inverted},
}
COMPUTE_GAE = {
    "not_reversed": {"compute_gae": not_reversed},
    "one_tensor_for_all": {"compute_gae": one_tensor_for_all},
    "last_row_skipped": {"compute_gae": last_row_skipped},
}
VALUE_TARGETS = {"values_of_next_row": {"value_targets": values_of_next_row}}
