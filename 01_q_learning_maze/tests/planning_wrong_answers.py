"""Wrong answers to the exercises on dynamic programming and on the training loop, with switches. Imports no torch."""

import functools
import statistics
from collections.abc import Set
from typing import Any

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()
Outcomes = list[tuple[float, int, float, bool]]


def backup(outcomes: Outcomes, values: list[float], gamma: float, wrong: Set[str] = NONE) -> float:
    """Return the expected value of an action with the given mistakes."""
    if "one_minus_gamma" in wrong:
        gamma = 1 - gamma
    if "gamma_squared" in wrong:
        gamma = gamma * gamma
    if "no_gamma" in wrong:
        gamma = 1.0
    terms, weights = [], []
    for position, (probability, next_state, reward, terminated) in enumerate(outcomes):
        if "stops_at_the_end" in wrong and terminated:
            break
        if "reward_lost" in wrong and terminated:
            continue
        value = values[next_state]
        if "state_for_value" in wrong:
            value = float(next_state)
        if "position_for_state" in wrong:
            value = values[position]
        if "best_value" in wrong:
            value = max(values)
        ended = not terminated if "inverted" in wrong else terminated
        if "terminal_counts" not in wrong and ended:
            value = 0.0
        received = outcomes[0][2] if "one_reward" in wrong else reward
        if "reward_missing" in wrong:
            received = 0.0
        if "gamma_on_reward" in wrong:
            received = gamma * received
        future = gamma * value
        if "probability_on_value" in wrong:
            terms.append(received / probability + future)
        elif "probability_on_reward" in wrong:
            terms.append(received + future / probability)
        elif "next_subtracted" in wrong:
            terms.append(received - future)
        else:
            terms.append(received + future)
        weights.append(probability)
    return _combined(terms, weights, wrong)


def _combined(terms: list[float], weights: list[float], wrong: Set[str]) -> float:
    """Combine the outcomes into one number with the given mistakes."""
    if not terms:
        return 0.0
    products = [weight * term for weight, term in zip(weights, terms, strict=True)]
    if "best_outcome" in wrong:
        return max(terms)
    if "worst_outcome" in wrong:
        return min(terms)
    if "most_likely" in wrong:
        return terms[weights.index(max(weights))]
    if "plain_mean" in wrong:
        return statistics.fmean(terms)
    if "unweighted" in wrong:
        return sum(terms)
    if "last_outcome" in wrong:
        return products[-1]
    if "first_outcome" in wrong:
        return products[0]
    if "divided_by_count" in wrong:
        return sum(products) / len(products)
    if "probability_twice" in wrong:
        return sum(weight * product for weight, product in zip(weights, products, strict=True))
    return sum(products)


def _state_value(row: list[float], wrong: Set[str]) -> float:
    if "policy_mean" in wrong:
        return statistics.fmean(row)
    if "worst_action" in wrong:
        return min(row)
    if "first_action" in wrong:
        return row[0]
    return sum(row) if "sum_of_actions" in wrong else max(row)


def _expected(outcomes: Outcomes, q: list[list[float]], gamma: float, wrong: Set[str]) -> float:
    """Return the expected target of an action with the given mistakes."""
    if "most_likely" in wrong:
        _, likely_state, likely_reward, ended = max(outcomes, key=lambda outcome: outcome[0])
        outcomes = [(1.0, likely_state, likely_reward, ended)]
    if "last_outcome" in wrong:
        outcomes = outcomes[-1:]
    total = 0.0
    for probability, next_state, reward, terminated in outcomes:
        value = _state_value(q[next_state], wrong)
        if terminated and "terminal_counts" not in wrong:
            value = 0.0
        received = 0.0 if "reward_missing" in wrong else reward
        received = gamma * received if "gamma_on_reward" in wrong else received
        future = value if "no_gamma" in wrong else gamma * value
        weight = 1 / len(outcomes) if "plain_mean" in wrong else probability
        weight = 1.0 if "unweighted" in wrong else weight
        total += weight * (received + future)
    return float(int(total)) if "integers" in wrong else total


