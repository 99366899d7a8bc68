"""Right answers to the exercises on losses in other styles than the lab's: all must pass."""

import statistics

import torch
from torch import Tensor, nn


def normalize_by_library(advantages: Tensor) -> Tensor:
    """PyTorch's deviation, divided by B - 1 or by 1."""
    correction = 1 if len(advantages) > 1 else 0
    return (advantages - advantages.mean()) / (advantages.std(correction=correction) + 1e-8)


def normalize_by_numbers(advantages: Tensor) -> Tensor:
    """Python numbers."""
    numbers = advantages.tolist()
    mean, std = statistics.fmean(numbers), statistics.pstdev(numbers)
    return torch.tensor([(each - mean) / std if std > 0 else 0.0 for each in numbers], dtype=advantages.dtype)


def normalize_by_layer(advantages: Tensor) -> Tensor:
    """Layer normalization without weights."""
    return nn.functional.layer_norm(advantages, advantages.shape, eps=1e-12)


def normalize_nan_to_num(advantages: Tensor) -> Tensor:
    """No epsilon; NaN becomes 0."""
    std, mean = torch.std_mean(advantages, correction=0)
    return torch.nan_to_num((advantages - mean) / std, nan=0.0)


def loss_by_maximum(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float | None) -> Tensor:
    """The maximum of the negated objectives, as other libraries write it."""
    ratio = torch.exp(log_probs - old_log_probs)
    first = -advantages * ratio
    if clip_ratio is None:
        return first.mean()
    second = -advantages * torch.clamp(ratio, 1 - clip_ratio, 1 + clip_ratio)
    return torch.max(first, second).mean()


def loss_by_sign(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float | None) -> Tensor:
    """Good actions have an upper limit, bad ones a lower one."""
    ratio = log_probs.exp() / old_log_probs.exp()
    clip_ratio = float("inf") if clip_ratio is None else clip_ratio
    limited = torch.where(
        advantages > 0,
        torch.minimum(ratio, torch.full_like(ratio, 1 + clip_ratio)),
        torch.maximum(ratio, torch.full_like(ratio, 1 - clip_ratio)),
    )
    return -(limited * advantages).sum() / len(advantages)


def loss_by_loop(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float | None) -> Tensor:
    """One action after the other."""
    total = torch.zeros((), dtype=log_probs.dtype)
    for new, old, advantage in zip(log_probs, old_log_probs, advantages, strict=True):
        ratio = (new - old).exp()
        clipped = ratio
        if clip_ratio is not None:
            clipped = min(max(ratio, torch.ones_like(ratio) - clip_ratio), torch.ones_like(ratio) + clip_ratio)
        total = total - min(ratio * advantage, clipped * advantage)
    return total / len(log_probs)


def value_by_library(predictions: Tensor, targets: Tensor) -> Tensor:
    """PyTorch's loss."""
    return nn.functional.mse_loss(predictions.view(-1), targets.detach())


def value_by_column(predictions: Tensor, targets: Tensor) -> Tensor:
    """Both sides get the shape of the predictions."""
    return ((targets.detach().reshape(predictions.shape) - predictions) ** 2).mean()


def value_by_loop(predictions: Tensor, targets: Tensor) -> Tensor:
    """One prediction after the other."""
    total = predictions.new_zeros(())
    for index in range(len(targets)):
        total = total + (predictions[index].squeeze() - targets[index].item()) ** 2
    return total / len(targets)


def value_by_dot_product(predictions: Tensor, targets: Tensor) -> Tensor:
    """The length of the vector of errors."""
    errors = predictions.flatten() - targets.data
    return errors.dot(errors) / errors.numel()


RIGHT = {
    "normalize_advantages": {
        "library": {"normalize_advantages": normalize_by_library},
        "numbers": {"normalize_advantages": normalize_by_numbers},
        "layer": {"normalize_advantages": normalize_by_layer},
        "nan to num": {"normalize_advantages": normalize_nan_to_num},
    },
    "value_loss": {
        "library": {"value_loss": value_by_library},
        "column": {"value_loss": value_by_column},
        "loop": {"value_loss": value_by_loop},
        "dot product": {"value_loss": value_by_dot_product},
    },
    "policy_loss": {
        "maximum": {"policy_loss": loss_by_maximum},
        "sign": {"policy_loss": loss_by_sign},
        "loop": {"policy_loss": loss_by_loop},
    },
}
