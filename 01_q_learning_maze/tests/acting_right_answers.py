"""Right answers to the exercises on returns and on choosing actions in other styles. Imports no torch."""

import functools
import random
from fractions import Fraction
from typing import Any

import numpy as np


def return_by_powers(rewards: list[float], gamma: float) -> float:
    return sum(gamma**k * reward for k, reward in enumerate(rewards))


def return_by_weight(rewards: list[float], gamma: float) -> float:
    total, weight = 0, 1
    for reward in rewards:
        total += weight * reward
        weight *= gamma
    return total


def return_by_recursion(rewards: list[float], gamma: float) -> float:
    return rewards[0] + gamma * return_by_recursion(rewards[1:], gamma) if rewards else 0


def return_by_reduce(rewards: list[float], gamma: float) -> float:
    return functools.reduce(lambda later, reward: reward + gamma * later, rewards[::-1], 0.0)


def return_by_numpy(rewards: list[float], gamma: float) -> Any:
    return np.dot(rewards, np.power(gamma, np.arange(len(rewards))))


def return_by_polynomial(rewards: list[float], gamma: float) -> Any:
    return np.polyval(np.array(rewards)[::-1], gamma)


def return_by_fractions(rewards: list[float], gamma: float) -> Any:
    return sum((Fraction(reward) * Fraction(gamma) ** k for k, reward in enumerate(rewards)), Fraction(0))


def greedy_by_shuffle(values: list[float], rng: random.Random) -> int:
    actions = list(range(len(values)))
    rng.shuffle(actions)
    return max(actions, key=values.__getitem__)


def greedy_by_random_keys(values: list[float], rng: random.Random) -> int:
    return max(range(len(values)), key=lambda action: (values[action], rng.random()))


def greedy_by_reservoir(values: list[float], rng: random.Random) -> int:
    best, count, chosen = values[0], 1, 0
    for action in range(1, len(values)):
        if values[action] > best:
            best, count, chosen = values[action], 1, action
        elif values[action] == best:
            count += 1
            if rng.random() * count < 1:
                chosen = action
    return chosen


def greedy_by_numpy(values: list[float], rng: random.Random) -> Any:
    best = np.flatnonzero(np.array(values) == np.max(values))
    return best[rng.randint(0, len(best) - 1)]


def greedy_by_numpy_generator(values: list[float], rng: random.Random) -> Any:
    generator = np.random.default_rng(rng.getrandbits(64))
    return generator.choice(np.argwhere(np.asarray(values) == max(values)).ravel())


def greedy_by_draw(values: list[float], rng: random.Random) -> int:
    best = [action for action in range(len(values)) if not any(other > values[action] for other in values)]
    return best[int(rng.random() * len(best))]


def greedy_by_rejection(values: list[float], rng: random.Random) -> int:
    while True:
        action = rng.randrange(len(values))
        if values[action] == max(values):
            return action


def epsilon_by_weights(values: list[float], epsilon: float, rng: random.Random) -> int:
    best = values.count(max(values))
    weights = [epsilon / len(values) + (1 - epsilon) / best * (value == max(values)) for value in values]
    return rng.choices(range(len(values)), weights)[0]


def epsilon_by_one_draw(values: list[float], epsilon: float, rng: random.Random) -> int:
    draw = rng.random()
    if draw < epsilon:
        return int(draw / epsilon * len(values))
    best = [action for action, value in enumerate(values) if value == max(values)]
    return best[int((draw - epsilon) / (1 - epsilon) * len(best))]


def epsilon_by_exploiting_first(values: list[float], epsilon: float, rng: random.Random) -> int:
    if rng.random() >= epsilon:
        return greedy_by_shuffle(values, rng)
    return rng.randint(0, len(values) - 1)


def epsilon_by_candidates(values: list[float], epsilon: float, rng: random.Random) -> int:
    explores = rng.uniform(0, 1) < epsilon
    candidates = [action for action, value in enumerate(values) if explores or value == max(values)]
    return rng.sample(candidates, 1)[0]


def epsilon_by_values(values: list[float], epsilon: float, rng: random.Random) -> int:
    if rng.random() > 1 - epsilon:
        values = [0.0] * len(values)
    return greedy_by_random_keys(values, rng)


def epsilon_by_all_draws(values: list[float], epsilon: float, rng: random.Random) -> Any:
    explored, best, draw = rng.randrange(len(values)), greedy_by_numpy(values, rng), rng.random()
    return explored if draw < epsilon else best


RIGHT = {
    "discounted_return": {
        "powers": {"discounted_return": return_by_powers},
        "weight": {"discounted_return": return_by_weight},
        "recursion": {"discounted_return": return_by_recursion},
        "reduce": {"discounted_return": return_by_reduce},
        "numpy": {"discounted_return": return_by_numpy},
        "polynomial": {"discounted_return": return_by_polynomial},
        "fractions": {"discounted_return": return_by_fractions},
    },
    "greedy": {
        "shuffle": {"greedy": greedy_by_shuffle},
        "random keys": {"greedy": greedy_by_random_keys},
        "reservoir": {"greedy": greedy_by_reservoir},
        "numpy": {"greedy": greedy_by_numpy},
        "numpy's generator": {"greedy": greedy_by_numpy_generator},
        "draw": {"greedy": greedy_by_draw},
        "rejection": {"greedy": greedy_by_rejection},
    },
    "epsilon_greedy": {
        "weights": {"epsilon_greedy": epsilon_by_weights},
        "one draw": {"epsilon_greedy": epsilon_by_one_draw},
        "exploiting first": {"epsilon_greedy": epsilon_by_exploiting_first},
        "candidates": {"epsilon_greedy": epsilon_by_candidates},
        "other values": {"epsilon_greedy": epsilon_by_values},
        "all draws": {"epsilon_greedy": epsilon_by_all_draws},
    },
}
