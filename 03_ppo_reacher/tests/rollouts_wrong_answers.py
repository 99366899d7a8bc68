"""Wrong answers to the exercises on rollouts, each the right one with one mistake switched on."""

import math
from collections.abc import Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def _constant(wrong: Set[str]) -> float:
    """The term log(sqrt(2 pi)) of the normal distribution, with the given mistakes."""
    if "no_constant" in wrong:
        return 0.0
    if "constant_not_halved" in wrong:
        return math.log(2 * math.pi)
    if "constant_not_logged" in wrong:
        return math.sqrt(2 * math.pi)
    if "constant_added" in wrong:
        return -0.5 * math.log(2 * math.pi)
    if "pi_for_two_pi" in wrong:
        return 0.5 * math.log(math.pi)
    return 0.5 * math.log(2 * math.pi)


def _spread(log_std: Tensor, wrong: Set[str]) -> Tensor:
    """The term log(std) of the normal distribution, with the given mistakes."""
    if "no_log_std" in wrong:
        return torch.zeros_like(log_std)
    if "sign_of_log_std" in wrong:
        return -log_std
    if "std_not_logged" in wrong:
        return log_std.exp()
    if "std_is_variance" in wrong:
        return 0.5 * log_std
    if "log_variance" in wrong:
        return 2 * log_std
    if "half_log_std" in wrong:
        return 0.5 * log_std
    return log_std.sum() if "summed_twice" in wrong else log_std


def _exponent(mean: Tensor, log_std: Tensor, action: Tensor, wrong: Set[str]) -> Tensor:
    """The term -z^2 / 2 of the normal distribution, with the given mistakes."""
    std = log_std if "log_std_for_std" in wrong else log_std.exp()
    z = (action - mean) / std
    if "not_divided" in wrong:
        z = action - mean
    if "multiplied" in wrong:
        z = (action - mean) * std
    if "mean_ignored" in wrong:
        z = action / std
    if "one_std" in wrong:
        z = (action - mean) / std[:1]
    squares = z.square()
    if "sigma_for_variance" in wrong or "std_is_variance" in wrong:
        squares = (action - mean).square() / std
    if "no_square" in wrong:
        squares = z
    if "square_of_sum" in wrong:
        squares = z.sum(-1, keepdim=True).square() / z.shape[-1]
    half = 1.0 if "no_half" in wrong else 0.5
    return half * squares if "grows" in wrong else -half * squares


