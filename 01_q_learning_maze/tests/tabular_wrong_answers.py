"""Wrong answers to the exercises of lesson 1, each the right one with one mistake switched on. Imports no torch."""

import statistics
from collections.abc import Set

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def td_target(
    reward: float,
    next_values: list[float],
    terminated: bool,
    truncated: bool,
    gamma: float,
    wrong: Set[str] = NONE,
) -> float:
    """Return the target of Q-learning with the given mistakes."""
    best = max(next_values)
    if "mean" in wrong:
        best = statistics.fmean(next_values)
    if "min" in wrong:
        best = min(next_values)
    if "first_action" in wrong:
        best = next_values[0]
    if "absolute" in wrong:
        best = max(next_values, key=abs)
    if "last_action" in wrong:
        best = next_values[-1]
    if "sum" in wrong:
        best = sum(next_values)
    if "index" in wrong:
        best = next_values.index(max(next_values))
    if "clipped_at_0" in wrong:
        best = max(0.0, best)
    if "one_minus_gamma" in wrong:
        gamma = 1 - gamma
    if "gamma_squared" in wrong:
        gamma = gamma * gamma
    ended = terminated
    if "through_the_goal" in wrong:
        ended = False
    if "time_limit_is_death" in wrong:
        ended = terminated or truncated
    if "wrong_flag" in wrong:
        ended = truncated
    if "truncated_wins" in wrong:
        ended = terminated and not truncated
    if "both_needed" in wrong:
        ended = terminated and truncated
    if "inverted" in wrong:
        ended = not terminated
    received = -reward if "reward_negated" in wrong else reward
    received = 0.0 if "reward_missing" in wrong else received
    if "gamma_on_reward" in wrong:
        received = gamma * received
    future = best if "no_gamma" in wrong else gamma * best
    if "next_subtracted" in wrong:
        future = -future
    if ended:
        return 0.0 if "reward_lost" in wrong else received
    return received + future


def q_update(
    table: dict[tuple[int, int], float],
    state: int,
    action: int,
    target: float,
    alpha: float,
    wrong: Set[str] = NONE,
) -> float | None:
    """Update one entry with the given mistakes."""
    key = (action, state) if "swapped_key" in wrong else (state, action)
    old = table[key] if "missing_raises" in wrong else table.get(key, 0.0)
    if "missing_is_target" in wrong and key not in table:
        old = target
    if "zero_is_target" in wrong and not table.get(key):
        old = target
    if "missing_skipped" in wrong and key not in table:
        return None
    rate = 1 - alpha if "swapped_weights" in wrong else alpha
    rate = rate * rate if "alpha_squared" in wrong else rate
    difference = target if "forgot_old" in wrong else target - old
    step = -rate * difference if "away" in wrong else rate * difference
    new = step if "old_dropped" in wrong else old + step
    new = target if "overwrite" in wrong else new
    if "target_unscaled" in wrong:
        new = (1 - rate) * old + target
    if "half" in wrong:
        new = (old + target) / 2
    keys = [key]
    if "whole_row" in wrong:
        keys = [(key[0], each) for each in range(4)]
    if "next_entry" in wrong:
        keys = [(key[0] + 1, key[1])]
    for each in keys:
        if "not_stored" not in wrong:
            table[each] = new
    return new if "value_returned" in wrong else None


def decayed_epsilon(epsilon: float, decay: float, minimum: float, wrong: Set[str] = NONE) -> float:
    """Decay epsilon with the given mistakes."""
    if "inverted_decay" in wrong:
        decay = 1 - decay
    if "decay_squared" in wrong:
        decay = decay * decay
    if "floor_first" in wrong:
        return max(minimum, epsilon) * decay
    new = epsilon * decay
    if "divided" in wrong:
        new = epsilon / decay
    if "subtracted" in wrong:
        new = epsilon - decay
    if "power" in wrong:
        new = epsilon**decay
    if "not_decayed" in wrong:
        new = epsilon
    if "minimum_added" in wrong:
        return minimum + new
    if "towards_minimum" in wrong:
        return minimum + (epsilon - minimum) * decay
    if "tested_before" in wrong:
        return new if epsilon > minimum else minimum
    if "keeps_the_last" in wrong:
        return new if new >= minimum else epsilon
    if "min_for_max" in wrong:
        return min(minimum, new)
    if "zero_below" in wrong:
        return new if new >= minimum else 0.0
    return new if "no_floor" in wrong else max(minimum, new)


ENDS = {"through_the_goal", "time_limit_is_death", "wrong_flag", "truncated_wins", "both_needed", "inverted"}
CHOICES = {"mean", "min", "first_action", "absolute", "last_action", "sum", "index"}
FORMULAS = {"decay_squared", "floor_first", "divided", "subtracted", "power", "not_decayed", "towards_minimum"}
FLOORS = {
    "minimum_added", "floor_first", "towards_minimum", "tested_before", "keeps_the_last", "min_for_max", "no_floor",
    "zero_below",
}  # fmt: skip


def step_of_the_target(
    table: dict[tuple[int, int], float], state: int, action: int, target: float, alpha: float
) -> None:
    table[state, action] = alpha * target


WRONG = {
    "td_target": Wrong(
        {"td_target": td_target},
        switches(td_target),
        exclusive=(
            ENDS,
            CHOICES,
            {"no_gamma", "one_minus_gamma", "gamma_squared"},
            {"reward_missing", "reward_lost", "reward_negated", "gamma_on_reward"},
            {"through_the_goal", "reward_lost"},
        ),
    ),
    "q_update": Wrong(
        {"q_update": q_update},
        switches(q_update),
        exclusive=(
            {
                "swapped_weights",
                "away",
                "forgot_old",
                "overwrite",
                "alpha_squared",
                "old_dropped",
                "not_stored",
                "target_unscaled",
                "half",
            },
            {"swapped_key", "whole_row", "next_entry", "not_stored"},
            {"missing_is_target", "missing_skipped", "missing_raises", "not_stored", "zero_is_target"},
        ),
        plain={
            "step_of_the_target": {"q_update": step_of_the_target},
        },
    ),
    "decayed_epsilon": Wrong(
        {"decayed_epsilon": decayed_epsilon},
        switches(decayed_epsilon),
        exclusive=(FORMULAS | {"inverted_decay"}, FLOORS, FORMULAS | {"min_for_max"}),
    ),
}
