"""Wrong answers to the exercises on advantages, each the right one with one mistake switched on."""

from collections.abc import Set

import torch
import updates_plain_answers as alone
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def _following(values: Tensor, next_values: Tensor, wrong: Set[str]) -> Tensor:
    """Values of the next states, with the given mistakes."""
    following = next_values.clone()
    if "reset_value" in wrong:
        following[:-1] = values[1:]
    if "own_value" in wrong:
        following = values.clone()
    if "one_row_late" in wrong:
        following[:-1] = next_values[1:]
    if "no_last_bootstrap" in wrong:
        following[-1] = 0
    return following


def _dead(terminated: Tensor, truncated: Tensor, wrong: Set[str]) -> Tensor:
    """Places whose next value is 0, with the given mistakes."""
    if "time_limit_is_death" in wrong:
        return terminated | truncated
    if "no_mask" in wrong:
        return torch.zeros_like(terminated)
    if "wrong_flag" in wrong:
        return truncated
    if "both_needed" in wrong:
        return terminated & truncated
    if "time_limit_saves" in wrong:
        return terminated & ~truncated
    if "one_flag_only" in wrong:
        return terminated ^ truncated
    if "any_environment" in wrong:
        return terminated.any(1, keepdim=True).expand_as(terminated)
    if "mask_one_late" in wrong:
        return torch.cat([terminated[1:], torch.zeros_like(terminated[:1])])
    if "mask_one_early" in wrong:
        return torch.cat([torch.zeros_like(terminated[:1]), terminated[:-1]])
    return ~terminated if "inverted" in wrong else terminated


def td_errors(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    wrong: Set[str] = NONE,
) -> Tensor:
    """TD errors with the given mistakes."""
    dead = _dead(terminated, truncated, wrong)
    if "in_place" in wrong:
        next_values[dead] = 0
    following = _following(values, next_values, wrong)
    gamma = 1.0 if "no_gamma" in wrong else discount
    if "gamma_squared" in wrong:
        gamma = discount**2
    targets = rewards + gamma * following * ~dead
    if "no_reward" in wrong:
        targets = gamma * following * ~dead
    if "reward_lost" in wrong:
        targets = (rewards + gamma * following) * ~dead
    if "reward_discounted" in wrong:
        targets = gamma * (rewards + following * ~dead)
    baseline = values
    if "no_baseline" in wrong:
        baseline = torch.zeros_like(values)
    if "baseline_added" in wrong:
        baseline = -values
    if "baseline_discounted" in wrong:
        baseline = discount * values
    if "baseline_masked" in wrong:
        baseline = values * ~dead
    deltas = targets - baseline
    if "ends_zeroed" in wrong:
        deltas = deltas * ~(terminated | truncated)
    if "squared" in wrong:
        deltas = deltas.square()
    if "mean_over_environments" in wrong:
        deltas = deltas.mean(-1)
    return -deltas if "negated" in wrong else deltas


TD_MISTAKES = {  # of `compute_gae`, and their names in `td_errors`
    "trunc_is_death": "time_limit_is_death",
    "no_death_mask": "no_mask",
    "wrong_death_flag": "wrong_flag",
    "death_needs_both": "both_needed",
    "time_limit_saves": "time_limit_saves",
    "death_needs_one": "one_flag_only",
    "reward_lost": "reward_lost",
    "in_place": "in_place",
    "reward_discounted": "reward_discounted",
    "baseline_masked": "baseline_masked",
    "no_gamma_in_delta": "no_gamma",
    "no_last_bootstrap": "no_last_bootstrap",
    "reset_value": "reset_value",
    "own_value": "own_value",
    "no_baseline": "no_baseline",
}


