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
    advantage, rows = rewards.new_zeros(rewards.shape[1:]), []
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


def monte_carlo(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Sum up the discounted rewards to the end of the episode, and subtract the values."""
    ended = terminated | truncated
    returns = torch.stack(_rows(rewards, 0 * values, 0 * values, ended, ended, discount, 1.0))
    return returns - values, returns


def monte_carlo_to_terminal_states(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """The same sums of rewards, which go on after a time limit."""
    return monte_carlo(rewards, values, next_values, terminated, terminated, discount, gae_lambda)


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
    "monte_carlo": {"compute_gae": monte_carlo},
    "monte_carlo_to_terminal_states": {"compute_gae": monte_carlo_to_terminal_states},
}
VALUE_TARGETS = {"values_of_next_row": {"value_targets": values_of_next_row}}
