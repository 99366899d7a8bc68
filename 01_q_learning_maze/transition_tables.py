"""The dynamics of an environment as tables: one look-up steps thousands of agents."""

# S states, A actions, K outcomes of an action

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from argument_checks import require


class TransitionTables:
    """Next state, reward and end of episode for every state, action and outcome, as flat tensors.

    Args:
        outcomes: probability, next state, reward and terminated, (4, S, A, outcomes):
            `SimpleMaze.outcomes()`, or `value_iteration.as_arrays(env.P)` of any environment.
        start: the state in which every episode starts.
        time_limit: number of steps after which an episode is truncated.
        dtype: dtype of the rewards, and of all that is learned from them.
        device: device of the tables, and of all agents that learn with them.

    Attributes:
        next_state, reward, nonterminal: (S * A * K,) each, at index (state * A + action) * K +
            outcome. `nonterminal` is 0 where the episode ends and 1 elsewhere.
        cumulative_thresholds: (K - 1,), ascending numbers in (0, 1). A random number below the
            first stands for outcome 0, between the first and the second for outcome 1, ...

    Raises:
        UserError: `start` is not a state, or `time_limit` is not positive.
    """

    def __init__(
        self,
        outcomes: NDArray[np.float64],
        start: int,
        time_limit: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        probability, next_state, reward, terminated = outcomes  # (S, A, outcomes) each
        require("start", start, f"a state, 0 to {len(reward) - 1}", 0 <= start < len(reward))
        require("time_limit", time_limit, "1 or more", time_limit >= 1)
        # An action's probabilities cut [0, 1) into intervals, one per outcome. Cut [0, 1) at the
        # ends of all intervals of all actions, and one random number samples for every action.
        interval_ends = probability.cumsum(axis=2)  # (S, A, outcomes)
        is_inside = (interval_ends > 0) & (interval_ends < 1)  # (S, A, outcomes)
        thresholds = np.unique(interval_ends[is_inside])  # (K - 1,)
        piece_starts = np.concatenate([[0.0], thresholds])  # (K,)
        # the outcome that each of the K pieces belongs to
        ends_before = interval_ends[..., None, :] <= piece_starts[:, None]  # (S, A, K, outcomes)
        outcome_of_piece = ends_before.sum(axis=-1)  # (S, A, K)
        # probabilities may add up to a little less than 1: what is left goes to the last outcome
        outcome_of_piece = np.minimum(outcome_of_piece, probability.shape[2] - 1)  # (S, A, K)

        def flat_table(values: np.ndarray, dtype: torch.dtype) -> Tensor:
            selected = np.take_along_axis(values, outcome_of_piece, axis=2)  # (S, A, K)
            flat = selected.ravel()  # (S, A, K) -> (S * A * K,)
            return torch.tensor(flat, dtype=dtype, device=device)

        self.device = torch.device(device)
        self.start = start
        self.time_limit = time_limit
        self.n_states, self.n_actions, self.n_outcomes = outcome_of_piece.shape
        self.next_state = flat_table(next_state, torch.int32)
        self.reward = flat_table(reward, dtype)
        self.nonterminal = flat_table(1 - terminated, dtype)
        self.cumulative_thresholds: list[float] = thresholds.tolist()

    def outcome(self, uniform_draw: Tensor) -> Tensor:
        """Return which of the K outcomes random numbers in [0, 1) of any shape stand for."""
        outcome = torch.zeros_like(uniform_draw, dtype=torch.int32)
        for threshold in self.cumulative_thresholds:
            outcome += uniform_draw >= threshold
        return outcome