def _cut(terminated: Tensor, truncated: Tensor, wrong: Set[str]) -> Tensor:
    """Places where the sum stops, with the given mistakes."""
    ended = terminated | truncated
    cut = ended
    if "no_cut" in wrong:
        cut = torch.zeros_like(ended)
    if "cut_only_terminated" in wrong:
        cut = terminated
    if "cut_only_truncated" in wrong:
        cut = truncated
    if "cut_needs_both" in wrong:
        cut = terminated & truncated
    if "cut_needs_one" in wrong:
        cut = terminated ^ truncated
    if "inverted_mask" in wrong:
        cut = ~ended
    if "any_environment_cuts" in wrong:
        cut = ended.any(1, keepdim=True).expand_as(ended)
    if "cut_one_late" in wrong:
        cut = torch.cat([cut[1:], torch.zeros_like(cut[:1])])
    return torch.cat([torch.zeros_like(cut[:1]), cut[:-1]]) if "cut_one_early" in wrong else cut


def _decay(discount: float, gae_lambda: float, wrong: Set[str]) -> float:
    """Weight of the next advantage, with the given mistakes."""
    decay = 1.0
    if "no_gamma_in_decay" not in wrong:
        decay *= discount
    if "no_lambda" not in wrong:
        decay *= gae_lambda
    if "gamma_twice" in wrong:
        decay *= discount
    if "lambda_twice" in wrong:
        decay *= gae_lambda
    return 0.0 if "own_index" in wrong else decay


def _sum_of_rewards(rewards: Tensor, ended: Tensor, discount: float) -> Tensor:
    """Discounted rewards up to the end of the episode, or of the rollout."""
    returns = torch.zeros_like(rewards)
    last = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        last = rewards[t] + discount * ~ended[t] * last
        returns[t] = last
    return returns


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
    td_mistakes = {TD_MISTAKES[id] for id in wrong if id in TD_MISTAKES}
    deltas = td_errors(rewards, values, next_values, terminated, truncated, discount, td_mistakes)
    cut = _cut(terminated, truncated, wrong)
    decay = _decay(discount, gae_lambda, wrong)
    advantages = torch.zeros_like(deltas)
    last = next_values[-1] if "starts_from_value" in wrong else torch.zeros_like(deltas[0])
    order = range(len(deltas)) if "forwards" in wrong else reversed(range(len(deltas)))
    for t in order:
        last = deltas[t] + decay * ~cut[t] * last
        if "delta_cut_too" in wrong:
            last = last * ~cut[t]
        advantages[t] = last

    base = next_values if "returns_plus_next" in wrong else values
    returns = advantages + base
    if "returns_without_values" in wrong:
        returns = advantages
    if "returns_discounted" in wrong:
        returns = discount * advantages + base
    if "returns_of_one_step" in wrong:
        returns = rewards + discount * next_values * ~terminated
    if "returns_are_rewards" in wrong:
        returns = _sum_of_rewards(rewards, terminated | truncated, discount)
    if "normalized" in wrong:
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
    if "normalized_by_n_minus_1" in wrong:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    return (returns, advantages) if "results_swapped" in wrong else (advantages, returns)


