"""Right answers to the exercises of lesson 3 in other styles than the lab's: all must pass."""

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


def loss_by_maximum(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float) -> Tensor:
    """The maximum of the negated objectives, as other libraries write it."""
    ratio = torch.exp(log_probs - old_log_probs)
    first = -advantages * ratio
    second = -advantages * torch.clamp(ratio, 1 - clip_ratio, 1 + clip_ratio)
    return torch.max(first, second).mean()


def loss_by_sign(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float) -> Tensor:
    """Good actions have an upper limit, bad ones a lower one."""
    ratio = log_probs.exp() / old_log_probs.exp()
    limited = torch.where(
        advantages > 0,
        torch.minimum(ratio, torch.full_like(ratio, 1 + clip_ratio)),
        torch.maximum(ratio, torch.full_like(ratio, 1 - clip_ratio)),
    )
    return -(limited * advantages).sum() / len(advantages)


def loss_by_loop(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float) -> Tensor:
    """One action after the other."""
    total = torch.zeros((), dtype=log_probs.dtype)
    for new, old, advantage in zip(log_probs, old_log_probs, advantages, strict=True):
        ratio = (new - old).exp()
        clipped = min(max(ratio, torch.ones_like(ratio) - clip_ratio), torch.ones_like(ratio) + clip_ratio)
        total = total - min(ratio * advantage, clipped * advantage)
    return total / len(log_probs)


RIGHT = {
    "compute_gae": {
        "matrix": {"compute_gae": gae_by_matrix},
        "numbers": {"compute_gae": gae_by_numbers},
        "in the loop": {"compute_gae": gae_inside_the_loop},
    },
    "policy_loss": {
        "maximum": {"policy_loss": loss_by_maximum},
        "sign": {"policy_loss": loss_by_sign},
        "loop": {"policy_loss": loss_by_loop},
    },
}
