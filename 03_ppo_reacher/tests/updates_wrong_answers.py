"""Wrong answers to the exercises of lesson 3, each the right one with one mistake switched on."""

from collections.abc import Set

import torch
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def compute_gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
    wrong: Set[str] = NONE,
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation with the given mistakes."""
    ended = terminated | truncated
    nothing = torch.zeros_like(ended)
    following = next_values.clone()
    if "reset_value" in wrong:
        following[:-1] = values[1:]
    if "own_value" in wrong:
        following = values.clone()
    if "no_last_bootstrap" in wrong:
        following[-1] = 0

    dead = terminated
    if "trunc_is_death" in wrong:
        dead = ended
    if "no_death_mask" in wrong:
        dead = nothing
    if "wrong_death_flag" in wrong:
        dead = truncated
    gamma = 1.0 if "no_gamma_in_delta" in wrong else discount
    deltas = rewards + gamma * following * ~dead
    if "no_baseline" not in wrong:
        deltas = deltas - values

    cut = ended
    if "no_cut" in wrong:
        cut = nothing
    if "cut_only_terminated" in wrong:
        cut = terminated
    if "cut_only_truncated" in wrong:
        cut = truncated
    if "inverted_mask" in wrong:
        cut = ~ended
    if "cut_one_late" in wrong:
        cut = torch.cat([cut[1:], nothing[:1]])
    decay = 1.0
    if "no_gamma_in_decay" not in wrong:
        decay *= discount
    if "no_lambda" not in wrong:
        decay *= gae_lambda
    if "own_index" in wrong:
        decay = 0.0

    advantages = torch.zeros_like(deltas)
    last = torch.zeros_like(deltas[0])
    order = range(len(deltas)) if "forwards" in wrong else reversed(range(len(deltas)))
    for t in order:
        last = deltas[t] + decay * ~cut[t] * last
        advantages[t] = last

    base = next_values if "returns_plus_next" in wrong else values
    if "returns_without_values" in wrong:
        return advantages, advantages
    if "returns_discounted" in wrong:
        return advantages, discount * advantages + base
    return advantages, advantages + base


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    clip_ratio: float,
    wrong: Set[str] = NONE,
) -> Tensor:
    """Clipped surrogate objective with the given mistakes."""
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
    if "not_negated" not in wrong:
        objective = -objective
    if "not_reduced" in wrong:
        return objective
    return objective.sum() if "sum_for_mean" in wrong else objective.mean()


WRONG = {
    "compute_gae": Wrong(
        {"compute_gae": compute_gae},
        switches(compute_gae),
        exclusive=(
            {"reset_value", "own_value"},
            {"trunc_is_death", "no_death_mask", "wrong_death_flag"},
            {"no_cut", "cut_only_terminated", "cut_only_truncated", "inverted_mask", "own_index"},
            {"cut_one_late", "own_index"},
            {"no_lambda", "no_gamma_in_decay", "own_index"},
            {"own_index", "forwards"},
            {"returns_plus_next", "returns_without_values", "returns_discounted"},
        ),
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
            {"not_reduced", "sum_for_mean"},
        ),
    ),
}
