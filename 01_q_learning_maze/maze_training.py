"""Training runs in a maze: one agent, or many with a shared Q-table, and the exact solution."""

# S states, A actions

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from maze_env import SimpleMaze
from maze_studies import TEST_SEED
from q_learning_agent import Episode, QLearningAgent, Trajectory, run_episode, train
from replay_q_learning import Iteration, ReplayQLearning, train_with_replay, visited_q_table
from transition_tables import TransitionTables
from value_iteration import greedy_policy, value_iteration

TEST_EPISODES = 1000  # in a maze with slip; without slip one episode is enough
MAX_ITERATIONS = 100_000  # of training with replay, which stops by itself long before

Record = TypeVar("Record", Episode, Iteration)


@dataclass(frozen=True)
class TrainingResult(Generic[Record]):
    """The result of a training run, with the exact solution to compare it with.

    Attributes:
        records: one for each episode (single agent) or iteration (shared table).
        stages: title to a copy of the agent at that stage of training; the last one is the result.
        best_q: Q*, (S, A).
        best_length: mean number of steps of an optimal policy.
    """

    records: list[Record]
    stages: dict[str, QLearningAgent]
    best_q: NDArray[np.float64]
    best_length: float

    @property
    def agent(self) -> QLearningAgent:
        """The trained agent."""
        return list(self.stages.values())[-1]


def floor_cells(maze: SimpleMaze) -> int:
    """Return the number of cells of `maze` that are not walls."""
    return int((maze.cells != "X").sum())


def time_limit(maze: SimpleMaze) -> int:
    """Return the number of steps after which an episode in `maze` is truncated.

    At least 100 as registered, and more where a random walk needs longer to find the goal.
    """
    return max(100, 4 * floor_cells(maze))


def make_env(maze: SimpleMaze) -> gym.Env[int, int]:
    """Return `maze` as a Gymnasium environment with a time limit."""
    limit = time_limit(maze)
    return gym.make("SimpleMaze-v0", layout=maze.layout, slip=maze.slip, max_episode_steps=limit)


def make_dynamics(maze: SimpleMaze, device: torch.device | str = "cpu") -> TransitionTables:
    """Return `maze` as tables for many agents on `device`, with the time limit of `make_env`."""
    return TransitionTables(maze.outcomes(), maze.start, time_limit(maze), device=device)


def train_single_agent(
    agent: QLearningAgent,
    maze: SimpleMaze,
    episodes: int,
    seed: int,
    progress: Callable[[Iterator[Episode]], Iterable[Episode]] = iter,
) -> TrainingResult[Episode]:
    """Train `agent` by Q-learning, episode by episode.

    Keeps copies of the agent before training and after 1% of the episodes. `progress` may watch the
    records as they pass.
    """
    env = make_env(maze)
    early = max(episodes // 100, 1)
    stages = {"untrained": copy.deepcopy(agent)}
    records: list[Episode] = []
    for episode in progress(train(agent, env, episodes, seed)):
        records.append(episode)
        if episode.number == early:
            stages[f"{early} episodes"] = copy.deepcopy(agent)
    stages[f"{episodes} episodes"] = agent

    best_q = value_iteration(maze.outcomes(), agent.discount)  # (S, A)
    best_length = optimal_episode_length(maze, best_q)
    return TrainingResult(records, stages, best_q, best_length)


def train_shared_table(
    maze: SimpleMaze,
    seed: int,
    progress: Callable[[Iterator[Iteration]], Iterable[Iteration]] = iter,
    device: torch.device | str = "cpu",
) -> TrainingResult[Iteration]:
    """Train many agents with one Q-table and replay on `device`, until their policy is optimal.

    Keeps copies of the table after the first iteration, about half-way, and at the end. `progress`
    may watch the records as they pass.
    """
    learner = ReplayQLearning(make_dynamics(maze, device), seed=seed)
    stages: dict[str, QLearningAgent] = {}
    records: list[Iteration] = []
    for iteration in progress(train_with_replay(learner, MAX_ITERATIONS)):
        records.append(iteration)
        is_power_of_two = iteration.number & (iteration.number - 1) == 0
        if is_power_of_two or iteration.converged:
            stages[f"iteration {iteration.number}"] = _agent_with_table(learner)
    titles = list(stages)
    kept = titles[:1] + titles[-2:]
    stages = {title: stages[title] for title in kept}
    return TrainingResult(records, stages, maze.shortest_path_values(), maze.shortest_path_length)


def _agent_with_table(learner: ReplayQLearning) -> QLearningAgent:
    """Return a single agent that acts by a copy of the table of `learner`."""
    agent = QLearningAgent(4, learning_rate=1.0, discount=1.0, epsilon=0.0, epsilon_min=0.0)
    agent.q_table = visited_q_table(learner)
    return agent


def greedy_trajectories(
    maze: SimpleMaze,
    agents: Mapping[str, QLearningAgent],
) -> dict[str, Trajectory]:
    """Return one greedy episode of each agent, by title."""
    env = make_env(maze)
    trajectories: dict[str, Trajectory] = {}
    for title, agent in agents.items():
        policy = partial(agent.act, greedy=True)
        trajectories[title] = run_episode(env, policy, seed=TEST_SEED)
    return trajectories


def mean_episode_length(maze: SimpleMaze, policy: Callable[[int], int]) -> float:
    """Return the steps that `policy` takes: of one episode without slip, else the mean of many."""
    env = make_env(maze)
    episodes = TEST_EPISODES if maze.slip else 1
    lengths = [run_episode(env, policy, seed=TEST_SEED + i).length for i in range(episodes)]
    return sum(lengths) / episodes


def optimal_episode_length(maze: SimpleMaze, best_q: NDArray[np.float64]) -> float:
    """Return the steps that the optimal policy takes: exact without slip, else a mean."""
    if not maze.slip:
        return maze.shortest_path_length
    best_policy: list[int] = greedy_policy(best_q).tolist()  # (S,)
    return mean_episode_length(maze, best_policy.__getitem__)
