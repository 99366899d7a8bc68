"""Right answers to the exercises of lesson 1 in other styles than the lab's: all must pass. Imports no torch."""

from typing import Any

import numpy as np


def target_by_mask(reward: float, next_values: list[float], terminated: bool, truncated: bool, gamma: float) -> float:
    return reward + gamma * (1 - terminated) * max(next_values)


def target_by_branches(
    reward: float, next_values: list[float], terminated: bool, truncated: bool, gamma: float
) -> float:
    if terminated:
        return reward
    best = next_values[0]
    for value in next_values[1:]:
        if value > best:
            best = value
    return gamma * best + reward


def target_by_numpy(reward: float, next_values: list[float], terminated: bool, truncated: bool, gamma: float) -> Any:
    return np.float64(reward) + gamma * np.max(next_values) * np.logical_not(terminated)


Table = dict[tuple[int, int], float]


def update_by_average(table: Table, state: int, action: int, target: float, alpha: float) -> None:
    old = table.get((state, action), 0)
    table[state, action] = (1 - alpha) * old + alpha * target


def update_by_adding(table: Table, state: int, action: int, target: float, alpha: float) -> None:
    table.setdefault((state, action), 0.0)
    table[state, action] += alpha * (target - table[state, action])


def update_by_branches(table: Table, state: int, action: int, target: float, alpha: float) -> None:
    key = (state, action)
    if key in table:
        table[key] = table[key] - alpha * (table[key] - target)
    else:
        table[key] = alpha * target


def update_by_try(table: Table, state: int, action: int, target: float, alpha: float) -> None:
    try:
        old = table[(state, action)]
    except KeyError:
        old = 0
    table.update({(state, action): old * (1.0 - alpha) + target * alpha})


def update_if_different(table: Table, state: int, action: int, target: float, alpha: float) -> None:
    error = target - (table.get((state, action)) or 0.0)
    if alpha * error:
        table[state, action] = target - (1 - alpha) * error


def target_by_sorting(reward: float, next_values: list[float], terminated: bool, truncated: bool, gamma: float) -> Any:
    return [reward + gamma * sorted(next_values)[-1], reward][int(terminated)]


def decayed_by_branches(epsilon: float, decay: float, minimum: float) -> float:
    epsilon *= decay
    if epsilon < minimum:
        epsilon = minimum
    return epsilon


def decayed_by_numpy(epsilon: float, decay: float, minimum: float) -> Any:
    return np.clip(epsilon * decay, minimum, None)


def decayed_by_sorting(epsilon: float, decay: float, minimum: float) -> float:
    return sorted((minimum, decay * epsilon))[1]


def decayed_by_excess(epsilon: float, decay: float, minimum: float) -> float:
    return minimum + max(0, epsilon * decay - minimum)


RIGHT = {
    "td_target": {
        "mask": {"td_target": target_by_mask},
        "branches": {"td_target": target_by_branches},
        "numpy": {"td_target": target_by_numpy},
        "sorting": {"td_target": target_by_sorting},
    },
    "q_update": {
        "average": {"q_update": update_by_average},
        "adding": {"q_update": update_by_adding},
        "branches": {"q_update": update_by_branches},
        "try": {"q_update": update_by_try},
        "if different": {"q_update": update_if_different},
    },
    "decayed_epsilon": {
        "branches": {"decayed_epsilon": decayed_by_branches},
        "numpy": {"decayed_epsilon": decayed_by_numpy},
        "sorting": {"decayed_epsilon": decayed_by_sorting},
        "excess": {"decayed_epsilon": decayed_by_excess},
    },
}
