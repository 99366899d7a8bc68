"""Train a mouse to find the cheese by tabular Q-learning, and draw what it learned.

Writes training_reward_curve.png, metrics.csv, maze_agent.gif, policy.png, q_table.json and train.json to the output
folder, and with --sweep also sweep.png and sweep.json.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from batched_q_learning import BatchedQLearning
from lab.errors import UserError
from lab.files import write_json
from lab.launch import launch
from lab.metrics import METRICS, write_metrics
from lab.progress import track
from lab.record import RunRecord
from maze_env import SimpleMaze
from maze_layout import DEFAULT_LAYOUT, random_maze, read_maze
from maze_reports import (
    Band,
    check_path,
    draw_both_policies,
    draw_curve,
    draw_promise,
    draw_sweep,
    draw_walks,
    mean_length,
    metrics,
    optimal_length,
    results,
    show,
    sweep_as_dict,
)
from maze_studies import SWEEP_EPISODES, TEST_SEED, optimal_share, sweep, train_many
from q_learning_agent import Episode, QLearningAgent, play, train
from replay_q_learning import ReplayQLearning, Round, train_with_replay, tried_values
from value_iteration import value_iteration
from world_tables import World

LARGEST = 1000  # rows and columns of a random maze; more takes minutes to make and gigabytes to hold
FLOOR_FOR_ONE = 300  # cells of floor up to which 300 episodes of one mouse are enough
FLOOR_WITH_SLIP = 2_500  # cells of floor up to which one mouse that slips comes to an end in minutes
FLOOR_FOR_REPLAY = 200_000  # cells of floor up to which replay does
STEPS_FOR_BAND = 200_000  # a mouse that needed more steps than this is drawn without a band: it would take too long
MOST_ROUNDS = 100_000


@dataclass
class Config:
    """Train a mouse to find the cheese by tabular Q-learning, and draw what it learned."""

    output_dir: Path = Path(__file__).parent / "results"
    """Folder for everything the run writes."""
    episodes: int = 300
    """Training episodes of one mouse (a table learned with replay is ready when it is ready)."""
    learning_rate: float = 0.5
    """Share of the temporal-difference error taken in at each step (alpha), in (0, 1]."""
    discount: float = 0.95
    """What a reward is worth one step later (gamma), in [0, 1]."""
    epsilon: float = 1.0
    """Probability of a random action in the first episode, in [0, 1]."""
    epsilon_decay: float = 0.98
    """Factor that epsilon shrinks by after each episode, in (0, 1]."""
    epsilon_min: float = 0.05
    """Epsilon shrinks no further than this."""
    seed: int = 0
    """Seed of the agent, the environment and the random maze."""
    maze_file: Path | None = None
    """Text file with a maze of S (start), . (floor), X (wall) and G (goal), a line a row."""
    maze_size: int | None = None
    """Learn in a random maze of this many rows and columns."""
    slip: float = 0.0
    """Probability that a move goes to one side instead."""
    learner: Literal["auto", "one", "replay"] = "auto"
    """One mouse that forgets each step once it has learned from it, or many mice with one table and a memory (replay:
    learning rate and discount 1, for large mazes without slip); auto: by the size of the maze."""
    band_seeds: int = 1000
    """Agents that are trained beside the one, for the band in the learning curve; 0 for none."""
    sweep: bool = False
    """Draw heat-maps over learning rate and epsilon, too."""
    render: Literal["none", "ansi", "human"] = "none"
    """Print the learned way as text: all at once (ansi) or a step at a time (human)."""


def choose_layout(config: Config) -> list[str]:
    """The maze that the flags ask for."""
    if config.maze_file is not None and config.maze_size is not None:
        raise UserError("--maze_file and --maze_size exclude each other; give one of them")
    if config.maze_file is not None:
        return read_maze(config.maze_file)
    if config.maze_size is not None:
        if config.maze_size > LARGEST:
            raise UserError(f"--maze_size is {config.maze_size}; it must be {LARGEST} or less")
        return random_maze(config.maze_size, config.maze_size, config.seed)
    return list(DEFAULT_LAYOUT)


def choose_learner(config: Config, maze: SimpleMaze) -> str:
    """Which learner to use, "one" or "replay". Raises UserError where none would come to an end in minutes."""
    floor = int((maze.cells != "X").sum())
    if maze.slip and config.learner == "replay":
        raise UserError(f"--learner replay needs a maze without chance, and --slip is {maze.slip}; set it to 0")
    if maze.slip and floor > FLOOR_WITH_SLIP:
        raise UserError(
            f"--slip {maze.slip} in a maze of {floor} cells of floor takes too long; {FLOOR_WITH_SLIP} are the most"
        )
    if config.learner != "auto":
        return config.learner
    if floor > FLOOR_FOR_REPLAY:
        raise UserError(
            f"a maze of {floor} cells of floor is where tables end: learning takes ten minutes and more; "
            f"up to {FLOOR_FOR_REPLAY} are possible, or give --learner replay to wait for it"
        )
    return "one" if maze.slip or floor <= FLOOR_FOR_ONE else "replay"


def make_agent(config: Config) -> QLearningAgent:
    """The untrained agent that the flags ask for."""
    return QLearningAgent(
        n_actions=4,
        learning_rate=config.learning_rate,
        discount=config.discount,
        epsilon=config.epsilon,
        epsilon_decay=config.epsilon_decay,
        epsilon_min=config.epsilon_min,
        seed=config.seed,
    )


def make_env(config: Config, maze: SimpleMaze) -> gym.Env[int, int]:
    """`maze` with a time limit: the registered one, or more where a random walk needs longer to cross the floor."""
    return gym.make("SimpleMaze-v0", layout=maze.layout, slip=config.slip, max_episode_steps=time_limit(maze))


def time_limit(maze: SimpleMaze) -> int:
    """Steps after which an episode in `maze` is cut short."""
    return max(100, 4 * int((maze.cells != "X").sum()))


def learn(config: Config, agent: QLearningAgent, env: gym.Env[int, int]) -> tuple[list[Episode], QLearningAgent]:
    """Train `agent`; the records of all episodes, and a copy of the agent as it was early on."""
    episodes: list[Episode] = []
    early = agent
    records = train(agent, env, config.episodes, config.seed)
    for episode in track(records, config.episodes, "Q-learning", _describe):
        episodes.append(episode)
        if episode.number == early_episode(config):
            early = copy.deepcopy(agent)
    return episodes, early


def _describe(episode: Episode) -> str:
    return f"reward {episode.total_reward:.0f}, steps {episode.length}, epsilon {episode.epsilon:.2f}"


def early_episode(config: Config) -> int:
    """The episode after which the animation shows the mouse half-taught."""
    return max(config.episodes // 100, 1)


def make_world(config: Config, maze: SimpleMaze) -> World:
    """`maze` as tables for many mice, with the time limit of `make_env`."""
    return World(maze.outcomes(), maze.start, time_limit(maze))


def band_of(
    config: Config, maze: SimpleMaze, episodes: Sequence[Episode], best_length: float, record: RunRecord
) -> Band | None:
    """What most of `band_seeds` agents of the same settings earn an episode: name, lowest and highest, (E,) each."""
    if not config.band_seeds or sum(episode.length for episode in episodes) > STEPS_FOR_BAND:
        return None
    settings = (config.learning_rate, config.discount, config.epsilon, config.epsilon_decay, config.epsilon_min)
    agents = BatchedQLearning(make_world(config, maze), config.band_seeds, *settings)
    rewards = train_many(agents, config.episodes, config.seed).numpy()  # (E, N)
    low, high = np.quantile(rewards, [0.1, 0.9], axis=1)  # (E,) each
    record.results["band_seeds"] = config.band_seeds
    record.results["band_optimal_share"] = float(optimal_share(agents, best_length).mean())
    record.results["band_mean_last_reward"] = float(rewards[-50:].mean())
    return f"10 to 90% of {config.band_seeds:,} seeds", low, high


def _describe_round(now: Round) -> str:
    return f"steps {now.steps:,}, tried {now.tried:,}, promise at the start {now.start_value:.0f}"


def table_agent(learner: ReplayQLearning) -> QLearningAgent:
    """The table that `learner` has so far, in the hands of one mouse."""
    agent = QLearningAgent(4, learning_rate=1.0, discount=1.0, epsilon=0.0, epsilon_min=0.0)
    agent.q_table = tried_values(learner)
    return agent


@dataclass(frozen=True)
class Learned:
    """What a learner leaves: its agents at several stages (title to agent, the last is the result), and the answer."""

    stages: dict[str, QLearningAgent]
    best_q: NDArray[np.float64]  # (S, A)
    best_length: float


def learn_as_one(config: Config, maze: SimpleMaze, env: gym.Env[int, int], record: RunRecord) -> Learned:
    """One mouse learns, episode by episode."""
    agent = make_agent(config)
    untrained = copy.deepcopy(agent)
    episodes, early = learn(config, agent, env)
    best_q = value_iteration(maze.outcomes(), config.discount)  # (S, A)
    best_length = optimal_length(env, maze, best_q)
    record.results |= results(maze, agent, episodes, best_q)
    write_metrics(record.file(METRICS), metrics(episodes, "episode"))
    band = band_of(config, maze, episodes, best_length, record)
    draw_curve(record.file("training_reward_curve.png"), episodes, best_length, band)
    stages = {"untrained": untrained, f"{early_episode(config)} episodes": early, f"{config.episodes} episodes": agent}
    return Learned(stages, best_q, best_length)


def learn_with_replay(config: Config, maze: SimpleMaze, record: RunRecord) -> Learned:
    """Many mice learn one table with replay, until it keeps its promise."""
    torch.set_num_threads(1)  # two would wait for each other at every operation, and most of all on a busy machine
    learner = ReplayQLearning(make_world(config, maze), seed=config.seed)
    rounds: list[Round] = []
    stages: dict[str, QLearningAgent] = {}
    for now in track(train_with_replay(learner, MOST_ROUNDS), MOST_ROUNDS, "replay", _describe_round):
        rounds.append(now)
        if now.learned or now.number & (now.number - 1) == 0:  # 1, 2, 4, 8, ...
            stages[f"round {now.number}"] = table_agent(learner)
    best_q = maze.shortest_path_values()  # (S, A)
    record.results |= {
        "shortest_path_length": maze.shortest_path_length,
        "rounds": len(rounds),
        "steps": rounds[-1].steps,
        "table_entries": rounds[-1].tried,
        "start_value": rounds[-1].start_value,
        "optimal_start_value": float(best_q[maze.start].max()),
    }
    write_metrics(record.file(METRICS), metrics(rounds, "round"))
    draw_promise(record.file("training_reward_curve.png"), rounds, float(best_q[maze.start].max()))
    shown = [*stages][:1] + [*stages][-2:]  # at first, half-way, in the end
    return Learned({title: stages[title] for title in shown}, best_q, maze.shortest_path_length)


def main(config: Config) -> None:
    """Train, compare with the optimum, draw."""
    for name, least in (("episodes", 1), ("band_seeds", 0)):
        if getattr(config, name) < least:
            raise UserError(f"--{name} is {getattr(config, name)}; it must be {least} or more")
    make_agent(config)  # refuses wrong settings at once
    maze = SimpleMaze(choose_layout(config), slip=config.slip)
    learner = choose_learner(config, maze)
    env = make_env(config, maze)
    record = RunRecord(__file__, config.output_dir, config)

    with_replay = learner == "replay"
    learned = learn_with_replay(config, maze, record) if with_replay else learn_as_one(config, maze, env, record)
    agent = [*learned.stages.values()][-1]
    greedy = partial(agent.act, greedy=True)
    check_path(record, maze, mean_length(env, greedy, config.slip), learned.best_length)
    if config.render != "none":
        show(play(env, greedy, seed=TEST_SEED), maze, config.render)

    draw_walks(record.file("maze_agent.gif"), maze, env, learned.stages)
    draw_both_policies(record.file("policy.png"), maze, agent, learned.best_q)
    if config.sweep:
        panels = sweep(make_world(config, maze), config.discount, learned.best_length, config.seed)
        panels = list(track(panels, len(SWEEP_EPISODES), "sweep", lambda panel: f"after {panel.episodes} episodes"))
        draw_sweep(record.file("sweep.png"), panels)
        write_json(record.file("sweep.json"), sweep_as_dict(panels))
    agent.save(record.file("q_table.json"))
    record.save()


if __name__ == "__main__":
    launch(Config, main)