def value_iteration(dynamics: Any, gamma: float, tolerance: float, wrong: Set[str] = NONE) -> Any:
    """Return Q* with the given mistakes."""
    tolerance = 1e-10 if "tolerance_ignored" in wrong else tolerance
    states = range(len(dynamics) - 1 if "last_state_skipped" in wrong else len(dynamics))
    q = [[0.0] * len(dynamics[0]) for _ in range(len(dynamics))]
    if "shared_rows" in wrong:
        q = [[0.0] * len(dynamics[0])] * len(dynamics)
    if "reversed_test" in wrong and not tolerance > 0.0:  # while change < tolerance
        return q
    largest = 0.0
    for sweep in range(1_000_000):
        old = q if "alias" in wrong else [list(row) for row in q]
        largest = largest if "change_not_reset" in wrong else 0.0
        for state in states:
            for action in range(len(dynamics[state])):
                q[state][action] = _expected(dynamics[state][action], q if "in_place" in wrong else old, gamma, wrong)
                change = q[state][action] - old[state][action]
                change = change if "signed_change" in wrong else abs(change)
                largest = change if "last_change" in wrong else max(largest, change)
        if _stops(sweep, largest, tolerance, wrong):
            break
    if "state_values" in wrong:
        return [max(row) for row in q]
    if "policy" in wrong:
        return [row.index(max(row)) for row in q]
    return [list(column) for column in zip(*q, strict=True)] if "transposed" in wrong else q


def _stops(sweep: int, largest: float, tolerance: float, wrong: Set[str]) -> bool:
    if "one_sweep" in wrong:
        return True
    if "fixed_sweeps" in wrong:
        return sweep == 999
    if "reversed_test" in wrong:
        return largest >= tolerance
    return largest < tolerance if "strict_test" in wrong else largest <= tolerance


def play_and_learn(env: Any, agent: Any, wrong: Set[str] = NONE) -> float:
    """Play a training episode with the given mistakes."""
    settings = {"seed": 0} if "seeded_reset" in wrong else {}
    state = env.reset(**settings) if "reset_tuple" in wrong else env.reset(**settings)[0]
    rewards: list[float] = []
    later: list[tuple[Any, ...]] = []
    choose = agent.act
    if "greedy_while_learning" in wrong:
        choose = lambda state: agent.act(state, greedy=True)  # noqa: E731
    if "random_actions" in wrong:
        choose = lambda _: env.action_space.sample()  # noqa: E731
    if "end_at_the_start" in wrong:
        agent.end_episode()
    action = choose(state) if "draws_ahead" in wrong else None
    while True:
        if "reset_every_step" in wrong:
            state = env.reset()[0]
        action = action if "draws_ahead" in wrong else choose(state)
        if "old_step" in wrong:
            next_state, reward, terminated, info = env.step(action)
            truncated = info
        else:
            next_state, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
        if "last_step_lost" in wrong and (terminated or truncated):
            break
        taken, action = action, choose(next_state) if "draws_ahead" in wrong else action
        taken = choose(state) if "two_draws" in wrong else taken
        before = next_state if "moved_too_soon" in wrong else state
        told = (before, taken, reward, next_state, _flag(terminated, truncated, wrong))
        if "states_swapped" in wrong:
            told = (next_state, taken, reward, before, told[4])
        if "reward_misplaced" in wrong:
            told = (before, taken, next_state, reward, told[4])
        if "late_updates" in wrong:
            later.append(told)
        elif "no_update" not in wrong:
            agent.update(*told)
        if "never_moved" not in wrong:
            state = next_state
        if "end_every_step" in wrong:
            agent.end_episode()
        if _over(terminated, truncated, wrong):
            break
        if "fixed_steps" in wrong and len(rewards) == 100:
            break
    for told in later:
        agent.update(*told)
    if "no_end_episode" not in wrong and "end_at_the_start" not in wrong and "end_every_step" not in wrong:
        agent.end_episode()
    return _return(rewards, agent.discount, wrong)


def _flag(terminated: bool, truncated: bool, wrong: Set[str]) -> bool:
    """Return what the agent is told about the end."""
    if "done_as_terminated" in wrong:
        return terminated or truncated
    if "truncated_as_terminated" in wrong:
        return truncated
    return not terminated if "negated" in wrong else terminated


def _over(terminated: bool, truncated: bool, wrong: Set[str]) -> bool:
    """Return True if the loop ends."""
    if "only_terminated" in wrong:
        return terminated
    if "only_truncated" in wrong:
        return truncated
    if "both_needed" in wrong:
        return terminated and truncated
    return "one_step" in wrong or terminated or truncated


