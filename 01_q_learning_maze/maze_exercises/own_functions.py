"""Where a learner's own functions go in Q-learning: `python train.py --with ../my_exercises/q_update.py`.

# N agents, S states, A actions
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.exercises.own import Functions, Place, Takes
from lab.exercises.own_results import anything, index, number_like, shown
from maze_exercises import tabular_solutions
from q_learning_agent import Episode


class Watched(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that remembers the last step, for functions that are told less than the lab's."""

    def __init__(self, env: Any, seed: int | None = None) -> None:
        super().__init__(env)
        self.seed = seed  # of the first reset
        self.length = 0  # steps of the episode
        self.terminated = False
        self.truncated = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode."""
        seed, self.seed = (self.seed, None) if seed is None else (seed, None)
        self.length = 0
        self.terminated = self.truncated = False
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        """Take a step. Raises RuntimeError after the end of an episode."""
        if self.terminated or self.truncated:
            raise RuntimeError("a step after the end of the episode, which either of two flags can tell")
        step = self.env.step(action)
        self.length += 1
        _, _, self.terminated, self.truncated, _ = step
        return step


WATCHED: WeakKeyDictionary[Any, Watched] = WeakKeyDictionary()  # agent -> the environment that it is trained in


def update_of_agent(own: Functions, lab: Any) -> Callable[..., None]:
    """Return `QLearningAgent.update` with a learner's `td_target` and `q_update`; the lab's for the one not given."""
    td_target = own.get("td_target", tabular_solutions.td_target)
    q_update = own.get("q_update", tabular_solutions.q_update)

    def update(self: Any, state: int, action: int, reward: float, next_state: int, terminated: bool) -> None:
        truncated = self in WATCHED and WATCHED[self].truncated
        target = float(td_target(reward, self.q_values(next_state), terminated, truncated, self.discount))
        q_update(self.q_table, state, action, target, self.learning_rate)

    return update


def training(own: Functions, lab: Callable[..., Iterator[Episode]]) -> Callable[..., Iterator[Episode]]:
    """Return `train` with a learner's `play_and_learn`; without, it lets `td_target` know which steps are truncated."""

    def train(agent: Any, env: Any, episodes: int, seed: int) -> Iterator[Episode]:
        WATCHED[agent] = Watched(env)
        if "play_and_learn" not in own:
            yield from lab(agent, WATCHED[agent], episodes, seed)
            return
        WATCHED[agent].seed = seed
        for number_of_episode in range(1, episodes + 1):
            epsilon = agent.epsilon
            total_reward = float(own["play_and_learn"](WATCHED[agent], agent))
            watched = WATCHED[agent]
            yield Episode(number_of_episode, total_reward, watched.length, epsilon, watched.terminated)

    return train


def fraction(result: Any, arguments: Sequence[Any]) -> str:
    """Accept a probability."""
    problem = number_like(result, arguments)
    return problem or ("" if 0 <= result <= 1 else f"returns {result}; it must be in [0, 1]")


def act_of_agent(own: Functions, lab: Callable[..., int]) -> Callable[..., int]:
    """Return `QLearningAgent.act` with a learner's `greedy` and `epsilon_greedy`; the lab's for the one not given."""

    def act(self: Any, state: int, greedy: bool = False) -> int:
        values = self.q_values(state)
        if "epsilon_greedy" in own and not greedy:
            return int(own["epsilon_greedy"](values, self.epsilon, self._random))
        if "greedy" not in own:
            return lab(self, state, greedy)
        if not greedy and self._random.random() < self.epsilon:
            return self._random.randrange(self.n_actions)
        return int(own["greedy"](values, self._random))

    return act


def end_of_episode(own: Functions, lab: Any) -> Callable[..., None]:
    """Return `QLearningAgent.end_episode` with a learner's `decayed_epsilon`."""

    def end_episode(self: Any) -> None:
        self.epsilon = float(own["decayed_epsilon"](self.epsilon, self.epsilon_decay, self.epsilon_min))

    return end_episode


def act_of_many(own: Functions, lab: Any) -> Callable[..., Tensor]:
    """Return `BatchedQLearning.act` with a learner's `batched_act`."""

    def act(self: Any, explore_draw: Tensor, tie_break_draw: Tensor) -> Tensor:
        values = self.q_values(self.state)  # (A, N)
        return own["batched_act"](values, self.epsilon, explore_draw, tie_break_draw).to(torch.int32, copy=True)  # (N,)

    return act


