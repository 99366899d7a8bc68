"""Wrong answers to the exercises on many agents at once, each the right one with mistakes switched on."""

from collections.abc import Set
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def _best(values: Tensor, wrong: Set[str]) -> Tensor:
    """Return which actions are the best, (A, N)."""
    if "max_over_agents" in wrong:
        return values == values.amax(1, keepdim=True)
    if "max_of_all" in wrong:
        return values == values.max()
    if "absolute" in wrong:
        return values.abs() == values.abs().amax(0)
    if "worst" in wrong:
        return values == values.amin(0)
    if "close_counts" in wrong:
        return torch.isclose(values, values.amax(0))
    best = values == values.amax(0)
    return best & (best.long().cumsum(0) == 1) if "first" in wrong else best


def batched_act(
    values: Tensor, epsilon: Tensor, explore_draw: Tensor, tie_break_draw: Tensor, wrong: Set[str] = NONE
) -> Tensor:
    """Choose the actions of all agents with the given mistakes."""
    best = _best(values, wrong)
    if "one_explore_draw" in wrong:
        explore_draw = explore_draw[:1].expand_as(explore_draw)
    if "one_tie_break_draw" in wrong:
        tie_break_draw = tie_break_draw[:1].expand_as(tie_break_draw)
    if "one_epsilon" in wrong:
        epsilon = epsilon[:1].expand_as(epsilon)
    if "draws_swapped" in wrong:
        explore_draw, tie_break_draw = tie_break_draw, explore_draw
    if "same_draw" in wrong:
        tie_break_draw = explore_draw
    explores = explore_draw < epsilon
    if "at_most" in wrong:
        explores = explore_draw <= epsilon
    if "reversed" in wrong:
        explores = ~explores
    if "never_explores" in wrong:
        explores = torch.zeros_like(explores)
    if "always_explores" in wrong:
        explores = torch.ones_like(explores)
    candidates = best | explores
    if "and_for_or" in wrong:
        candidates = best & explores
    if "others_only" in wrong:
        candidates = torch.where(explores & ~best.all(0), ~best, best)
    number = candidates.long().cumsum(0)
    count = number[-1]
    if "all_actions_counted" in wrong:
        count = torch.full_like(count, len(values))
    position = tie_break_draw * count
    if "rounded" in wrong:
        chosen = position.round().long()
    elif "rounded_up" in wrong:
        chosen = position.ceil().long()
    elif "last_excluded" in wrong:
        chosen = (tie_break_draw * (count - 1)).long()
    elif "last_rounded" in wrong:
        chosen = (tie_break_draw * (count - 1)).round().long()
    else:
        chosen = position.long()
    if "descending" in wrong:
        chosen = count - 1 - chosen
    if "position_in_ties" in wrong:
        return chosen
    return (number < chosen if "one_early" in wrong else number <= chosen).sum(0)


def batched_update(
    q: Tensor,
    state: Tensor,
    action: Tensor,
    reward: Tensor,
    next_state: Tensor,
    nonterminal: Tensor,
    alpha: float,
    gamma: float,
    wrong: Set[str] = NONE,
) -> Tensor | None:
    """Update all tables with the given mistakes."""
    agent = torch.arange(len(q))
    following = state if "own_state" in wrong else next_state
    rows = q[:1].expand_as(q)[agent, following] if "first_table" in wrong else q[agent, following]
    best = _next_value(rows, q, action, wrong)
    gamma = 1.0 if "no_gamma" in wrong else gamma
    gamma = 1 - gamma if "one_minus_gamma" in wrong else gamma
    going_on = nonterminal.to(q.dtype)
    if "through_the_goal" in wrong:
        going_on = torch.ones_like(going_on)
    if "inverted" in wrong:
        going_on = 1 - going_on
    target = reward + gamma * going_on * best
    if "reward_lost" in wrong:
        target = going_on * target
    if "reward_missing" in wrong:
        target = gamma * going_on * best
    if "gamma_on_reward" in wrong:
        target = gamma * (reward + going_on * best)
    old = q[agent, state, action]
    alpha = 1 - alpha if "swapped_weights" in wrong else alpha
    step = alpha * target if "forgot_old" in wrong else alpha * (target - old)
    new = old - step if "away" in wrong else old + step
    new = step if "old_dropped" in wrong else new
    new = target if "overwrite" in wrong else new
    _store(q, agent, state, action, next_state, new, wrong)
    return q if "table_returned" in wrong else None


def _next_value(rows: Tensor, q: Tensor, action: Tensor, wrong: Set[str]) -> Tensor:
    """Return what comes after the step, (N,)."""
    if "max_of_all" in wrong:
        return q.max().expand(len(q))
    if "max_over_agents" in wrong:
        return rows.max().expand(len(q))
    if "mean" in wrong:
        return rows.mean(1)
    if "min" in wrong:
        return rows.amin(1)
    if "taken_action" in wrong:
        return rows[torch.arange(len(q)), action]
    if "index" in wrong:
        return rows.argmax(1).to(q.dtype)
    return rows.amax(1)


def _store(
    q: Tensor, agent: Tensor, state: Tensor, action: Tensor, next_state: Tensor, new: Tensor, wrong: Set[str]
) -> None:
    """Write the new values into the tables."""
    if "not_stored" in wrong:
        return
    if "next_entry" in wrong:
        q[agent, next_state, action] = new
    elif "whole_row" in wrong:
        q[agent, state] = new[:, None].expand(-1, q.shape[2])
    elif "all_agents" in wrong:
        q[:, state, action] = new
    elif "first_agent_only" in wrong:
        q[0, state[0], action[0]] = new[0]
    else:
        q[agent, state, action] = new


