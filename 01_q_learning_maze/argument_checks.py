"""Checks of arguments: an invalid one raises an error that names it and says what is valid."""

import math
from numbers import Integral
from typing import Any

import gymnasium as gym

from lab.errors import UserError


def require(name: str, value: object, expected: str, ok: bool) -> None:
    """Raise UserError, which says what argument `name` must be, unless `ok`."""
    if not ok:
        raise UserError(f"{name} is {value}; it must be {expected}")


def require_positive(name: str, value: object) -> None:
    """Raise UserError unless argument `name` is a whole number, Python's or NumPy's, 1 or more."""
    whole = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
    require(name, value, "a whole number, 1 or more", whole)


def check_agent_settings(
    n_actions: int,
    learning_rate: float,
    discount: float,
    epsilon: float,
    epsilon_decay: float,
    epsilon_min: float,
) -> None:
    """Raise UserError unless every setting of a `QLearningAgent` lies in its range."""
    require_positive("n_actions", n_actions)
    require("learning_rate", learning_rate, "in (0, 1]", 0 < learning_rate <= 1)
    require("discount", discount, "in [0, 1]", 0 <= discount <= 1)
    require("epsilon", epsilon, "in [0, 1]", 0 <= epsilon <= 1)
    require("epsilon_decay", epsilon_decay, "in (0, 1]", 0 < epsilon_decay <= 1)
    in_range = 0 <= epsilon_min <= epsilon
    require("epsilon_min", epsilon_min, f"in [0, {epsilon}], no more than epsilon", in_range)


def check_actions(env: gym.Env[Any, Any], n_actions: int) -> None:
    """Raise UserError unless the actions of `env` are 0 to n_actions - 1."""
    actions = env.action_space
    fits = isinstance(actions, gym.spaces.Discrete) and (actions.n, actions.start) == (n_actions, 0)
    require("env.action_space", actions, f"Discrete({n_actions}), the actions of the agent", fits)


def check_state(state: object) -> None:
    """Raise UserError unless `state` can be a key of a table."""
    try:
        hash(state)
    except TypeError:
        raise UserError(
            f"an observation is a {type(state).__name__}; a table needs numbers, texts or tuples of these"
        ) from None


def check_reward(reward: float) -> None:
    """Raise UserError unless `reward` is a finite number: after any other, no action would be the best one."""
    if not math.isfinite(reward):
        raise UserError(f"the environment gave the reward {reward}; it must be a finite number")
