"""Wrong answers to the exercises on losses, each the right one with one mistake switched on."""

import math
from collections.abc import Set

import torch
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def _divisor(advantages: Tensor, wrong: Set[str]) -> Tensor:
    """The standard deviation, with the given mistakes."""
    size = len(advantages)
    centered = advantages - advantages.mean()
    squares = advantages.square().sum() if "about_zero" in wrong else centered.square().sum()
    variance = squares / (max(size - 1, 1) if "sample_deviation" in wrong else size)
    std = variance.sqrt()
    if "by_variance" in wrong:
        std = variance
    if "by_root_of_std" in wrong:
        std = std.sqrt()
    if "by_norm" in wrong:
        std = squares.sqrt()
    if "by_mean_distance" in wrong:
        std = centered.abs().mean()
    if "by_largest" in wrong:
        std = centered.abs().max()
    if "by_range" in wrong or "min_max" in wrong:
        std = advantages.max() - advantages.min()
    if "no_scale" in wrong:
        std = torch.ones_like(std)
    if "single_nan" in wrong and size == 1:
        std = std / 0
    if "no_eps" in wrong:
        return std
    return std + (0.01 if "large_eps" in wrong else 1e-8)


def normalize_advantages(advantages: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Normalized advantages, with the given mistakes."""
    mean = advantages.mean()
    if "no_shift" in wrong:
        mean = torch.zeros_like(mean)
    if "median" in wrong:
        mean = advantages.median()
    if "min_max" in wrong:
        mean = advantages.min()
    if "mean_added" in wrong:
        mean = -mean
    divisor = _divisor(advantages, wrong)
    centered = advantages - mean
    if "absolute" in wrong:
        centered = centered.abs()
    result = centered * divisor if "multiplied" in wrong else centered / divisor
    if "shift_after" in wrong:
        result = advantages / divisor - mean
    if "constant_kept" in wrong and bool((advantages == advantages[0]).all()):
        result = advantages.clone()
    if "clipped" in wrong:
        result = result.clamp(-1, 1)
    if "negated" in wrong:
        result = -result
    if "in_place" in wrong:
        return advantages.copy_(result)
    return result[:, None] if "column" in wrong else result


def _normalized(advantages: Tensor, divisor: int) -> Tensor:
    centered = advantages - advantages.mean()
    return centered / ((centered.square().sum() / divisor).sqrt() + 1e-8)


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    clip_ratio: float | None,
    wrong: Set[str] = NONE,
) -> Tensor:
    """Clipped surrogate objective with the given mistakes."""
    clip_ratio = math.inf if clip_ratio is None else clip_ratio
    if "normalized" in wrong:
        advantages = _normalized(advantages, len(advantages) - 1)
    if "normalized_by_n" in wrong:
        advantages = _normalized(advantages, len(advantages))
    if "ratio_held" in wrong:
        log_probs = log_probs.detach()
    old = log_probs.detach() if "old_not_held" in wrong else old_log_probs
    ratio = (log_probs - old).exp()
    if "log_ratio" in wrong:
        ratio = log_probs - old
    if "inverse_ratio" in wrong:
        ratio = (old - log_probs).exp()
    if "probability_ratio" in wrong:
        ratio = log_probs / old
    low, high = 1 - clip_ratio, 1 + clip_ratio
    if "clip_about_0" in wrong:
        low, high = -clip_ratio, clip_ratio
    if "clip_multiplicative" in wrong:
        low = 1 / high
    if "upper_only" in wrong:
        low = -float("inf")
    if "lower_only" in wrong:
        high = float("inf")
    gains = advantages.abs() if "absolute_advantage" in wrong else advantages
    if "positive_only" in wrong:
        gains = gains.clamp(min=0)
    if "advantages_as_column" in wrong:
        gains = gains[:, None]
    clipped = ratio.clamp(low, high)
    if "unclipped" in wrong:
        clipped = ratio
    products = ratio * gains, clipped * gains
    if "clip_advantages" in wrong:
        products = ratio * gains, (ratio * gains).clamp(low, high)
    objective = torch.minimum(*products)
    if "max_for_min" in wrong:
        objective = torch.maximum(*products)
    if "min_before_advantage" in wrong:
        objective = torch.minimum(ratio, clipped) * gains
    if "clipped_only" in wrong:
        objective = products[1]
    if "zero_outside" in wrong:
        objective = products[0] * ((ratio >= low) & (ratio <= high))
    if "minimum_of_means" in wrong:
        objective = torch.minimum(products[0].mean(), products[1].mean())
    if "not_negated" not in wrong:
        objective = -objective
    if "not_reduced" in wrong:
        return objective
    return objective.sum() if "sum_for_mean" in wrong else objective.mean()


def value_loss(predictions: Tensor, targets: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Loss of the critic, with the given mistakes."""
    if "target_not_held" not in wrong:
        targets = targets.detach()
    if "prediction_held" in wrong:
        predictions = predictions.detach()
    if "targets_as_column" in wrong:
        errors = predictions - targets[:, None]
    elif "outer" in wrong:
        errors = predictions - targets
    else:
        errors = predictions.reshape(-1) - targets
    losses = errors.square()
    if "absolute" in wrong:
        losses = errors.abs()
    if "huber" in wrong:
        losses = torch.where(errors.abs() < 1, 0.5 * errors.square(), errors.abs() - 0.5)
    if "not_squared" in wrong:
        losses = errors
    loss = losses.sum() if "sum" in wrong else losses.mean()
    if "squared_mean" in wrong:
        loss = errors.mean().square()
    if "variance" in wrong:
        loss = errors.var(correction=0)
    if "not_reduced" in wrong:
        loss = losses
    if "root" in wrong:
        loss = loss.sqrt()
    if "half" in wrong:
        loss = loss / 2
    if "doubled" in wrong:
        loss = loss * 2
    return -loss if "negated" in wrong else loss


SCALES = {
    "by_variance",
    "by_root_of_std",
    "by_norm",
    "by_mean_distance",
    "by_largest",
    "by_range",
    "min_max",
    "no_scale",
}
SQUARES = {"absolute", "huber", "not_squared", "squared_mean", "variance", "root"}


def mean_divided(advantages: Tensor) -> Tensor:
    return advantages - advantages.mean() / (advantages.std(correction=0) + 1e-8)


def log_probs_for_ratio(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float) -> Tensor:
    return -(log_probs * advantages).mean()


def second_dimension_squeezed(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions.squeeze(1) - targets.detach()).square().mean()


WRONG = {
    "normalize_advantages": Wrong(
        {"normalize_advantages": normalize_advantages},
        switches(_divisor, normalize_advantages),
        exclusive=(
            SCALES,
            {"no_shift", "median", "min_max", "mean_added", "shift_after"},
            {"no_eps", "large_eps"},
            *({"about_zero", other} for other in ("by_mean_distance", "by_largest", "by_range", "min_max", "no_scale")),
            *({"no_scale", other} for other in ("no_eps", "large_eps", "multiplied", "shift_after")),
            *({"multiplied", other} for other in ("no_eps", "large_eps")),
            {"min_max", "absolute"},
            {"shift_after", "absolute"},
            {"absolute", "clipped"},
            {"in_place", "column"},
        ),
        readings=("sample_deviation",),
        plain={
            "mean_divided": {"normalize_advantages": mean_divided},
        },
    ),
    "policy_loss": Wrong(
        {"policy_loss": policy_loss},
        switches(policy_loss),
        exclusive=(
            {"log_ratio", "inverse_ratio", "probability_ratio"},
            {
                "clip_about_0",
                "clip_multiplicative",
                "upper_only",
                "lower_only",
                "unclipped",
                "clip_advantages",
            },
            {"max_for_min", "min_before_advantage", "clipped_only", "unclipped"},
            {"min_before_advantage", "clip_advantages"},
            {"not_reduced", "sum_for_mean", "minimum_of_means"},
            {"zero_outside", "max_for_min", "min_before_advantage", "clipped_only", "unclipped", "clip_advantages"},
            {"minimum_of_means", "max_for_min", "min_before_advantage", "clipped_only", "unclipped", "zero_outside"},
            {"minimum_of_means", "zero_outside"},
            {"absolute_advantage", "positive_only"},
            {"ratio_held", "old_not_held"},
            {"normalized", "normalized_by_n"},
        ),
        plain={
            "log_probs_for_ratio": {"policy_loss": log_probs_for_ratio},
        },
    ),
    "value_loss": Wrong(
        {"value_loss": value_loss},
        switches(value_loss),
        exclusive=(
            {"outer", "targets_as_column"},
            SQUARES,
            {"sum", "not_reduced", "squared_mean", "variance"},
            {"half", "doubled"},
        ),
        plain={
            "second_dimension_squeezed": {"value_loss": second_dimension_squeezed},
        },
    ),
}