def _return(rewards: list[float], gamma: float, wrong: Set[str]) -> float:
    """Return what the function returns."""
    if "discounted" in wrong:
        return sum(gamma**k * reward for k, reward in enumerate(rewards))
    if "last_reward" in wrong:
        return rewards[-1]
    if "length" in wrong:
        return len(rewards)
    if "mean" in wrong:
        return statistics.fmean(rewards)
    return sum(rewards[:-1]) if "last_reward_lost" in wrong else sum(rewards)


STOPS = {"one_sweep", "reversed_test", "strict_test", "last_change", "signed_change", "alias"}
ALONE = (  # they take long, or hide all others
    "change_not_reset", "fixed_sweeps", "tolerance_ignored", "shared_rows", "state_values", "policy", "transposed",
)  # fmt: skip
ENDLESS = {"strict_test", "sum_of_actions", "no_gamma", "unweighted"}
COMBINATIONS = {
    "best_outcome", "worst_outcome", "most_likely", "plain_mean", "unweighted", "last_outcome", "first_outcome",
    "divided_by_count", "probability_twice", "probability_on_value", "probability_on_reward",
}  # fmt: skip
FOLLOWING = {"state_for_value", "position_for_state", "best_value"}
LOOPS = {"reset_every_step", "only_terminated", "only_truncated", "both_needed", "one_step", "old_step"}
TOLD = {"no_update", "states_swapped", "reward_misplaced", "moved_too_soon", "never_moved", "old_step", "reset_tuple"}
FLAGS = {"no_update", "done_as_terminated", "truncated_as_terminated", "negated", "old_step"}
CHOICES = {"draws_ahead", "two_draws", "random_actions", "greedy_while_learning", "old_step"}
RETURNS = {"discounted", "last_reward", "length", "mean", "last_reward_lost", "old_step"}


def values_from_0(dynamics: Any, gamma: float, tolerance: float) -> list[list[float]]:
    q = [[0.0] * len(dynamics[state]) for state in range(len(dynamics))]
    while True:
        values = [max(0.0, *row) for row in q]
        new = [[backup(dynamics[s][a], values, gamma) for a in range(len(q[s]))] for s in range(len(q))]
        change = max(abs(a - b) for row, old in zip(new, q, strict=True) for a, b in zip(row, old, strict=True))
        q = new
        if change <= tolerance:
            return q


WRONG = {
    "backup": Wrong(
        {"backup": backup},
        switches(backup, _combined),
        exclusive=(
            COMBINATIONS,
            FOLLOWING,
            {"no_gamma", "one_minus_gamma", "gamma_squared"},
            {"reward_missing", "one_reward", "gamma_on_reward", "probability_on_value"},
            {"stops_at_the_end", "reward_lost", "inverted", "terminal_counts", "first_outcome"},
            {"probability_on_value", "probability_on_reward", "next_subtracted"},
            {"last_outcome", "first_outcome", "reward_lost"},
        ),
    ),
    "value_iteration": Wrong(
        {"value_iteration": value_iteration},
        [id for id in switches(value_iteration, _stops, _expected, _state_value) if id not in ALONE],
        plain={
            **{id: {"value_iteration": functools.partial(value_iteration, wrong={id})} for id in ALONE},
            "values_from_0": {"value_iteration": values_from_0},
        },
        exclusive=(
            STOPS,
            ENDLESS,
            {"policy_mean", "worst_action", "first_action", "sum_of_actions"},
            {"most_likely", "last_outcome", "plain_mean", "unweighted"},
            {"reward_missing", "gamma_on_reward", "integers"},
            {"alias", "in_place"},
        ),
        readings=("in_place",),
    ),
    "play_and_learn": Wrong(
        {"play_and_learn": play_and_learn},
        switches(play_and_learn, _flag, _over, _return),
        exclusive=(
            LOOPS,
            LOOPS | {"last_step_lost"},
            TOLD,
            FLAGS,
            CHOICES,
            RETURNS,
            {"no_end_episode", "end_at_the_start", "end_every_step", "old_step"},
            {"late_updates", "no_update", "never_moved", "old_step"},
            {"last_step_lost", "end_every_step", "old_step"},
            {"last_step_lost", "late_updates", "no_update"},
            {"seeded_reset", "old_step"},
        ),
    ),
}
