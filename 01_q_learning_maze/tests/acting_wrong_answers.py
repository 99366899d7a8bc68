"""Wrong answers to the exercises on returns and on choosing actions, with switches. Imports no torch."""

import math
import random
from collections.abc import Set
from typing import Any

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def discounted_return(rewards: list[float], gamma: float, wrong: Set[str] = NONE) -> Any:
    """Return the discounted return with the given mistakes."""
    if "first_skipped" in wrong:
        rewards = rewards[1:]
    if "last_skipped" in wrong:
        rewards = rewards[:-1]
    if "absolute" in wrong:
        rewards = [abs(reward) for reward in rewards]
    if "backwards" in wrong:
        rewards = rewards[::-1]
    if "one_minus_gamma" in wrong:
        gamma = 1 - gamma
    if "undiscounted" in wrong:
        gamma = 1.0
    weights = [gamma**k for k in range(len(rewards))]
    if "late" in wrong:
        weights = [gamma * weight for weight in weights]
    if "gamma_once" in wrong:
        weights = [gamma if k else 1.0 for k in range(len(rewards))]
    if "gamma_times_k" in wrong:
        weights = [gamma * k for k in range(len(rewards))]
    if "gamma_squared" in wrong:
        weights = [gamma ** (2 * k) for k in range(len(rewards))]
    if "divided" in wrong:
        weights = [1 / gamma**k for k in range(len(rewards))]
    terms = [weight * reward for weight, reward in zip(weights, rewards, strict=True)]
    if "list_returned" in wrong:
        returns = [0.0]
        for reward in reversed(rewards):
            returns.insert(0, reward + gamma * returns[0])
        return returns[:-1]
    if "last_term" in wrong:
        return terms[-1] if terms else 0.0
    if "early_return" in wrong:
        return terms[0] if terms else 0.0
    return sum(terms) / len(terms) if "mean" in wrong else sum(terms)


def _best_actions(values: list[float], wrong: Set[str]) -> list[int]:
    compared = [abs(value) for value in values] if "absolute" in wrong else values
    best = min(compared) if "worst" in wrong else max(compared)
    if "close_counts" in wrong:
        return [action for action, value in enumerate(compared) if math.isclose(value, best)]
    return [action for action, value in enumerate(compared) if value == best]


def greedy(values: list[float], rng: random.Random, wrong: Set[str] = NONE) -> Any:
    """Choose the best action with the given mistakes."""
    best = _best_actions(values, wrong)
    if "not_reset" in wrong:  # every value that was the largest so far
        best = [action for action, value in enumerate(values) if value >= max(values[: action + 1])]
    if "starts_at_0" in wrong:
        best = [action for action in best if values[action] >= 0]
    if "values_ignored" in wrong:
        best = list(range(len(values)))
    if "all_or_nothing" in wrong and len(best) < len(values):
        best = best[:1]
    if "first" in wrong:
        best = best[:1]
    if "last" in wrong:
        best = best[-1:]
    if "short_range" in wrong:
        best = best[:-1] or best
    if "shuffled_index" in wrong:
        shuffled = rng.sample(values, len(values))
        return shuffled.index(values[best[0]])
    if "value" in wrong:
        return values[best[0]]
    if "list_returned" in wrong:
        return best
    source: Any = random if "own_random" in wrong else rng
    if "position_in_ties" in wrong:
        return source.randrange(len(best))
    if "coin" in wrong:
        return _by_coins(best, source)
    if "random_start" in wrong:
        start = source.randrange(len(values))
        return min(best, key=lambda action: (action - start) % len(values))
    return source.choice(best)


def _by_coins(best: list[int], source: Any) -> int:
    """Keep or replace the best one so far with probability 1/2 each."""
    chosen = best[0]
    for action in best[1:]:
        chosen = action if source.random() < 0.5 else chosen
    return chosen


def epsilon_greedy(values: list[float], epsilon: float, rng: random.Random, wrong: Set[str] = NONE) -> Any:
    """Choose an action by the epsilon-greedy policy with the given mistakes."""
    source: Any = random if "own_random" in wrong else rng
    best = _best_actions(values, wrong)
    candidates: list[int] = list(range(len(values)))
    if "none_of_the_best" in wrong:
        candidates = [action for action in candidates if action not in best] or candidates
    if "short_range" in wrong:
        candidates = candidates[:-1] or candidates
    if "long_range" in wrong:
        candidates = [*candidates, len(values)]
    if "first" in wrong:
        best = best[:1]
    if "all_or_nothing" in wrong and len(best) < len(values):
        best = best[:1]
    if "half" in wrong:
        epsilon = 0.5
    if "divided" in wrong:
        epsilon = epsilon / len(values)
    if "squared" in wrong:
        epsilon = epsilon**2
    if "always_explores" in wrong:
        epsilon = 1.0
    if "never_explores" in wrong:
        epsilon = 0.0
    chosen = best[0] if "value" in wrong else source.choice(best)
    if "others_only" in wrong:
        candidates = [action for action in candidates if action != chosen] or candidates
    draw = source.random()
    explores = draw >= epsilon if "reversed" in wrong else draw < epsilon
    if explores:
        explored = source.choice(candidates)
        return values[explored] if "value_explored" in wrong else explored
    return values[chosen] if "value" in wrong else chosen


WRONG = {
    "discounted_return": Wrong(
        {"discounted_return": discounted_return},
        switches(discounted_return),
        exclusive=(
            {"late", "gamma_once", "gamma_times_k", "gamma_squared", "divided"},
            {"undiscounted", "one_minus_gamma"},
            {"undiscounted", "gamma_once", "gamma_squared", "divided", "late"},
            {"list_returned", "last_term", "early_return", "mean"},
            {"list_returned", "late", "gamma_times_k", "gamma_once", "gamma_squared", "divided"},
        ),
    ),
    "greedy": Wrong(
        {"greedy": greedy},
        ("absolute", "worst", "close_counts", *switches(greedy)),
        exclusive=(
            {"first", "last", "all_or_nothing", "short_range", "value", "list_returned", "coin", "random_start"},
            {
                "shuffled_index",
                "all_or_nothing",
                "short_range",
                "position_in_ties",
                "coin",
                "random_start",
                "own_random",
            },
            {"shuffled_index", "first", "last", "value", "list_returned", "values_ignored", "not_reset"},
            {"values_ignored", "absolute", "worst", "close_counts", "not_reset"},
            {"values_ignored", "starts_at_0", "worst", "absolute"},
            {"own_random", "first", "last", "value", "list_returned"},
            {"position_in_ties", "first", "last", "value", "list_returned", "coin", "random_start", "values_ignored"},
        ),
    ),
    "epsilon_greedy": Wrong(
        {"epsilon_greedy": epsilon_greedy},
        ("absolute", "worst", "close_counts", *switches(epsilon_greedy)),
        exclusive=(
            {"always_explores", "never_explores", "half", "divided", "squared"},
            {"always_explores", "absolute", "worst", "close_counts", "first", "all_or_nothing", "value"},
            {"never_explores", "none_of_the_best", "others_only", "short_range", "long_range", "value_explored"},
            {"absolute", "worst", "close_counts"},
            {"first", "all_or_nothing", "value"},
            {"others_only", "none_of_the_best", "short_range", "long_range"},
        ),
    ),
}
