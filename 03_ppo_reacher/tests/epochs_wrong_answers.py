"""Wrong answers to the exercise on PPO's update, each the right one with one mistake switched on."""

from collections.abc import Iterator, Set
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def _pieces(order: Tensor, number: int, wrong: Set[str]) -> list[Tensor]:
    """The minibatches of an epoch, with the given mistakes, or by another reading of the task."""
    size = max(len(order) // number, 1)
    if "whole_batch" in wrong:
        return [order]
    if "number_is_size" in wrong:
        return list(order.split(number))
    if "last_dropped" in wrong:
        return [order[k * size : (k + 1) * size] for k in range(number)]
    if "first_minibatch_only" in wrong:
        return [order.tensor_split(number)[0]]
    if "same_minibatch" in wrong:
        return [order.tensor_split(number)[0]] * number
    if "rounded_down" in wrong:
        return list(order.split(size))
    if "last_takes_rest" in wrong:
        return [order[k * size : (k + 1) * size if k < number - 1 else None] for k in range(number)]
    if "every_nth" in wrong:
        return [order[k::number] for k in range(number)]
    return list(order.tensor_split(number))


def _orders(orders: Any, wrong: Set[str]) -> Iterator[Tensor]:
    """The orders of the epochs, with the given mistakes."""
    before: Tensor | None = None
    for order in orders:
        if "order_ignored" in wrong:
            order = torch.arange(len(order))
        if "first_order_only" in wrong:
            order = orders[0]
        if "inverse_order" in wrong:
            order = order.argsort()
        if "reversed_order" in wrong:
            order = order.flip(0)
        if "shuffled_again" in wrong:
            order = order if before is None else before[order]
            before = order
        yield order
        if "one_epoch" in wrong:
            return


def _loss(log_probs: Tensor, old: Tensor, gains: Tensor, clip_ratio: float, wrong: Set[str]) -> Tensor:
    """The clipped objective, with the given mistakes."""
    ratio = (log_probs - old).exp()
    if "log_ratio" in wrong:
        ratio = log_probs - old
    if "inverse_ratio" in wrong:
        ratio = (old - log_probs).exp()
    if "normalized" in wrong:
        gains = (gains - gains.mean()) / (gains.std(correction=0) + 1e-8)
    low, high = 1 - clip_ratio, 1 + clip_ratio
    if "clip_about_0" in wrong:
        low, high = -clip_ratio, clip_ratio
    clipped = ratio.clamp(low, high)
    objective = torch.minimum(ratio * gains, clipped * gains)
    if "unclipped" in wrong:
        objective = ratio * gains
    if "clipped_only" in wrong:
        objective = clipped * gains
    if "max_for_min" in wrong:
        objective = torch.maximum(ratio * gains, clipped * gains)
    if "min_before_advantage" in wrong:
        objective = torch.minimum(ratio, clipped) * gains
    loss = objective.sum() if "sum_for_mean" in wrong else objective.mean()
    return loss if "not_negated" in wrong else -loss


def _step(optimizer: Any, loss: Tensor, wrong: Set[str]) -> None:
    """One gradient step, with the given mistakes."""
    if not wrong & {"no_zero_grad", "zero_between", "one_step_per_epoch", "zero_once_per_epoch"}:
        optimizer.zero_grad()
    if "order_of_steps" in wrong:
        optimizer.step()
    loss.backward(retain_graph="graph_freed" not in wrong)
    if "zero_between" in wrong:
        optimizer.zero_grad()
    if "clips_gradients" in wrong:
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.5)
    if not wrong & {"order_of_steps", "no_step", "one_step_per_epoch"}:
        optimizer.step()


