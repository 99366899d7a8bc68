"""Tabular Q-learning: the table, the policy, the one-line update and the training loop.

Source: Watkins (1989); Sutton & Barto, Reinforcement Learning: An Introduction (2018), section 6.5.
"""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from lab.errors import UserError
from lab.files import read_text, write_json

KIND = "tabular Q-learning agent"  # what a saved file says it holds
SETTINGS = ("n_actions", "learning_rate", "discount", "epsilon", "epsilon_decay", "epsilon_min")


class QLearningAgent:
    """Learns Q(state, action), the discounted return to expect from an action, from nothing but experience.

    Args:
        n_actions: number of actions, 0 to n_actions - 1.
        learning_rate: α in (0, 1], the share of the temporal-difference error that an update takes in.
        discount: γ in [0, 1], what a reward is worth one step later.
        epsilon: ε in [0, 1], the probability of a random action, at first.
        epsilon_decay: factor in (0, 1] that `end_episode` multiplies ε by.
        epsilon_min: ε falls no lower than this; in [0, epsilon].
        seed: of the agent's own random numbers, 0 or more.

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
        require("n_actions", n_actions, "a whole number, 1 or more", isinstance(n_actions, int) and n_actions >= 1)
        require("learning_rate", learning_rate, "in (0, 1]", 0 < learning_rate <= 1)
        require("discount", discount, "in [0, 1]", 0 <= discount <= 1)
        require("epsilon", epsilon, "in [0, 1]", 0 <= epsilon <= 1)
        require("epsilon_decay", epsilon_decay, "in (0, 1]", 0 < epsilon_decay <= 1)
        require("epsilon_min", epsilon_min, f"in [0, {epsilon}], no more than epsilon", 0 <= epsilon_min <= epsilon)
        require("seed", seed, "0 or more", seed >= 0)
        self.n_actions = n_actions
        self.learning_rate = learning_rate
        self.discount = discount
        self.epsilon = epsilon
        self.epsilon_decay = epsilon_decay
        self.epsilon_min = epsilon_min
        self.q_table: dict[tuple[int, int], float] = {}
        self._random = random.Random(seed)

    def q_values(self, state: int) -> list[float]:
        """Q of every action in `state`, (n_actions,)."""
        return [self.q_table.get((state, action), 0.0) for action in range(self.n_actions)]

    def act(self, state: int, greedy: bool = False) -> int:
        """A random action with probability ε, else (and always if `greedy`) one of the best, by lot if several tie."""
        if not greedy and self._random.random() < self.epsilon:
            return self._random.randrange(self.n_actions)
        values = self.q_values(state)
        best = max(values)
        return self._random.choice([action for action, value in enumerate(values) if value == best])

    def update(self, state: int, action: int, reward: float, next_state: int, terminated: bool) -> None:
        """Learn from one step. `terminated` means that the goal was reached, not that time ran out.

        Beyond the goal there is nothing to be had, so nothing is bootstrapped. An episode that was merely cut short
        could have gone on, so there the value of `next_state` counts.
        """
        future = 0.0 if terminated else max(self.q_values(next_state))
        target = reward + self.discount * future
        old = self.q_table.get((state, action), 0.0)
        # Q(S,A) ← Q(S,A) + α [R + γ max_a Q(S',a) − Q(S,A)]                        Sutton & Barto (2018), eq. 6.8
        self.q_table[state, action] = old + self.learning_rate * (target - old)

    def end_episode(self) -> None:
        """Explore a little less from now on."""
        self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)

    def save(self, path: Path) -> None:
        """Write the settings and the table as JSON, whole or not at all. Raises OSError."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        table = {f"{state},{action}": value for (state, action), value in sorted(self.q_table.items())}
        write_json(path, {"kind": KIND, **settings, "q_table": table})

    @classmethod
    def load(cls, path: Path, seed: int = 0) -> "QLearningAgent":
        """The agent that `save` wrote, ready to act and to learn on; its random numbers begin anew from `seed`.

        Raises:
            OSError: the file is missing or cannot be read.
            UserError: the file is damaged, or is no table of Q-values.
        """
        text = read_text(path)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: damaged, not JSON ({error})") from None
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise UserError(f"{path}: not a table of Q-values; give a q_table.json that train.py wrote")
        try:
            agent = cls(**{name: content[name] for name in SETTINGS}, seed=seed)
            agent.q_table = _parse_table(content["q_table"], agent.n_actions)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: damaged table of Q-values ({type(error).__name__}: {error})") from None
        return agent


def require(name: str, value: object, expected: str, ok: bool) -> None:
    """Raise UserError, which says what argument `name` must be, unless it is `ok`."""
    if not ok:
        raise UserError(f"{name} is {value}; it must be {expected}")


def _parse_table(table: Any, n_actions: int) -> dict[tuple[int, int], float]:
    parsed = {}
    for key, value in table.items():
        state, action = map(int, key.split(","))
        if not (0 <= action < n_actions and isinstance(value, float | int) and math.isfinite(value)):
            raise ValueError(f"entry {key!r} is {value!r}")
        parsed[state, action] = float(value)
    return parsed


@dataclass(frozen=True)
class Episode:
    """What happened in one training episode: `total_reward` is undiscounted, `epsilon` the one it was played with."""

    number: int  # counted from 1
    total_reward: float
    length: int  # steps
    epsilon: float
    reached_goal: bool


def train(agent: QLearningAgent, env: gym.Env[int, Any], episodes: int, seed: int) -> Iterator[Episode]:
    """Let `agent` learn in `env` for `episodes` episodes, and yield a record of each; `seed` seeds the environment.

    `env` must truncate episodes by itself where they may not last for ever, as `gymnasium.make` sees to.
    """
    for number in range(1, episodes + 1):
        state, _ = env.reset(seed=seed if number == 1 else None)
        total_reward, length = 0.0, 0
        terminated = truncated = False
        while not (terminated or truncated):
            action = agent.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            agent.update(state, action, float(reward), next_state, terminated)
            state = next_state
            total_reward += float(reward)
            length += 1
        epsilon = agent.epsilon
        agent.end_episode()
        yield Episode(number, total_reward, length, epsilon, terminated)


@dataclass(frozen=True)
class Walk:
    """One episode played without learning."""

    states: list[int]  # (steps + 1,), the start first
    rewards: list[float]  # (steps,)
    reached_goal: bool

    @property
    def length(self) -> int:
        """Steps taken."""
        return len(self.rewards)


def play(env: gym.Env[int, Any], policy: Callable[[int], int], seed: int | None = None) -> Walk:
    """Follow `policy` (state to action) through one episode of `env`."""
    state, _ = env.reset(seed=seed)
    states, rewards = [state], []
    terminated = truncated = False
    while not (terminated or truncated):
        state, reward, terminated, truncated, _ = env.step(policy(state))
        states.append(state)
        rewards.append(float(reward))
    return Walk(states, rewards, terminated)
