"""Exact Q-values by dynamic programming, from a known maze: what Q-learning must arrive at without knowing it."""

# S states, A actions, K outcomes an action can have

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lab.errors import UserError

Dynamics = Mapping[int, Mapping[int, list[tuple[float, int, float, bool]]]]


def value_iteration(
    dynamics: Dynamics | NDArray[np.float64], discount: float, tolerance: float = 1e-10
) -> NDArray[np.float64]:
    """Q*, (S, A), from `dynamics`: `env.P` of any of Gymnasium's toy_text environments, or `SimpleMaze.outcomes()`.

    Sweeps over all states until none of the values changes by more than `tolerance`. Raises UserError for a `discount`
    outside [0, 1]. With a discount of 1 every state must have a way to an end, as in `SimpleMaze`.
    """
    if not 0 <= discount <= 1:
        raise UserError(f"discount is {discount}; it must be in [0, 1]")
    outcomes = dynamics if isinstance(dynamics, np.ndarray) else as_arrays(dynamics)
    probability, next_state, reward, terminated = outcomes  # (S, A, K) each
    q = np.zeros(reward.shape[:2])  # (S, A)
    while True:
        best = q.max(axis=1)  # (S,)
        # Q(s,a) ← Σ p(s',r|s,a) [r + γ max_a' Q(s',a')], the optimality equation as an assignment    S&B eq. 4.2
        worth = reward + discount * (1 - terminated) * best[next_state.astype(int)]  # (S, A, K)
        new_q = (probability * worth).sum(axis=2)  # (S, A)
        if np.abs(new_q - q).max() <= tolerance:
            return new_q
        q = new_q


def as_arrays(dynamics: Dynamics) -> NDArray[np.float64]:
    """Probability, next state, reward and terminated of every outcome, (4, S, A, K), rows padded with probability 0."""
    listed = [[dynamics[state][action] for action in dynamics[state]] for state in dynamics]
    most = max(len(outcomes) for actions in listed for outcomes in actions)
    table = np.zeros((len(listed), len(listed[0]), most, 4))  # (S, A, K, 4)
    for state, actions in enumerate(listed):
        for action, outcomes in enumerate(actions):
            table[state, action, : len(outcomes)] = outcomes
    return np.moveaxis(table, -1, 0)  # (4, S, A, K)


def greedy_policy(q: NDArray[np.float64]) -> NDArray[np.int64]:
    """The best action in each state, (S,), for `q` (S, A); of several the first."""
    return q.argmax(axis=1)