def ppo_epochs(
    policy: Any,
    optimizer: Any,
    observations: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    orders: Any,
    num_minibatches: int,
    clip_ratio: float,
    wrong: Set[str] = NONE,
) -> None:
    """The update of the policy, with the given mistakes."""
    old = old_log_probs
    if "normalized_batch" in wrong:
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
    if "old_from_start" in wrong:
        old = policy.log_prob(observations, actions).detach()
    for order in _orders(orders, wrong):
        if "old_recomputed" in wrong:
            old = policy.log_prob(observations, actions).detach()
        once = policy.log_prob(observations, actions) if "log_probs_once" in wrong else None
        if "one_step_per_epoch" in wrong or "zero_once_per_epoch" in wrong:
            optimizer.zero_grad()
        start = 0
        for rows in _pieces(order, num_minibatches, wrong):
            places = torch.arange(start, start + len(rows))  # of the minibatch, without the order
            start += len(rows)
            acted = actions[places if "two_orders" in wrong else rows]
            seen = observations[places if "observations_unshuffled" in wrong else rows]
            gains = advantages[places if "advantages_unshuffled" in wrong else rows]
            before = old[places if "old_unshuffled" in wrong else rows]
            log_probs = policy.log_prob(seen, acted) if once is None else once[rows]
            if "old_recomputed_each_time" in wrong:
                before = log_probs.detach()
            if "old_not_held" in wrong:
                before = log_probs
            _step(optimizer, _loss(log_probs, before, gains, clip_ratio, wrong), wrong)
        if "one_step_per_epoch" in wrong:
            optimizer.step()


UNSHUFFLED = ("two_orders", "observations_unshuffled", "advantages_unshuffled", "old_unshuffled")
OLD = ("old_from_start", "old_recomputed", "old_recomputed_each_time", "old_unshuffled", "old_not_held")
UNCHANGED = ("zero_between", "order_of_steps", "no_step", "old_not_held")
ORDERS = ("order_ignored", "first_order_only", "inverse_order", "reversed_order", "one_epoch", "shuffled_again")
PIECES = ("whole_batch", "number_is_size", "last_dropped", "first_minibatch_only", "same_minibatch")
READINGS = ("rounded_down", "last_takes_rest", "every_nth")
RATIOS = ("log_ratio", "inverse_ratio")
OBJECTIVES = ("unclipped", "clipped_only", "max_for_min", "min_before_advantage")
ORDINARY = (
    "sum_for_mean",
    "not_negated",
    "normalized",
    "normalized_batch",
    "clip_about_0",
    "clips_gradients",
    "no_zero_grad",
    "one_step_per_epoch",
    "zero_once_per_epoch",
    "log_probs_once",
)
SWITCHES = (
    *switches(_pieces, _orders, _loss, ppo_epochs),
    *("no_zero_grad", "zero_between", "order_of_steps", "no_step", "clips_gradients"),
)
WRONG = {
    "ppo_epochs": Wrong(
        {"ppo_epochs": ppo_epochs},
        SWITCHES,
        exclusive=(
            {*PIECES, *READINGS},
            {*ORDERS},
            {*RATIOS},
            {*OBJECTIVES},
            {*OLD},
            {"clip_about_0", "unclipped"},
            {"normalized", "normalized_batch"},
            *({ratio, other} for ratio in ["log_ratio"] for other in (*OLD, "clip_about_0", *OBJECTIVES)),
            *({"order_ignored", other} for other in UNSHUFFLED),
            {*UNCHANGED, "no_zero_grad", "one_step_per_epoch", "zero_once_per_epoch"},
            *(
                {each, other}
                for each in UNCHANGED
                for other in (*UNSHUFFLED, *OLD, *ORDERS, *PIECES, *READINGS, *RATIOS, *OBJECTIVES, *ORDINARY)
            ),
            *({"clip_about_0", other} for other in ("clipped_only", "min_before_advantage")),
            *({"observations_unshuffled", other} for other in ("two_orders", "log_probs_once")),
            {"two_orders", "log_probs_once"},
            {"whole_batch", "log_probs_once"},
            {"first_minibatch_only", "log_probs_once"},
            {"one_step_per_epoch", "log_probs_once"},
            {"one_step_per_epoch", "clips_gradients"},
        ),
        plain={"graph_freed": {"ppo_epochs": partial(ppo_epochs, wrong={"log_probs_once", "graph_freed"})}},
        readings=READINGS,
    ),
}
