"""Probes of the exercises on returns and on choosing actions (lesson 1). Imports no torch.

A function that chooses at random is called thousands of times, and the fractions of its actions are compared. A
fraction within 6 standard deviations of the right probability counts as equal to it, so that a right answer fails
less than once in 10 million checks; an action of probability 0 must never occur.
"""

import math
import operator
import random
from collections import Counter
from typing import Any

from lab.exercises.probes import Answer, Changed, Invariant, Probe, as_number, call, copied

SIGMAS = 6.0


def _return(name: str, rewards: list[float], gamma: float) -> Probe:
    return call("discounted_return", name, copied(rewards=rewards, gamma=gamma), result=as_number)


def _return_of(answer: Answer, rewards: list[float], gamma: float) -> float:
    return as_number(answer["discounted_return"](list(rewards), gamma))


def _first_step(answer: Answer) -> bool:
    """Return True if G = R₁ + γ G', where G' is the return of the rewards after the first."""
    rewards = [2.0, -1.0, 4.0, 8.0]
    later = _return_of(answer, rewards[1:], 0.25)
    return math.isclose(_return_of(answer, rewards, 0.25), rewards[0] + 0.25 * later)


def _order_counts(answer: Answer) -> bool:
    return _return_of(answer, [0.0, 0.0, 1.0], 0.5) < _return_of(answer, [1.0, 0.0, 0.0], 0.5)


DISCOUNTED_RETURN = (
    _return("three rewards", [1.0, 2.0, 4.0], 0.5),
    _return("five rewards", [3.0, -2.0, 8.0, 0.5, 16.0], 0.25),
    _return("a single reward", [6.0], 0.25),
    _return("no reward at all", [], 0.25),
    _return("gamma is 0", [2.0, 7.0, 9.0], 0.0),
    _return("gamma is 1", [2.0, -7.0, 9.0, 0.5], 1.0),
)


def _sampled(function: str, name: str, draws: int, values: list[float], chances: list[float], *epsilon: float) -> Probe:
    """Return a probe that calls a function many times and compares how often it returns each action."""

    def run(answer: Answer) -> Any:
        given, rng = list(values), random.Random(0)
        counts: Counter[Any] = Counter()
        kinds: set[str] = set()
        for _ in range(draws):
            action = answer[function](given, *epsilon, rng)
            if action is None:
                return None
            kind, action = _index(action)
            kinds.add(kind)
            counts[action] += 1
        found = [_snapped(counts.pop(action, 0), draws, p) for action, p in enumerate(chances)]
        result = {
            "returns": ", ".join(sorted(kinds)),
            **{f"action {action}": fraction for action, fraction in enumerate(found)},
            "no action": sum(counts.values()) / draws,
            "fits": "yes" if found == list(chances) and not any(counts.values()) else "no",  # is compared exactly
        }
        return Changed(result, () if given == values else ("values",))

    arguments = {"values": values, **({"epsilon": epsilon[0]} if epsilon else {}), "calls": draws}
    return Probe(name, run, copied(**arguments), absolute=SIGMAS * math.sqrt(0.5 / draws))


def _index(action: Any) -> tuple[str, Any]:
    """Return ("int", the number) of anything that can be an index, otherwise (its type, None)."""
    try:
        return "int", operator.index(action)
    except TypeError:
        return type(action).__name__, None


def _snapped(count: int, draws: int, probability: float) -> float:
    """Return count / draws, or the probability if that is within SIGMAS standard deviations."""
    sigma = math.sqrt(probability * (1 - probability) / draws)
    return probability if abs(count / draws - probability) <= SIGMAS * sigma else count / draws


def _repeated(function: str, *epsilon: float) -> Probe:
    """Return a probe that compares runs whose generators have the same seed, or another one."""
    values = [1.0, 1.0, *[0.0] * 6]

    def actions(answer: Answer, seed: int) -> list[Any]:
        rng = random.Random(seed)
        return [_index(answer[function](list(values), *epsilon, rng)) for _ in range(60)]

    def run(answer: Answer) -> Any:
        first, again, other = (actions(answer, seed) for seed in (1, 1, 2))
        return {"same seed, same actions": first == again, "another seed, the same actions": first == other}

    return Probe("generators with the same seed, and with another", run, copied(values=values))