def step_of_many(own: Functions, lab: Callable[..., Any]) -> Callable[..., Any]:
    """Return `BatchedQLearning.step` that learns by a learner's `batched_update`; agents that are frozen do not."""

    def step(self: Any, explore_draw: Tensor, tie_break_draw: Tensor, outcome: Tensor) -> Any:
        action = self.act(explore_draw, tie_break_draw)  # (N,)
        state = self.state  # (N,)
        before = self.q.clone()  # (N, S, A)
        happened = (state * self.dynamics.n_actions + action) * self.dynamics.n_outcomes + outcome  # (N,)
        rate, learns = self.learning_rate.clone(), self.learning_rate > 0  # (N,)

        # Let the lab take the step with this action, and then learn from it as the learner does.
        self.act = lambda *draws: action.clone()
        try:
            episodes = lab(self, explore_draw, tie_break_draw, outcome)
        finally:
            del self.act
        self.q.copy_(before)
        if bool(learns.any()):
            own["batched_update"](
                self.q,
                state.long(),
                action.long(),
                self.dynamics.reward[happened],
                self.dynamics.next_state[happened].long(),
                self.dynamics.nonterminal[happened],
                _as_number(rate, learns),
                _as_number(self.discount, learns),
            )
            own["batched_update"].require(
                "" if bool(self.q.isfinite().all()) else "leaves NaN or infinity in the tables"
            )
            self.q[~learns] = before[~learns]
        return episodes

    return step


def _as_number(setting: Tensor, learns: Tensor) -> float | Tensor:
    """Return the setting that all agents that learn have in common; (N,) if they differ, as in a sweep."""
    values = setting[learns].unique()
    return float(values) if len(values) == 1 else setting


def actions(result: Any, arguments: Sequence[Any]) -> str:
    """Accept an action for each agent, (N,), of any integer type."""
    n_actions, n_agents = arguments[0].shape
    if not isinstance(result, Tensor) or result.shape != (n_agents,) or result.is_floating_point():
        return f"returns {shown(result)}; it must be ({n_agents},) of an integer type"
    inside = (result >= 0) & (result < n_actions)
    return "" if bool(inside.all()) else f"returns an action that is not 0 to {n_actions - 1}"


def values_of_optimum(own: Functions, lab: Any) -> Callable[..., NDArray[np.float64]]:
    """Return `value_iteration` with a learner's, which takes lists of outcomes instead of arrays."""

    def value_iteration(dynamics: Any, discount: float, tolerance: float = 1e-10) -> NDArray[np.float64]:
        if isinstance(dynamics, np.ndarray):  # (4, S, A, K)
            rows = np.moveaxis(dynamics, 0, -1).tolist()  # (S, A, K, 4)
            dynamics = [[[(p, int(s), r, bool(t)) for p, s, r, t in outcomes] for outcomes in row] for row in rows]
        return np.array(own["value_iteration"](dynamics, discount, tolerance), dtype=np.float64)  # (S, A)

    return value_iteration


def table(result: Any, arguments: Sequence[Any]) -> str:
    """Accept rows of finite numbers, one row per state and one number per action."""
    dynamics = arguments[0]
    try:
        values = np.array(result, dtype=np.float64)
    except (TypeError, ValueError):
        return f"returns {shown(result)}; it must be a list of rows of numbers"
    size = (len(dynamics), len(dynamics[0]))
    if values.shape != size:
        return f"returns {values.shape} numbers; it must be {size}, a row per state"
    return "" if bool(np.isfinite(values).all()) else "returns NaN or infinity"


SCRIPTS = {
    "train.py": Takes(
        (
            Place("q_learning_agent.py:QLearningAgent.act", {"greedy": index, "epsilon_greedy": index}, act_of_agent),
            Place(
                "q_learning_agent.py:QLearningAgent.update",
                {"td_target": number_like, "q_update": anything},
                update_of_agent,
            ),
            Place("q_learning_agent.py:QLearningAgent.end_episode", {"decayed_epsilon": fraction}, end_of_episode),
            Place("q_learning_agent.py:train", {"play_and_learn": number_like, "td_target": number_like}, training),
            Place("value_iteration.py:value_iteration", {"value_iteration": table}, values_of_optimum),
            Place("batched_q_learning.py:BatchedQLearning.act", {"batched_act": actions}, act_of_many),
            Place("batched_q_learning.py:BatchedQLearning.step", {"batched_update": anything}, step_of_many),
        )
    )
}
