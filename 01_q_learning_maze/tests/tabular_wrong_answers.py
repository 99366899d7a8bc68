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
    ended = terminated
    if "through_the_goal" in wrong:
        ended = False
    if "time_limit_is_death" in wrong:
        ended = terminated or truncated
    if "wrong_flag" in wrong:
        ended = truncated
    received = -reward if "reward_negated" in wrong else reward
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
) -> None:
    """Update one entry with the given mistakes."""
    key = (action, state) if "swapped_key" in wrong else (state, action)
    old = table[key] if "missing_raises" in wrong else table.get(key, 0.0)
    if "missing_is_target" in wrong and key not in table:
        old = target
    if "missing_skipped" in wrong and key not in table:
        return
    rate = 1 - alpha if "swapped_weights" in wrong else alpha
    rate = rate * rate if "alpha_squared" in wrong else rate
    difference = target if "forgot_old" in wrong else target - old
    step = -rate * difference if "away" in wrong else rate * difference
    new = step if "old_dropped" in wrong else old + step
    new = target if "overwrite" in wrong else new
    keys = [key]
    if "whole_row" in wrong:
        keys = [(key[0], each) for each in range(4)]
    if "next_entry" in wrong:
        keys = [(key[0] + 1, key[1])]
    for each in keys:
        if "not_stored" not in wrong:
            table[each] = new


ENDS = {"through_the_goal", "time_limit_is_death", "wrong_flag"}
CHOICES = {"mean", "min", "first_action", "absolute"}
WRONG = {
    "td_target": Wrong(
        {"td_target": td_target}, switches(td_target), exclusive=(ENDS, CHOICES, {"no_gamma"}, {"reward_lost"})
    ),
    "q_update": Wrong(
        {"q_update": q_update},
        switches(q_update),
        exclusive=(
            {"swapped_weights", "away", "forgot_old", "overwrite", "alpha_squared", "old_dropped", "not_stored"},
            {"swapped_key", "whole_row", "next_entry", "not_stored"},
            {"missing_is_target", "missing_skipped", "missing_raises", "not_stored"},
        ),
    ),
}