GREEDY = (
    _sampled("greedy", "two of four are the best", 2000, [1.0, 3.0, 3.0, 0.0], [0, 1 / 2, 1 / 2, 0]),
    _sampled("greedy", "all values are 0", 3000, [0.0] * 4, [1 / 4] * 4),
    _sampled("greedy", "all values are negative", 1500, [-4.0, -1.0, -2.0, -1.0], [0, 1 / 2, 0, 1 / 2]),
    _sampled("greedy", "values that nearly tie", 2000, [1.0, 1.0 - 2**-40, 0.0, 1.0], [1 / 2, 0, 0, 1 / 2]),
    _sampled("greedy", "a single action", 20, [-3.0], [1]),
    _repeated("greedy"),
)  # fmt: skip

EPSILON_GREEDY = (
    _sampled("epsilon_greedy", "three actions, epsilon is 0.3", 3000, [0.5, 2.0, -1.0], [0.1, 0.8, 0.1], 0.3),
    _sampled("epsilon_greedy", "always explore", 3000, [1.0, -2.0, 5.0], [1 / 3] * 3, 1.0),
    _sampled("epsilon_greedy", "two of four are the best", 6000, [3.0, 1.0, 3.0, 0.0],
             [0.3125, 0.1875, 0.3125, 0.1875], 0.75),
    _sampled("epsilon_greedy", "rarely explore", 12000, [-0.5, -0.25], [0.025, 0.975], 0.05),
    _sampled("epsilon_greedy", "never explore, all values are equal", 1000, [0.0, 0.0, 0.0], [1 / 3] * 3, 0.0),
    _sampled("epsilon_greedy", "values that nearly tie", 100, [1.0 - 2**-40, 1.0], [0, 1], 0.0),
    _sampled("epsilon_greedy", "a single action", 50, [7.0], [1], 0.5),
    _repeated("epsilon_greedy", 0.5),
)  # fmt: skip


def _counts(answer: Answer, function: str, values: list[float], *epsilon: float) -> Counter[Any]:
    rng = random.Random(3)
    return Counter(_index(answer[function](list(values), *epsilon, rng))[1] for _ in range(1500))


def _only_the_best(answer: Answer) -> bool:
    return _counts(answer, "greedy", [-2.0, -0.25, -1.0, -0.25, -0.5]).keys() <= {1, 3}


def _fair(counts: Counter[Any], actions: int) -> bool:
    """Return True if the actions 0, 1, ... are equally likely, within SIGMAS standard deviations."""
    total, p = sum(counts.values()), 1 / actions
    return all(_snapped(counts[action], total, p) == p for action in range(actions))


def _ties_vary(answer: Answer) -> bool:
    return len(_counts(answer, "greedy", [2.0, 2.0, 2.0, 2.0])) > 1


def _ties_are_fair(answer: Answer) -> bool:
    return _fair(_counts(answer, "greedy", [2.0, 2.0, 2.0, 2.0]), 4)


def _epsilon_zero(answer: Answer) -> bool:
    return _counts(answer, "epsilon_greedy", [0.5, 0.25, 1.5, -1.0, 1.25], 0.0).keys() == {2}


def _epsilon_one(answer: Answer) -> bool:
    return _fair(_counts(answer, "epsilon_greedy", [0.5, 0.25, 1.5, -1.0], 1.0), 4)


def _epsilon_counts(answer: Answer) -> bool:
    values = [0.5, 0.25, 1.5, -1.0]
    best = [_counts(answer, "epsilon_greedy", values, epsilon)[2] / 1500 for epsilon in (0.25, 0.5, 0.75)]
    return all(abs(found - right) < 0.07 for found, right in zip(best, (0.8125, 0.625, 0.4375), strict=True))


PROBES = {"discounted_return": DISCOUNTED_RETURN, "greedy": GREEDY, "epsilon_greedy": EPSILON_GREEDY}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "discounted_return": (
        Invariant("order_counts", _order_counts, "a reward that comes later must count less; yours does not"),
        Invariant("first_step", _first_step, "a return is the first reward plus gamma times the return after it"),
    ),
    "greedy": (
        Invariant("only_the_best", _only_the_best, "yours sometimes returns an action that is not the best"),
        Invariant("ties_vary", _ties_vary, "among equal values yours always takes the same one, whatever `rng` draws"),
        Invariant("fair_ties", _ties_are_fair, "equal values must be equally likely; yours prefers some"),
    ),
    "epsilon_greedy": (
        Invariant("epsilon_zero", _epsilon_zero, "with epsilon = 0 only the best action may be taken"),
        Invariant("epsilon_one", _epsilon_one, "with epsilon = 1 all actions must be equally likely; yours are not"),
        Invariant(
            "epsilon_counts", _epsilon_counts, "the best of n actions must be taken with 1 - epsilon + epsilon / n"
        ),
    ),
}