def value_targets(advantages: Tensor, values: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Targets of the critic, with the given mistakes."""
    base = values
    if "plus_next" in wrong:
        base = torch.cat([values[1:], torch.zeros_like(values[:1])])
    if "next_row_wrapped" in wrong:
        base = values.roll(-1, 0)
    if "plus_previous" in wrong:
        base = torch.cat([torch.zeros_like(values[:1]), values[:-1]])
    if "normalized" in wrong:
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
    if "summed_up" in wrong:
        advantages = advantages.flip(0).cumsum(0).flip(0)
    if "in_place" in wrong:
        advantages += base
        return advantages
    targets = advantages + base
    if "advantage_alone" in wrong:
        targets = advantages.clone()
    if "values_alone" in wrong:
        targets = base.clone()
    if "minus_values" in wrong:
        targets = advantages - base
    if "minus_advantages" in wrong:
        targets = base - advantages
    if "product" in wrong:
        targets = base * advantages
    if "halved" in wrong:
        targets = targets / 2
    if "mean_over_environments" in wrong:
        targets = targets.mean(-1)
    return targets.flatten() if "flattened" in wrong else targets


FUTURES = {"no_reward", "reward_lost", "reward_discounted"}
BASELINES = {"no_baseline", "baseline_added", "baseline_discounted", "baseline_masked"}
MASKS = {
    "time_limit_is_death",
    "no_mask",
    "wrong_flag",
    "both_needed",
    "time_limit_saves",
    "one_flag_only",
    "any_environment",
    "mask_one_late",
    "mask_one_early",
    "inverted",
}
CUTS = {
    "no_cut",
    "cut_only_terminated",
    "cut_only_truncated",
    "cut_needs_both",
    "cut_needs_one",
    "inverted_mask",
    "any_environment_cuts",
}
RETURNS = {
    "returns_plus_next",
    "returns_without_values",
    "returns_discounted",
    "returns_of_one_step",
    "returns_are_rewards",
}
WRONG = {
    "td_errors": Wrong(
        {"td_errors": td_errors},
        switches(_following, _dead, td_errors),
        exclusive=(
            MASKS,
            FUTURES,
            BASELINES,
            {"no_gamma", "gamma_squared"},
            {"own_value", "reset_value", "one_row_late"},
            {"squared", "negated"},
            *({"in_place", other} for other in ("no_mask", "own_value", "baseline_masked", "reward_lost")),
            *({"ends_zeroed", other} for other in ("in_place", "reward_lost", "baseline_masked", *MASKS)),
            *({"no_mask", other} for other in ("baseline_masked", "reward_lost")),
        ),
        plain=alone.TD_ERRORS,
    ),
    "compute_gae": Wrong(
        {"compute_gae": compute_gae},
        (*TD_MISTAKES, *switches(_cut, _decay, compute_gae)),
        exclusive=(
            {"reset_value", "own_value"},
            {
                "trunc_is_death",
                "no_death_mask",
                "wrong_death_flag",
                "death_needs_both",
                "time_limit_saves",
                "death_needs_one",
            },
            {"reward_lost", "reward_discounted"},
            {"no_baseline", "baseline_masked"},
            CUTS,
            {"cut_one_late", "cut_one_early"},
            RETURNS,
            {"no_lambda", "lambda_twice"},
            {"no_gamma_in_decay", "gamma_twice"},
            {"results_swapped", "returns_without_values"},
            {"normalized", "normalized_by_n_minus_1"},
            *(
                {"in_place", other}
                for other in (
                    "no_death_mask",
                    "own_value",
                    "baseline_masked",
                    "reward_lost",
                    "returns_plus_next",
                )
            ),
            *({"no_death_mask", other} for other in ("baseline_masked", "reward_lost")),
            *({"delta_cut_too", other} for other in CUTS),
            *(
                {"own_index", other}
                for other in (
                    "no_lambda",
                    "no_gamma_in_decay",
                    "gamma_twice",
                    "lambda_twice",
                    "forwards",
                    "cut_one_late",
                    "cut_one_early",
                    "starts_from_value",
                    *CUTS,
                )
            ),
        ),
        plain=alone.COMPUTE_GAE,
    ),
    "value_targets": Wrong(
        {"value_targets": value_targets},
        switches(value_targets),
        exclusive=(
            {"plus_next", "plus_previous", "next_row_wrapped"},
            {"advantage_alone", "values_alone", "minus_values", "minus_advantages", "product", "in_place"},
            *({"advantage_alone", other} for other in ("plus_next", "plus_previous", "next_row_wrapped")),
            *({"values_alone", other} for other in ("normalized", "summed_up")),
            *(
                {"in_place", other}
                for other in ("normalized", "summed_up", "halved", "flattened", "mean_over_environments")
            ),
            {"flattened", "mean_over_environments"},
        ),
        plain=alone.VALUE_TARGETS,
    ),
}
