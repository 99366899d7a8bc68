"""The pieces of Q-learning as functions of their own: the right answers of the exercises. Imports no torch.

Tests compare them with `q_learning_agent.py`, where they are parts of larger functions.
"""


def td_target(
    reward: float,
    next_values: list[float],
    terminated: bool,
    truncated: bool,
    gamma: float,
) -> float:
    """Return the target of Q-learning for one step: R + γ max_a Q(S', a)  (eq. 6.8).

    `next_values` holds Q(S', a) of every action a. `terminated`: the goal was reached. `truncated`:
    the time limit ended the episode. Both may be set.
    """
    # What comes after this step: the value of the best action in S', or 0 if nothing comes.
    next_value = 0.0 if terminated else max(next_values)
    # The reward that was received, and what comes after it, which is worth γ times as much.
    return reward + gamma * next_value


def q_update(
    table: dict[tuple[int, int], float],
    state: int,
    action: int,
    target: float,
    alpha: float,
) -> None:
    """Move Q(S, A) towards the target by the fraction α, in place  (eq. 6.8).

    `table` maps (state, action) to Q; an entry that is not there counts as 0.
    """
    # The old guess.
    old_value = table.get((state, action), 0.0)
    # Q(S,A) ← Q(S,A) + α [target − Q(S,A)]
    table[state, action] = old_value + alpha * (target - old_value)


def decayed_epsilon(epsilon: float, decay: float, minimum: float) -> float:
    """Return the probability of a random action in the next episode.

    It is `epsilon` times `decay`, but not below `minimum`.
    """
    # Explore a little less from the next episode on, but never less than the minimum.
    return max(minimum, epsilon * decay)
