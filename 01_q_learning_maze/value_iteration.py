"""Exact Q-values of a known maze by dynamic programming: the values that Q-learning converges to."""

# S states, A actions, K outcomes of an action

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from argument_checks import require

# env.P: state to action to [(probability, next state, reward, terminated), ...]
Dynamics = Mapping[int, Mapping[int, list[tuple[float, int, float, bool]]]]


def value_iteration(
    dynamics: Dynamics | NDArray[np.float64],
    discount: float,
    tolerance: float = 1e-10,
) -> NDArray[np.float64]:
    """Return Q*, (S, A).

    Sweeps over all states until no Q-value changes by more than `tolerance`. With a discount of 1
    the end of an episode must be reachable from every state, as it is in `SimpleMaze`.

    Args:
        dynamics: `env.P` of any of Gymnasium's toy_text environments, or `SimpleMaze.outcomes()`.
        discount: γ in [0, 1].
        tolerance: largest change of the last sweep.

    Raises:
        UserError: the discount is outside [0, 1].
    """
    require("discount", discount, "in [0, 1]", 0 <= discount <= 1)
    outcomes = dynamics if isinstance(dynamics, np.ndarray) else as_arrays(dynamics)  # (4, S, A, K)
    probability, next_state, reward, terminated = outcomes  # (S, A, K) each
    next_state = next_state.astype(int)
    q = np.zeros(reward.shape[:2])  # (S, A)
    while True:
        # the value of a state is the Q of its best action; that of a terminal state is 0
        state_values = q.max(axis=1)  # (S,)
        next_values = (1 - terminated) * state_values[next_state]  # (S, A, K)
        # Q(s,a) ← Σ p(s',r|s,a) [r + γ max_a' Q(s',a')]                          S&B eq. 4.2
        targets = reward + discount * next_values  # (S, A, K)
        new_q = (probability * targets).sum(axis=2)  # (S, A, K) -> (S, A)
        # stop when nothing changes any more
        largest_change = np.abs(new_q - q).max()
        q = new_q
        if largest_change <= tolerance:
            return q


def as_arrays(dynamics: Dynamics) -> NDArray[np.float64]:
    """Return `env.P` as arrays, (4, S, A, K): probability, next state, reward and terminated.

    Actions with fewer than K outcomes are padded with outcomes of probability 0.
    """
    all_outcomes = [list(actions.values()) for actions in dynamics.values()]
    n_states = len(all_outcomes)
    n_actions = len(all_outcomes[0])
    n_outcomes = max(len(outcomes) for actions in all_outcomes for outcomes in actions)
    table = np.zeros((n_states, n_actions, n_outcomes, 4))  # (S, A, K, 4)
    for state, actions in enumerate(all_outcomes):
        for action, outcomes in enumerate(actions):
            table[state, action, : len(outcomes)] = outcomes
    return np.moveaxis(table, -1, 0)  # (S, A, K, 4) -> (4, S, A, K)


def greedy_policy(q: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the best action in each state, (S,), for `q` (S, A); the first one if several tie."""
    return q.argmax(axis=1)
