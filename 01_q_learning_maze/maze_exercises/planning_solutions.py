"""Dynamic programming and the training loop as functions of their own: the right answers of the exercises.

Imports no torch. Tests compare them with `value_iteration.py` and `q_learning_agent.py`.
"""

from typing import Any


def backup(
    outcomes: list[tuple[float, int, float, bool]],
    values: list[float],
    gamma: float,
) -> float:
    """Return what an action is worth on average: Σ p [r + γ V(s')]  (eq. 4.2).

    `outcomes` lists what may happen: (probability, next_state, reward, terminated). `values[state]`
    is V(state). The value of what comes after a terminated outcome is 0.
    """
    expected = 0.0
    for probability, next_state, reward, terminated in outcomes:
        # What comes after this outcome.
        next_value = 0.0 if terminated else values[next_state]
        # Each outcome counts as much as it is probable.
        expected += probability * (reward + gamma * next_value)
    return expected


def value_iteration(
    dynamics: Any,
    gamma: float,
    tolerance: float,
) -> list[list[float]]:
    """Return Q* as a list of rows, one per state, with one number per action  (eq. 4.2).

    `dynamics[state][action]` lists the outcomes of an action in a state, as in `backup`; states
    are numbered from 0 to `len(dynamics) - 1`, actions from 0 to `len(dynamics[state]) - 1`.
    Sweeps over all states until no entry changes by more than `tolerance`.
    """
    # Nothing is known at first: every Q is 0.
    q = [[0.0] * len(dynamics[state]) for state in range(len(dynamics))]
    while True:
        # The value of a state is the Q of its best action.
        values = [max(row) for row in q]
        # One sweep: Q(s,a) ← Σ p [r + γ V(s')], where V(s') is 0 after a terminated outcome.
        new_q = []
        largest_change = 0.0
        for state in range(len(dynamics)):
            row = []
            for action in range(len(dynamics[state])):
                expected = 0.0
                for probability, next_state, reward, terminated in dynamics[state][action]:
                    next_value = 0.0 if terminated else values[next_state]
                    expected += probability * (reward + gamma * next_value)
                row.append(expected)
                # Remember the largest change of this sweep.
                largest_change = max(largest_change, abs(expected - q[state][action]))
            new_q.append(row)
        q = new_q
        # Stop when nothing changes any more.
        if largest_change <= tolerance:
            return q


def play_and_learn(env: Any, agent: Any) -> float:
    """Play one training episode, and return its undiscounted return.

    `env` has the methods of Gymnasium: `reset()` returns (state, info), `step(action)` returns
    (next_state, reward, terminated, truncated, info). The agent learns from every step by
    `agent.update(state, action, reward, next_state, terminated)`; `agent.act(state)` chooses an
    action, and `agent.end_episode()` is called when the episode is over.
    """
    # Start an episode.
    state, _ = env.reset()
    total_reward = 0.0
    terminated = False
    truncated = False
    while not (terminated or truncated):
        # Choose an action.
        action = agent.act(state)
        # Take it, and observe the reward and the next state.
        next_state, reward, terminated, truncated, _ = env.step(action)
        # Learn from this one step.
        agent.update(state, action, reward, next_state, terminated)
        # Move on to the next state.
        state = next_state
        total_reward += reward
    # The episode is over: the agent explores a little less from the next one on.
    agent.end_episode()
    return total_reward
