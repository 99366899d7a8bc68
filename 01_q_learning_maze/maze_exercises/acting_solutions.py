"""Returns and the choice of actions as functions: the right answers of the exercises. Imports no torch.

Tests compare them with `q_learning_agent.py` and `value_iteration.py`, where they are parts of larger functions.
"""

import random


def discounted_return(rewards: list[float], gamma: float) -> float:
    """Return the discounted return of an episode: G = R₁ + γ R₂ + γ² R₃ + ...

    `rewards` holds R₁, R₂, R₃, ... in the order in which they were received; it may be empty.
    """
    # The return of what comes after the last reward.
    return_ = 0.0
    # From the last reward to the first: G of a step is its reward and γ times the G after it.
    for reward in reversed(rewards):
        return_ = reward + gamma * return_
    return return_


def greedy(values: list[float], rng: random.Random) -> int:
    """Return the index of the largest value.

    If several values are exactly equal to the largest, `rng` chooses one of them, all equally
    likely.
    """
    # Find the largest value, and every action that has it.
    best_value = max(values)
    best_actions = [action for action, value in enumerate(values) if value == best_value]
    # Take one of these actions at random.
    return rng.choice(best_actions)


def epsilon_greedy(values: list[float], epsilon: float, rng: random.Random) -> int:
    """Return the action of the epsilon-greedy policy, an index into `values`.

    With probability `epsilon` it explores: every action is equally likely, the best one too.
    Otherwise it takes the best action; if several are exactly equal, `rng` chooses one of them.
    """
    # Explore: with probability ε take any action.
    if rng.random() < epsilon:
        return rng.randrange(len(values))
    # Exploit: take one of the actions with the largest value.
    best_value = max(values)
    best_actions = [action for action, value in enumerate(values) if value == best_value]
    return rng.choice(best_actions)
