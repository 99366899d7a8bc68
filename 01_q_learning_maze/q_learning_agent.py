"""Tabular Q-learning: the Q-table, the epsilon-greedy policy, the update and the training loop.

Source: Watkins (1989); Sutton & Barto, Reinforcement Learning: An Introduction (2018), section 6.5.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from argument_checks import (
    check_actions,
    check_agent_settings,
    check_reward,
    check_state,
    require,
)
from q_table_files import SETTINGS, read_q_table, write_q_table


class QLearningAgent:
    """Learns Q(state, action), the expected discounted return of an action, from experience alone.

    Args:
        n_actions: number of actions, 0 to n_actions - 1.
        learning_rate: step size α in (0, 1], the part of the temporal-difference error that an
            update corrects.
        discount: γ in [0, 1], the weight of a reward that comes one step later.
        epsilon: ε in [0, 1], the initial probability of a random action.
        epsilon_decay: factor in (0, 1] that `end_episode` multiplies ε by.
        epsilon_min: lower bound of ε, in [0, epsilon].
        seed: seed of the agent's random numbers, 0 or more.

    Attributes:
        q_table: (state, action) to Q. A pair that was never tried is absent and counts as 0.

    Raises:
        UserError: an argument outside its range.
    """

    def __init__(
        self,
        n_actions: int,
        learning_rate: float = 0.5,
        discount: float = 0.95,
        epsilon: float = 1.0,
        epsilon_decay: float = 0.98,
        epsilon_min: float = 0.05,
        seed: int = 0,
    ) -> None:
        check_agent_settings(
            n_actions,
            learning_rate,
            discount,
            epsilon,
            epsilon_decay,
            epsilon_min,
        )
        require("seed", seed, "0 or more", seed >= 0)
        self.n_actions = int(n_actions)  # Gymnasium's is a NumPy integer
        self.learning_rate = learning_rate
        self.discount = discount
        self.epsilon = epsilon
        self.epsilon_decay = epsilon_decay
        self.epsilon_min = epsilon_min
        self.q_table: dict[tuple[int, int], float] = {}
        self._random = random.Random(seed)

    def q_values(self, state: int) -> list[float]:
        """Return Q of every action in `state`, (n_actions,)."""
        return [self.q_table.get((state, action), 0.0) for action in range(self.n_actions)]

    def act(self, state: int, greedy: bool = False) -> int:
        """Return the action of the epsilon-greedy policy, or of the greedy one if `greedy`.

        Among several best actions it chooses one at random.
        """
        # explore: with probability ε take any action
        if not greedy and self._random.random() < self.epsilon:
            return self._random.randrange(self.n_actions)
        # exploit: take one of the actions with the largest Q
        values = self.q_values(state)
        best_value = max(values)
        best_actions = [action for action, value in enumerate(values) if value == best_value]
        return self._random.choice(best_actions)

    def update(
        self,
        state: int,
        action: int,
        reward: float,
        next_state: int,
        terminated: bool,
    ) -> None:
        """Learn from one step. `terminated` means that the goal was reached, not that time ran out.

        The value of a terminal state is 0, so nothing is bootstrapped from it. An episode that was
        merely cut short could have continued, so there the value of `next_state` counts.
        """
        # estimate what comes after this step: the best Q of the next state
        next_value = 0.0 if terminated else max(self.q_values(next_state))
        # the target is a better guess than the old one: it contains a reward that was received
        target = reward + self.discount * next_value
        # the temporal-difference error is how wrong the old guess was
        old_value = self.q_table.get((state, action), 0.0)
        td_error = target - old_value
        # Q(S,A) ← Q(S,A) + α [R + γ max_a Q(S',a) − Q(S,A)]        Sutton & Barto (2018), eq. 6.8
        self.q_table[state, action] = old_value + self.learning_rate * td_error

    def end_episode(self) -> None:
        """Decay ε: explore a little less from the next episode on."""
        self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)

    def save(self, path: Path) -> None:
        """Write the settings and the Q-table as JSON (see `q_table_files`).

        Raises OSError, and UserError for states other than numbers, texts and tuples of these.
        """
        settings = {name: getattr(self, name) for name in SETTINGS}
        write_q_table(path, settings, self.q_table)

    @classmethod
    def load(cls, path: Path, seed: int = 0) -> "QLearningAgent":
        """Return the agent that `save` wrote, ready to act and to continue learning.

        The state of its random numbers is not saved: they start from `seed`. Raises OSError if the
        file cannot be read, UserError if it is damaged or does not hold a Q-table.
        """
        settings, q_table = read_q_table(path)
        agent = cls(**settings, seed=seed)
        agent.q_table = q_table
        return agent


@dataclass(frozen=True)
class Episode:
    """The record of one training episode."""

    number: int  # counted from 1
    total_reward: float  # undiscounted
    length: int  # steps
    epsilon: float  # the probability of a random action in this episode
    reached_goal: bool


def train(
    agent: QLearningAgent,
    env: gym.Env[int, Any],
    episodes: int,
    seed: int,
) -> Iterator[Episode]:
    """Train `agent` in `env` for `episodes` episodes and yield a record of each.

    `seed` seeds the environment. `env` must limit the length of its episodes, as environments from
    `gymnasium.make` do: an untrained agent may never reach the goal.

    Raises UserError if the actions are not those of the agent, an observation cannot be a state of
    a table (arrays and dictionaries cannot), or a reward is not a finite number.
    """
    check_actions(env, agent.n_actions)
    for number in range(1, episodes + 1):
        # start an episode; only the first reset is seeded, or all episodes would be the same
        state, _ = env.reset(seed=seed if number == 1 else None)
        check_state(state)
        total_reward = 0.0
        length = 0
        terminated = False
        truncated = False
        while not (terminated or truncated):
            # choose an action
            action = agent.act(state)
            # take it, and observe the reward and the next state
            next_state, reward, terminated, truncated, _ = env.step(action)
            check_reward(float(reward))
            # learn from this one step
            agent.update(state, action, float(reward), next_state, terminated)
            # move on to the next state
            state = next_state
            total_reward += float(reward)
            length += 1
        # the episode is over: decay ε, and report
        epsilon = agent.epsilon
        agent.end_episode()
        yield Episode(number, total_reward, length, epsilon, reached_goal=terminated)


@dataclass(frozen=True)
class Trajectory:
    """The states and rewards of one episode."""

    states: list[int]  # (steps + 1,), the start first
    rewards: list[float]  # (steps,)
    reached_goal: bool

    @property
    def length(self) -> int:
        """Number of steps."""
        return len(self.rewards)


def run_episode(
    env: gym.Env[int, Any],
    policy: Callable[[int], int],
    seed: int | None = None,
) -> Trajectory:
    """Follow `policy` (state to action) through one episode of `env`, without learning."""
    state, _ = env.reset(seed=seed)
    states = [state]
    rewards: list[float] = []
    terminated = False
    truncated = False
    while not (terminated or truncated):
        action = policy(state)
        state, reward, terminated, truncated, _ = env.step(action)
        states.append(state)
        rewards.append(float(reward))
    return Trajectory(states, rewards, reached_goal=terminated)