def cross_product(
    q: Tensor, state: Tensor, action: Tensor, reward: Tensor, next_state: Tensor, nonterminal: Tensor,
    alpha: float, gamma: float,
) -> None:  # fmt: skip
    """Update with every pair for every agent."""
    target = reward + gamma * nonterminal * q[:, next_state].amax(-1)
    q[:, state, action] += alpha * (target - q[:, state, action])


def max_pair(
    q: Tensor, state: Tensor, action: Tensor, reward: Tensor, next_state: Tensor, nonterminal: Tensor,
    alpha: float, gamma: float,
) -> None:  # fmt: skip
    """Use the pair (values, indices) as values."""
    agent = torch.arange(len(q))
    best: Any = q[agent, next_state].max(1)
    q[agent, state, action] += alpha * (reward + gamma * (nonterminal * best) - q[agent, state, action])


def td_loss(values: Tensor, targets: Tensor, wrong: Set[str] = NONE) -> Any:
    """Compute the loss with the given mistakes."""
    if not wrong & {"targets_not_held", "wrong_one_held"}:
        targets = targets.detach()
    if "values_held" in wrong or "wrong_one_held" in wrong:
        values = values.detach()
    errors = targets - values
    losses = errors.square() / 2
    if "not_halved" in wrong:
        losses = errors.square()
    if "absolute" in wrong:
        losses = errors.abs()
    if "huber" in wrong:
        losses = F.smooth_l1_loss(values, targets, reduction="none")
    if "not_squared" in wrong:
        losses = errors / 2
    if "quarter" in wrong:
        losses = (errors / 2).square()
    if "relative" in wrong:
        losses = values * errors
    if "not_summed" in wrong:
        return losses
    total = losses.mean() if "mean" in wrong else losses.sum()
    if "squared_sum" in wrong:
        total = errors.sum().square() / 2
    if "norm" in wrong:
        total = errors.square().sum().sqrt()
    if "by_row" in wrong:
        total = losses.sum() / len(losses)
    if "negated" in wrong:
        total = -total
    return total.item() if "plain_number" in wrong else total


BEST = {"max_over_agents", "max_of_all", "absolute", "worst", "close_counts", "first"}
NEXT = {"max_of_all", "max_over_agents", "mean", "min", "taken_action", "index"}
STORE = {"not_stored", "next_entry", "whole_row", "all_agents", "first_agent_only"}
STEP = {"swapped_weights", "forgot_old", "away", "old_dropped", "overwrite", "not_stored"}
LOSS = {"not_halved", "absolute", "huber", "not_squared", "quarter", "relative", "squared_sum", "norm"}


def explores_above(values: Tensor, epsilon: Tensor, explore_draw: Tensor, tie_break_draw: Tensor) -> Tensor:
    never = torch.zeros_like(explore_draw)
    return batched_act(values, (explore_draw > epsilon).to(values.dtype), never, tie_break_draw)


def explore_draw_reused(values: Tensor, epsilon: Tensor, explore_draw: Tensor, tie_break_draw: Tensor) -> Tensor:
    draw = torch.where(explore_draw < epsilon, explore_draw, tie_break_draw)
    return batched_act(values, epsilon, explore_draw, draw)


def not_times_bool(q: Tensor, state: Tensor, action: Tensor, reward: Tensor, *others: Any) -> None:
    next_state, nonterminal, alpha, gamma = others
    batched_update(q, state, action, reward, next_state, 1 - nonterminal, alpha, gamma)


def absolute_halved(values: Tensor, targets: Tensor) -> Tensor:
    return (values - targets.detach()).abs().sum() / 2


WRONG = {
    "batched_act": Wrong(
        {"batched_act": batched_act},
        switches(_best, batched_act),
        exclusive=(
            BEST,
            {"at_most", "reversed", "never_explores", "always_explores"},
            {"and_for_or", "others_only", "always_explores"},
            {"never_explores", "and_for_or", "others_only", "one_epsilon", "one_explore_draw", "draws_swapped"},
            {"always_explores", "one_epsilon", "one_explore_draw", "draws_swapped", *BEST},
            {
                "rounded",
                "rounded_up",
                "last_excluded",
                "last_rounded",
                "descending",
                "one_early",
                "all_actions_counted",
            },
            {"position_in_ties", "one_early", "first"},
            {"draws_swapped", "same_draw", "one_tie_break_draw", "one_explore_draw"},
            {"first", "one_tie_break_draw", "same_draw", "descending", "last_excluded", "last_rounded"},
        ),
        plain={
            "explores_above": {"batched_act": explores_above},
            "explore_draw_reused": {"batched_act": explore_draw_reused},
        },
    ),
    "batched_update": Wrong(
        {"batched_update": batched_update},
        switches(batched_update, _next_value, _store),
        plain={
            "not_times_bool": {"batched_update": not_times_bool},
            "cross_product": {"batched_update": cross_product},
            "max_pair": {"batched_update": max_pair},
        },
        exclusive=(
            NEXT,
            STORE,
            STEP,
            {"no_gamma", "one_minus_gamma", "gamma_on_reward", "reward_missing"},
            {"through_the_goal", "inverted", "reward_lost"},
            {"reward_lost", "reward_missing", "gamma_on_reward"},
            {"own_state", "first_table", "max_of_all"},
        ),
    ),
    "td_loss": Wrong(
        {"td_loss": td_loss},
        ("targets_not_held", *switches(td_loss)),
        exclusive=(
            LOSS,
            {"not_summed", "mean", "squared_sum", "norm", "by_row"},
            {"not_summed", "negated", "plain_number", "targets_not_held"},
            {"plain_number", "targets_not_held", "values_held", "wrong_one_held"},
            {"values_held", "negated"},
        ),
        plain={
            "absolute_halved": {"td_loss": absolute_halved},
        },
    ),
}
