"""Runs of the bug hunts in the maze: one agent, its steps, and what its table says."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

import lab.projects  # noqa: F401 - puts the projects on the search path
from maze_env import SimpleMaze
from maze_layout import DEFAULT_LAYOUT
from q_learning_agent import QLearningAgent, run_episode, train
from value_iteration import value_iteration

ROOM = ("S.....", "......", "......", "......", "......", ".....G")
GREEDY_SEED = 1000
LOOSE_CLOCK = 200


@dataclass(frozen=True)
class Setting:
    """A run: the maze, the clock and the agent's settings."""

    episodes: int
    block: int  # episodes per point of the curves
    epsilon: float  # the same in all episodes
    layout: tuple[str, ...] = ROOM
    time_limit: int = LOOSE_CLOCK
    initial_value: float = 0.0  # of every entry of the table
    pays_for_cheese_only: bool = False  # 1 for the cheese, 0 for every other step
    loose_clock: bool = False  # measure a second run, with a loose clock


SETTINGS: Mapping[str, Setting] = {
    "stuck_mouse": Setting(episodes=100, block=10, epsilon=0.1, pays_for_cheese_only=True),
    "great_hopes": Setting(
        episodes=300, block=10, epsilon=0.2, layout=DEFAULT_LAYOUT, time_limit=100, initial_value=10.0
    ),
    "gloomy_mouse": Setting(episodes=1500, block=50, epsilon=0.5, time_limit=12, loose_clock=True),
}


def make_env(setting: Setting, time_limit: int) -> gym.Env[int, Any]:
    """Return the maze of a setting."""
    env: Any = gym.make("SimpleMaze-v0", layout=setting.layout, max_episode_steps=time_limit)
    if setting.pays_for_cheese_only:
        env = gym.wrappers.TransformReward(env, lambda reward: float(float(reward) > 0))
    return env


def table_error(agent: QLearningAgent, setting: Setting) -> float:
    """Return the mean distance of the entries of the table from Q*."""
    best_q = value_iteration(SimpleMaze(setting.layout).outcomes(), agent.discount)  # (S, A)
    return float(np.mean([abs(value - best_q[pair]) for pair, value in agent.q_table.items()]))


def learn(setting: Setting, seed: int, episodes: int, time_limit: int) -> tuple[QLearningAgent, dict[str, Any]]:
    """Train an agent; return it, and its curves."""
    agent = QLearningAgent(4, epsilon=setting.epsilon, epsilon_decay=1.0, epsilon_min=setting.epsilon, seed=seed)
    env = make_env(setting, time_limit)
    maze: Any = env.unwrapped
    if setting.initial_value:
        n_states = maze.cells.size
        agent.q_table = {(state, action): setting.initial_value for state in range(n_states) for action in range(4)}
    curves: dict[str, Any] = {"x": [], "steps": [], "start_value": []}
    lengths, goals = [], 0
    for episode in train(agent, env, episodes, seed):
        lengths.append(episode.length)
        goals += episode.reached_goal
        if episode.number % setting.block == 0:
            curves["x"].append(episode.number)
            curves["steps"].append(float(np.mean(lengths[-setting.block :])))
            curves["start_value"].append(round(max(agent.q_values(maze.start)), 4))
    return agent, curves | {"goals_percent": 100 * goals / episodes}


def run(name: str, seed: int, length: float) -> dict[str, Any]:
    """Return the curves and metrics of one run."""
    setting = SETTINGS[name]
    episodes = max(int(setting.episodes * length), setting.block)
    agent, values = learn(setting, seed, episodes, setting.time_limit)
    floor = [value for (state, _), value in agent.q_table.items() if not SimpleMaze(setting.layout).is_goal[state]]
    greedy = run_episode(make_env(setting, setting.time_limit), partial(agent.act, greedy=True), seed=GREEDY_SEED)
    values |= {"largest_value": max(floor), "greedy_steps": greedy.length}
    if setting.loose_clock:
        values["table_error"] = table_error(agent, setting)
        loose, _ = learn(setting, seed, episodes, LOOSE_CLOCK)
        values["table_error_loose"] = table_error(loose, setting)
    return values
