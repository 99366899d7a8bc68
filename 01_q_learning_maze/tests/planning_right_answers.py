"""Right answers to the exercises on dynamic programming and on the training loop in other styles. Imports no torch."""

import itertools
from typing import Any

import numpy as np

Outcomes = list[tuple[float, int, float, bool]]


def backup_by_sum(outcomes: Outcomes, values: list[float], gamma: float) -> float:
    return sum(p * (r + gamma * (not ended) * values[s]) for p, s, r, ended in outcomes)


def backup_in_two_parts(outcomes: Outcomes, values: list[float], gamma: float) -> float:
    rewards = sum(p * r for p, _, r, _ in outcomes)
    future = sum(p * values[s] for p, s, _, ended in outcomes if not ended)
    return rewards + gamma * future


def backup_by_numpy(outcomes: Outcomes, values: list[float], gamma: float) -> Any:
    p, s, r, ended = map(np.array, zip(*outcomes, strict=True))
    return p @ (r + gamma * np.where(ended, 0.0, np.array(values)[s]))


def backup_by_branches(outcomes: Outcomes, values: list[float], gamma: float) -> float:
    total = 0
    for outcome in outcomes:
        total += outcome[0] * outcome[2]
        if outcome[3]:
            continue
        total += outcome[0] * gamma * values[outcome[1]]
    return total


def iteration_in_place(dynamics: Any, gamma: float, tolerance: float) -> list[list[float]]:
    q = [[0.0 for _ in range(len(dynamics[s]))] for s in range(len(dynamics))]
    change = tolerance + 1
    while change > tolerance:
        change = 0.0
        for s in range(len(dynamics)):
            for a in range(len(dynamics[s])):
                new = backup_by_sum(dynamics[s][a], [max(row) for row in q], gamma)
                change = max(change, abs(new - q[s][a]))
                q[s][a] = new
    return q


def iteration_of_values(dynamics: Any, gamma: float, tolerance: float) -> list[list[float]]:
    states = range(len(dynamics))
    values = [0.0] * len(dynamics)
    while True:
        q = [[backup_in_two_parts(dynamics[s][a], values, gamma) for a in range(len(dynamics[s]))] for s in states]
        new = [max(row) for row in q]
        if all(abs(a - b) <= tolerance for a, b in zip(new, values, strict=True)):
            return q
        values = new


def iteration_by_sum_of_changes(dynamics: Any, gamma: float, tolerance: float) -> list[list[float]]:
    q = {(s, a): 0.0 for s in range(len(dynamics)) for a in range(len(dynamics[s]))}
    actions = len(dynamics[0])
    for _ in itertools.count():
        best = [max(q[s, a] for a in range(actions)) for s in range(len(dynamics))]
        new = {(s, a): backup_by_branches(dynamics[s][a], best, gamma) for s, a in q}
        total = sum(abs(new[key] - q[key]) for key in q)
        q = new
        if total <= tolerance:
            break
    return [[q[s, a] for a in range(actions)] for s in range(len(dynamics))]


def iteration_by_numpy(dynamics: Any, gamma: float, tolerance: float) -> list[list[float]]:
    n_states, n_actions = len(dynamics), len(dynamics[0])
    reward, transition = np.zeros((n_states, n_actions)), np.zeros((n_states, n_actions, n_states))
    for s, a in np.ndindex(n_states, n_actions):
        for p, next_state, r, ended in dynamics[s][a]:
            reward[s, a] += p * r
            transition[s, a, next_state] += p * (1 - ended)
    q = np.zeros((n_states, n_actions))
    while True:
        new = reward + gamma * transition @ q.max(1)
        if np.abs(new - q).max() <= tolerance:
            return new.tolist()
        q = new


def iteration_from_the_end(dynamics: Any, gamma: float, tolerance: float) -> list[list[float]]:
    q = {s: [100.0] * len(dynamics[s]) for s in range(len(dynamics))}
    moving = True
    while moving:
        moving = False
        for s in reversed(range(len(dynamics))):
            for a in range(len(q[s])):
                before, total = q[s][a], 0.0
                for p, next_state, r, ended in dynamics[s][a]:
                    total += p * (r if ended else r + gamma * max(q[next_state]))
                q[s][a] = total
                moving = moving or abs(total - before) > tolerance
    return [q[s] for s in range(len(dynamics))]


def play_until_done(env: Any, agent: Any) -> float:
    state = env.reset()[0]
    total, done = 0, False
    while not done:
        action = agent.act(state)
        new, reward, terminated, truncated, _ = env.step(action)
        agent.update(state, action, reward, new, terminated)
        total, state, done = total + reward, new, terminated or truncated
    agent.end_episode()
    return total


def play_with_break(env: Any, agent: Any) -> float:
    rewards = []
    state, _info = env.reset(seed=None)
    while True:
        action = agent.act(state, greedy=False)
        result = env.step(action)
        rewards.append(float(result[1]))
        agent.update(
            state=state, action=action, reward=result[1], next_state=result[0], terminated=1 if result[2] else 0
        )
        state = result[0]
        if any(result[2:4]):
            break
    agent.end_episode()
    return sum(rewards)


def play_by_recursion(env: Any, agent: Any) -> float:
    def rest(state: Any) -> float:
        action = agent.act(state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.update(state, action, reward, next_state, terminated)
        return reward + (0.0 if terminated or truncated else rest(next_state))

    total = rest(env.reset()[0])
    agent.end_episode()
    return total


def play_by_numpy(env: Any, agent: Any) -> Any:
    state, _ = env.reset()
    total, flags = np.zeros(()), np.array([False, False])
    while not flags.any():
        action = agent.act(state)
        next_state, reward, *ends, _ = env.step(action)
        flags = np.array(ends)
        agent.update(state, action, np.float64(reward), next_state, flags[0])
        state = next_state
        total = total + reward
    agent.end_episode()
    return total


RIGHT = {
    "backup": {
        "sum": {"backup": backup_by_sum},
        "two parts": {"backup": backup_in_two_parts},
        "numpy": {"backup": backup_by_numpy},
        "branches": {"backup": backup_by_branches},
    },
    "value_iteration": {
        "in place": {"value_iteration": iteration_in_place},
        "values": {"value_iteration": iteration_of_values},
        "sum of changes": {"value_iteration": iteration_by_sum_of_changes},
        "numpy": {"value_iteration": iteration_by_numpy},
        "from the end": {"value_iteration": iteration_from_the_end},
    },
    "play_and_learn": {
        "until done": {"play_and_learn": play_until_done},
        "break": {"play_and_learn": play_with_break},
        "recursion": {"play_and_learn": play_by_recursion},
        "numpy": {"play_and_learn": play_by_numpy},
    },
}
