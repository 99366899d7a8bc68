"""Right answers to the exercises on advantages in other styles than the lab's: all must pass."""

import torch
from torch import Tensor


def gae_by_matrix(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """The sum of its definition: a matrix of weights (T, T) for every environment."""
    deltas = rewards + discount * torch.where(terminated, torch.zeros_like(values), next_values) - values
    steps = len(deltas)
    advantages = torch.zeros_like(deltas)
    for env in range(deltas.shape[1]):
        weights = torch.zeros(steps, steps, dtype=deltas.dtype)
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                weights[t, k] = weight
                if terminated[k, env] or truncated[k, env]:
                    break
                weight *= discount * gae_lambda
        advantages[:, env] = weights @ deltas[:, env]
    return advantages, advantages + values


def gae_by_numbers(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Python numbers in a reversed list, one environment after the other."""
    columns = []
    for env in range(rewards.shape[1]):
        column: list[float] = []
        for t in reversed(range(len(rewards))):
            future = 0.0 if terminated[t, env] else discount * next_values[t, env].item()
            delta = rewards[t, env].item() + future - values[t, env].item()
            ended = bool(terminated[t, env]) or bool(truncated[t, env])
            after = 0.0 if ended or not column else column[-1]
            column.append(delta + discount * gae_lambda * after)
        columns.append(column[::-1])
    advantages = torch.tensor(columns, dtype=rewards.dtype).T
    return advantages, values + advantages


def gae_inside_the_loop(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """The TD error is computed in the loop."""
    rows: list[Tensor] = []
    gae = torch.zeros_like(values[0])
    for t in range(len(rewards) - 1, -1, -1):
        alive = 1 - terminated[t].to(values.dtype)
        same_episode = torch.logical_not(torch.logical_or(terminated[t], truncated[t])).to(values.dtype)
        gae = rewards[t] + discount * next_values[t] * alive - values[t] + discount * gae_lambda * same_episode * gae
        rows.insert(0, gae)
    advantages = torch.stack(rows)
    return advantages, advantages + values


def td_by_choice(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, discount: float
) -> Tensor:
    """The two cases, and a choice between them."""
    del truncated
    return torch.where(terminated, rewards - values, rewards - values + discount * next_values)


def td_by_numbers(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, discount: float
) -> Tensor:
    """Python numbers, one after the other."""
    del truncated
    deltas = torch.zeros_like(rewards)
    for t in range(rewards.shape[0]):
        for env in range(rewards.shape[1]):
            future = 0.0 if terminated[t, env] else next_values[t, env].item()
            deltas[t, env] = rewards[t, env].item() + discount * future - values[t, env].item()
    return deltas


def td_by_factor(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, discount: float
) -> Tensor:
    """A discount for each step, 0 at the end."""
    del truncated
    discounts = (1 - terminated.to(rewards.dtype)) * discount
    return torch.addcmul(rewards, discounts, next_values).sub(values)


def targets_by_numbers(advantages: Tensor, values: Tensor) -> Tensor:
    """Python numbers in lists."""
    rows = zip(advantages.tolist(), values.tolist(), strict=True)
    sums = [[a + v for a, v in zip(*row, strict=True)] for row in rows]
    return torch.tensor(sums, dtype=values.dtype)


def targets_by_library(advantages: Tensor, values: Tensor) -> Tensor:
    """A function of PyTorch."""
    return torch.add(values, advantages)


def targets_stacked(advantages: Tensor, values: Tensor) -> Tensor:
    """The sum of a stack of both."""
    return torch.stack([values, advantages]).sum(dim=0).detach()


RIGHT = {
    "td_errors": {
        "choice": {"td_errors": td_by_choice},
        "numbers": {"td_errors": td_by_numbers},
        "factor": {"td_errors": td_by_factor},
    },
    "value_targets": {
        "numbers": {"value_targets": targets_by_numbers},
        "library": {"value_targets": targets_by_library},
        "stacked": {"value_targets": targets_stacked},
    },
    "compute_gae": {
        "matrix": {"compute_gae": gae_by_matrix},
        "numbers": {"compute_gae": gae_by_numbers},
        "in the loop": {"compute_gae": gae_inside_the_loop},
    },
}
