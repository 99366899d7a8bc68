"""Right answers to the exercise on PPO's update in other styles than the lab's: all must pass."""

from typing import Any

import torch
from torch import Tensor


def _loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float) -> Tensor:
    ratio = torch.exp(log_probs - old_log_probs)
    first = -advantages * ratio
    second = -advantages * torch.clamp(ratio, 1 - clip_ratio, 1 + clip_ratio)
    return torch.max(first, second).mean()


def by_reordering(
    policy: Any,
    optimizer: Any,
    observations: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    orders: Any,
    num_minibatches: int,
    clip_ratio: float,
) -> None:
    """All tensors are reordered once an epoch, and cut into chunks; the gradient is zeroed after the step."""
    for order in orders:
        tensors = [
            tensor[order].chunk(num_minibatches) for tensor in (observations, actions, old_log_probs, advantages)
        ]
        for seen, acted, old, gains in zip(*tensors, strict=True):
            _loss(policy.log_prob(seen, acted), old, gains, clip_ratio).backward()
            optimizer.step()
            optimizer.zero_grad()


def by_size(
    policy: Any,
    optimizer: Any,
    observations: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    orders: Any,
    num_minibatches: int,
    clip_ratio: float,
) -> list[float]:
    """Slices of a size that is rounded down, so that a rest makes one minibatch more; returns the losses."""
    size, losses = len(observations) // num_minibatches, []
    for epoch in range(len(orders)):
        for start in range(0, len(observations), size):
            rows = orders[epoch][start : start + size]
            loss = _loss(policy.log_prob(observations[rows], actions[rows]), old_log_probs[rows],
                         advantages[rows], clip_ratio)  # fmt: skip
            policy.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def by_whole_batch(
    policy: Any,
    optimizer: Any,
    observations: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    orders: Any,
    num_minibatches: int,
    clip_ratio: float,
) -> None:
    """The log-probabilities of all transitions before each step, of which a minibatch is taken."""
    for order in orders:
        size = len(order) // num_minibatches
        for number in range(num_minibatches):
            end = None if number == num_minibatches - 1 else (number + 1) * size
            rows = order[number * size : end].tolist()
            log_probs = policy.log_prob(observations, actions)
            total = torch.zeros((), dtype=log_probs.dtype)
            for row in rows:
                ratio = (log_probs[row] - old_log_probs[row]).exp()
                gain = advantages[row]
                limit = 1 + clip_ratio if gain > 0 else 1 - clip_ratio
                total = total - torch.minimum(ratio * gain, limit * gain) / len(rows)
            optimizer.zero_grad(set_to_none=False)
            total.backward()
            optimizer.step()


RIGHT = {
    "ppo_epochs": {
        "reordering": {"ppo_epochs": by_reordering},
        "size": {"ppo_epochs": by_size},
        "whole batch": {"ppo_epochs": by_whole_batch},
    },
}
