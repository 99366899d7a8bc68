"""The dynamics of an environment as tables, in which the next step of thousands of agents is looked up at once."""

# S states, A actions, K outcomes that chance can choose between

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from q_learning_agent import require


class World:
    """The dynamics of an environment as tables that are looked up for all agents at once.

    Args:
        outcomes: probability, next state, reward and terminated, (4, S, A, outcomes): `SimpleMaze.outcomes`, or what
            `value_iteration.as_arrays` makes of any `env.P`.
        start: the state in which every episode begins.
        time_limit: steps after which an episode is cut short.
        dtype: of the rewards, and of all that is learned from them.

    Attributes:
        next_state, reward, continues: (S * A * K,) each; row (state * A + action) * K + outcome. `continues` is 0 where
            the episode ends and 1 elsewhere.
        limits: (K - 1,), where chance, a number in [0, 1), passes from one outcome to the next.

    Raises:
        UserError: the start is no state, or the time limit is not positive.
    """

    def __init__(
        self, outcomes: NDArray[np.float64], start: int, time_limit: int, dtype: torch.dtype = torch.float32
    ) -> None:
        probability, next_state, reward, terminated = outcomes  # (S, A, outcomes) each
        require("start", start, f"a state, 0 to {len(reward) - 1}", 0 <= start < len(reward))
        require("time_limit", time_limit, "1 or more", time_limit >= 1)
        ends = probability.cumsum(axis=2)  # (S, A, outcomes)
        # Each pair cuts [0, 1) at its own places. Cut everywhere at all of them, and one number chooses for every pair.
        limits = np.unique(ends[ends < 1])  # (K - 1,)
        begins = np.concatenate([[0.0], limits])  # (K,)
        piece_of = (ends[..., None, :] <= begins[:, None]).sum(axis=-1)  # (S, A, K): an outcome for each piece
        chosen = np.minimum(piece_of, probability.shape[2] - 1)  # probabilities may add up to a little less than 1

        def table(values: np.ndarray, dtype: torch.dtype) -> Tensor:
            return torch.tensor(np.take_along_axis(values, chosen, axis=2).ravel(), dtype=dtype)  # (S * A * K,)

        self.start, self.time_limit = start, time_limit
        self.n_states, self.n_actions, self.n_outcomes = chosen.shape
        self.next_state = table(next_state, torch.int32)
        self.reward = table(reward, dtype)
        self.continues = table(1 - terminated, dtype)
        self.limits = limits.tolist()

    def outcome(self, chance: Tensor) -> Tensor:
        """Which of the K outcomes a random number in [0, 1) stands for; `chance` has any shape."""
        outcome = torch.zeros(chance.shape, dtype=torch.int32)
        for limit in self.limits:
            outcome += chance >= limit
        return outcome
