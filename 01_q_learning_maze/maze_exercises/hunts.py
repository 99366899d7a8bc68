"""Checks of the bug hunts of lesson 1: the mended functions as answers to exercises. Imports no torch."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym

from lab.exercises.probes import Answer


def choosing(act: Callable[..., int]) -> Answer:
    """Return `QLearningAgent.act` as answers to the exercises `greedy` and `epsilon_greedy`."""

    def epsilon_greedy(values: list[float], epsilon: float, rng: Any) -> int:
        agent = SimpleNamespace(epsilon=epsilon, n_actions=len(values), q_values=lambda state: values, _random=rng)
        return act(agent, 0)

    def greedy(values: list[float], rng: Any) -> int:
        agent = SimpleNamespace(epsilon=1.0, n_actions=len(values), q_values=lambda state: values, _random=rng)
        return act(agent, 0, greedy=True)

    return {"greedy": greedy, "epsilon_greedy": epsilon_greedy}


def learning(update: Callable[..., None]) -> Answer:
    """Return `QLearningAgent.update` as answers to the exercises `td_target` and `q_update`."""

    def td_target(reward: float, next_values: list[float], terminated: bool, truncated: bool, gamma: float) -> float:
        agent = SimpleNamespace(q_table={}, discount=gamma, learning_rate=1.0, q_values=lambda state: next_values)
        update(agent, 0, 0, reward, 1, terminated)
        return agent.q_table[0, 0]

    def q_update(table: dict[tuple[int, int], float], state: int, action: int, target: float, alpha: float) -> None:
        agent = SimpleNamespace(q_table=table, discount=1.0, learning_rate=alpha, q_values=lambda state: [0.0])
        update(agent, state, action, target, state + 1, True)

    return {"td_target": td_target, "q_update": q_update}


class Unseeded:
    """An environment with four actions whose `reset` takes a seed, which the exercise's own does not expect."""

    action_space = gym.spaces.Discrete(4)

    def __init__(self, env: Any) -> None:
        self.step = env.step
        self.env = env

    def reset(self, seed: int | None = None) -> Any:
        """Start an episode."""
        return self.env.reset()


def training(train: Callable[..., Any]) -> Answer:
    """Return `train` as an answer to the exercise `play_and_learn`."""

    def play_and_learn(env: Any, agent: Any) -> float:
        (episode,) = train(agent, Unseeded(env), episodes=1, seed=0)
        return episode.total_reward

    return {"play_and_learn": play_and_learn}


ANSWERS = {"stuck_mouse": choosing, "great_hopes": learning, "gloomy_mouse": training}