def log_prob(mean: Tensor, log_std: Tensor, action: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Log-density of a Gaussian policy with the given mistakes."""
    constant, spread = _constant(wrong), _spread(log_std, wrong)
    exponent = _exponent(mean, log_std, action, wrong)
    logs = exponent - spread - (0.0 if "constant_once" in wrong else constant)
    if "underflow" in wrong:
        logs = (exponent.exp() * (-spread).exp() * math.exp(-constant)).log()
    dim = 0 if "sum_over_batch" in wrong else -1
    result = logs.mean(dim) if "mean_for_sum" in wrong else logs.sum(dim)
    if "constant_once" in wrong:
        result = result - constant
    if "sum_over_all" in wrong:
        result = logs.sum()
    if "keepdim" in wrong:
        result = result[:, None]
    if "no_sum" in wrong:
        result = logs
    if "density" in wrong:
        result = result.exp()
    return -result if "negated" in wrong else result


def _clipped(action: Tensor, low: Any, high: Any, wrong: Set[str]) -> Tensor:
    """An action clipped to the bounds, with the given mistakes."""
    if "world_gets_unclipped" in wrong:
        return action
    if "unit_bounds" in wrong:
        low, high = -1.0, 1.0
    if "symmetric_bounds" in wrong:
        low = -high
    if "bounds_of_first" in wrong and isinstance(low, Tensor):
        low, high = low[0], high[0]
    if "lower_only" not in wrong:
        action = action.clamp(max=high)
    return action if "upper_only" in wrong else action.clamp(min=low)


def sample_action(
    mean: Tensor, log_std: Tensor, noise: Tensor, low: Any, high: Any, wrong: Set[str] = NONE
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw, clip and score actions, with the given mistakes."""
    std = log_std.exp()
    scale = std
    if "log_std_for_std" in wrong:
        scale = log_std
    if "noise_by_variance" in wrong:
        scale = std.square()
    if "noise_unscaled" in wrong:
        scale = torch.ones_like(std)
    drawn = noise
    if "one_noise_for_joints" in wrong:
        drawn = noise[:, :1].expand_as(noise)
    if "one_noise_for_rows" in wrong:
        drawn = noise[:1].expand_as(noise)
    if "noise_clipped" in wrong:
        drawn = noise.clamp(min=low).clamp(max=high)
    if "no_noise" in wrong:
        drawn = torch.ones_like(noise)
    if "mean_only" in wrong:
        drawn = torch.zeros_like(noise)
    if "mean_clipped" in wrong:
        mean = mean.clamp(min=low).clamp(max=high)
    action = mean + scale * drawn
    if "noise_subtracted" in wrong:
        action = mean - scale * drawn
    scored = action
    if "squashed_uncorrected" in wrong:
        action = action.tanh()
    clipped = _clipped(action, low, high, wrong)
    if "scores_the_clipped" in wrong:
        scored = clipped
    if "scores_the_mean" in wrong:
        scored = mean
    z = noise if "scores_the_noise" in wrong else (scored - mean) / std
    if "sigma_for_variance" in wrong:
        z = (scored - mean) / std.sqrt()
    spread = torch.zeros_like(log_std) if "scores_the_noise" in wrong else log_std
    logs = -0.5 * z.square() - spread - _constant(wrong)
    result = logs.mean(-1) if "mean_for_sum" in wrong else logs.sum(-1)
    if "no_sum" in wrong:
        result = logs
    if "density" in wrong:
        result = result.exp()
    if "stores_the_clipped" in wrong:
        action = clipped
    return (clipped, action, result) if "results_swapped" in wrong else (action, clipped, result)


def true_next_observations(next_observations: Any, info: Any, wrong: Set[str] = NONE) -> Any:
    """Observations that the actions led to, with the given mistakes."""
    key = "final_observation" if "old_key" in wrong else "final_obs"
    if "reset_for_final" in wrong:
        return next_observations
    if "no_guard" not in wrong and key not in info:
        return next_observations
    final, ended = info[key], info[f"_{key}"]
    if "final_returned" in wrong:
        return final
    if "inverted_mask" in wrong:
        ended = ~ended
    true_next = next_observations if "in_place" in wrong else next_observations.copy()
    places = np.flatnonzero(ended)
    for number, place in enumerate(places[:1] if "first_only" in wrong else places):
        true_next[place] = final[number if "compressed_index" in wrong else place]
    if "all_replaced" in wrong:
        true_next[:] = final[places[0]]
    if "zeroed" in wrong:
        true_next[places] = 0.0
    if "ended_rows_only" in wrong:
        true_next = true_next[places]
    return true_next.astype(object) if "object_array" in wrong else true_next


SPREADS = {
    "no_log_std",
    "sign_of_log_std",
    "std_not_logged",
    "std_is_variance",
    "log_variance",
    "summed_twice",
    "half_log_std",
}
SQUARES = {"sigma_for_variance", "std_is_variance", "no_square"}
CONSTANTS = {
    "no_constant",
    "constant_not_halved",
    "constant_not_logged",
    "pi_for_two_pi",
    "constant_once",
    "constant_added",
}
REDUCTIONS = {"no_sum", "mean_for_sum", "sum_over_batch", "sum_over_all", "keepdim"}


def extreme_bounds(mean: Tensor, log_std: Tensor, noise: Tensor, low: Any, high: Any) -> Any:
    least, most = float(torch.as_tensor(low).min()), float(torch.as_tensor(high).max())
    return sample_action(mean, log_std, noise, least, most)


def bounds_as_numbers(mean: Tensor, log_std: Tensor, noise: Tensor, low: Any, high: Any) -> Any:
    return sample_action(mean, log_std, noise, float(low), float(high))


def squashed(mean: Tensor, log_std: Tensor, noise: Tensor, low: Any, high: Any) -> Any:
    action, _, score = sample_action(mean, log_std, noise, low, high)
    least, most = torch.as_tensor(low), torch.as_tensor(high)
    return action, least + (action.tanh() + 1) / 2 * (most - least), score


def where_on_rows(next_observations: Any, info: Any) -> Any:
    if "final_obs" not in info:
        return next_observations.copy()
    return np.where(np.asarray(info["_final_obs"])[:, None], info["final_obs"], next_observations)


WRONG = {
    "log_prob": Wrong(
        {"log_prob": log_prob},
        switches(_exponent, _spread, _constant, log_prob),
        exclusive=(
            SPREADS,
            SQUARES,
            CONSTANTS,
            REDUCTIONS,
            {"not_divided", "multiplied", "mean_ignored", "sigma_for_variance", "std_is_variance"},
            {"not_divided", "log_std_for_std"},
            {"one_std", "not_divided", "multiplied", "mean_ignored", "sigma_for_variance", "std_is_variance"},
            {"square_of_sum", "sigma_for_variance", "std_is_variance", "no_square", "no_sum", "mean_for_sum"},
            {"underflow", "constant_once"},
            {"constant_once", "no_sum"},
            {"constant_once", "sum_over_all"},
            {"underflow", "density"},
            {"sum_over_batch", "keepdim"},
        ),
    ),
    "sample_action": Wrong(
        {"sample_action": sample_action},
        (*switches(_clipped, sample_action), "no_constant"),
        exclusive=(
            {"log_std_for_std", "noise_by_variance", "noise_unscaled", "mean_only"},
            {
                "one_noise_for_joints",
                "one_noise_for_rows",
                "noise_clipped",
                "no_noise",
                "mean_only",
            },
            {"mean_only", "noise_subtracted"},
            {"scores_the_clipped", "scores_the_mean", "scores_the_noise"},
            {"scores_the_noise", "sigma_for_variance"},
            {"scores_the_mean", "sigma_for_variance"},
            {"scores_the_mean", "mean_only"},
            {"world_gets_unclipped", "unit_bounds", "symmetric_bounds", "bounds_of_first", "upper_only"},
            {"world_gets_unclipped", "unit_bounds", "symmetric_bounds", "bounds_of_first", "lower_only"},
            {"lower_only", "upper_only"},
            {"symmetric_bounds", "lower_only"},
            {"world_gets_unclipped", "stores_the_clipped"},
            {"world_gets_unclipped", "scores_the_clipped"},
            {"world_gets_unclipped", "results_swapped"},
            {"stores_the_clipped", "results_swapped"},
            {"no_sum", "mean_for_sum"},
        ),
        plain={
            "extreme_bounds": {"sample_action": extreme_bounds},
            "bounds_as_numbers": {"sample_action": bounds_as_numbers},
            "squashed": {"sample_action": squashed},
        },
    ),
    "true_next_observations": Wrong(
        {"true_next_observations": true_next_observations},
        switches(true_next_observations),
        exclusive=(
            {"reset_for_final", "old_key", "final_returned", "in_place"},
            *(
                {first, second}
                for first in ("reset_for_final", "old_key", "final_returned")
                for second in (
                    "no_guard",
                    "inverted_mask",
                    "first_only",
                    "compressed_index",
                    "all_replaced",
                    "zeroed",
                    "ended_rows_only",
                    "object_array",
                )
            ),
            {"all_replaced", "zeroed", "compressed_index"},
            {"all_replaced", "first_only"},
            {"all_replaced", "inverted_mask"},
        ),
        plain={
            "where_on_rows": {"true_next_observations": where_on_rows},
        },
    ),
}
