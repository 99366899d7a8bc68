"""Train a mouse to find the cheese by tabular Q-learning, and draw what it learned.

Writes training_reward_curve.png, maze_agent.gif, policy.png, q_table.json and train.json to the output folder.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lab.animations import save_gif
from lab.errors import UserError
from lab.files import atomic
from lab.launch import launch
from lab.plots import learning_curve
from lab.progress import watch
from lab.record import RunRecord
from maze_drawing import Replay, animate, draw_policies, q_array
from maze_env import GOAL_REWARD, STEP_REWARD, SimpleMaze
from maze_layout import DEFAULT_LAYOUT, random_maze, read_maze
from q_learning_agent import Episode, QLearningAgent, Walk, play, train
from value_iteration import greedy_policy, value_iteration

TEST_EPISODES = 1000  # of a slippery maze; without slipping one walk says it all
TEST_SEED = 1_000_000  # the walks that judge and show the agent begin with other seeds than its training


@dataclass
class Config:
    """Train a mouse to find the cheese by tabular Q-learning, and draw what it learned."""

    output_dir: Path = Path(__file__).parent / "results"
    """Folder for everything the run writes."""
    episodes: int = 300
    """Training episodes."""
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
    render: Literal["none", "ansi", "human"] = "none"
    """Print the learned way as text: all at once (ansi) or a step at a time (human)."""


def choose_layout(config: Config) -> list[str]:
    """The maze that the flags ask for."""
    if config.maze_file is not None and config.maze_size is not None:
        raise UserError("--maze_file and --maze_size exclude each other; give one of them")
    if config.maze_file is not None:
        return read_maze(config.maze_file)
    if config.maze_size is not None:
        return random_maze(config.maze_size, config.maze_size, config.seed)
    return list(DEFAULT_LAYOUT)


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
    steps = max(100, 4 * int((maze.cells != "X").sum()))
    return gym.make("SimpleMaze-v0", layout=maze.layout, slip=config.slip, max_episode_steps=steps)


def learn(config: Config, agent: QLearningAgent, env: gym.Env[int, int]) -> tuple[list[Episode], QLearningAgent]:
    """Train `agent`; the records of all episodes, and a copy of the agent as it was early on."""
    episodes: list[Episode] = []
    early = agent
    records = train(agent, env, config.episodes, config.seed)
    for episode in watch(records, config.episodes, "Q-learning", _describe):
        episodes.append(episode)
        if episode.number == early_episode(config):
            early = copy.deepcopy(agent)
    return episodes, early


def _describe(episode: Episode) -> str:
    return f"reward {episode.total_reward:.0f}, steps {episode.length}, epsilon {episode.epsilon:.2f}"


def early_episode(config: Config) -> int:
    """The episode after which the animation shows the mouse half-taught."""
    return max(config.episodes // 100, 1)


def mean_length(env: gym.Env[int, int], policy: Callable[[int], int], slip: float) -> float:
    """Steps that `policy` needs: of one walk where nothing is left to chance, else the mean of many."""
    walks = [play(env, policy, seed=TEST_SEED + number) for number in range(TEST_EPISODES if slip else 1)]
    return sum(walk.length for walk in walks) / len(walks)


def optimal_length(env: gym.Env[int, int], maze: SimpleMaze, best_q: NDArray[np.float64]) -> float:
    """The steps that the best policy needs, known exactly where nothing is left to chance."""
    best_policy = greedy_policy(best_q).tolist()  # (S,)
    return mean_length(env, best_policy.__getitem__, maze.slip) if maze.slip else maze.shortest_path_length


def check_path(record: RunRecord, maze: SimpleMaze, learned: float, optimal: float) -> None:
    """Note how long the learned way is, beside the best possible."""
    if maze.slip:
        expected = f"at most 5% above {optimal:.2f}, the mean of the optimal policy"
        record.check("mean path length", round(learned, 2), expected, ok=learned <= 1.05 * optimal)
    else:
        shortest = maze.shortest_path_length
        record.check("path length", int(learned), f"{shortest}, the shortest", ok=learned == shortest)


def results(
    maze: SimpleMaze, agent: QLearningAgent, episodes: Sequence[Episode], best_q: NDArray[np.float64]
) -> dict[str, float]:
    """Figures for the record: the first and last episodes, and how close the table came to Q*."""
    lengths = [episode.length for episode in episodes]
    last = lengths[-50:]
    return {
        "shortest_path_length": maze.shortest_path_length,
        "first_episode_length": lengths[0],
        "mean_length_last_episodes": sum(last) / len(last),
        "steps": sum(lengths),
        "start_value": max(agent.q_values(maze.start)),
        "optimal_start_value": float(best_q[maze.start].max()),
        "goal_reached_share": sum(episode.reached_goal for episode in episodes) / len(episodes),
    }


def draw_curve(path: Path, episodes: Sequence[Episode], best_length: float) -> None:
    """The reward of each episode, the best possible, and how much was explored."""
    learning_curve(
        path,
        [episode.number for episode in episodes],
        [episode.total_reward for episode in episodes],
        title="Q-learning in the maze",
        x_label="episode",
        y_label="reward of the episode",
        y_name="reward",
        window=max(min(20, len(episodes) // 5), 1),
        reference_lines={"optimum": GOAL_REWARD + STEP_REWARD * (best_length - 1)},
        second=("epsilon", [episode.epsilon for episode in episodes]),
        legend_location="center right",
    )


def draw_walks(path: Path, maze: SimpleMaze, env: gym.Env[int, int], stages: Mapping[str, QLearningAgent]) -> None:
    """An animation of the mouse at several stages of learning (title to agent), side by side."""
    longest = max(20, 2 * maze.shortest_path_length)  # early walks may be endless; nobody wants to watch that
    replays = []
    for title, agent in stages.items():
        walk = play(env, partial(agent.act, greedy=True), seed=TEST_SEED)
        q_values = q_array(agent.q_table, maze.cells.size)
        replays.append(Replay(title, walk.states[: longest + 1], walk.rewards[:longest], q_values))
    save_gif(path, animate(maze.cells, replays), frames_per_second=4, hold_seconds=3)


def draw_both_policies(path: Path, maze: SimpleMaze, agent: QLearningAgent, best_q: NDArray[np.float64]) -> None:
    """What was learned beside what value iteration computes."""
    learned_q = q_array(agent.q_table, maze.cells.size)
    best_q = np.where(maze.is_absorbing[:, None], np.nan, best_q)  # (S, A): nothing to choose there
    titled = {"learned by Q-learning": learned_q, "optimal, by value iteration": best_q}
    with atomic(path) as temporary:
        draw_policies(maze.cells, titled).save(temporary, format="PNG")


def show(walk: Walk, maze: SimpleMaze, render_mode: str) -> None:
    """Print `walk` as text, cell by cell."""
    viewer = SimpleMaze(maze.layout, render_mode)
    for state in walk.states:
        viewer.state = state
        text = viewer.render()
        if text is not None:
            print(text)


def main(config: Config) -> None:
    """Train, compare with the optimum, draw."""
    if config.episodes < 1:
        raise UserError(f"--episodes is {config.episodes}; it must be 1 or more")
    maze = SimpleMaze(choose_layout(config), slip=config.slip)
    env = make_env(config, maze)
    agent = make_agent(config)
    untrained = copy.deepcopy(agent)
    record = RunRecord(__file__, config.output_dir, config)

    episodes, early = learn(config, agent, env)
    best_q = value_iteration(maze.P, config.discount)  # (S, A)
    best_length = optimal_length(env, maze, best_q)
    greedy = partial(agent.act, greedy=True)
    check_path(record, maze, mean_length(env, greedy, config.slip), best_length)
    record.results |= results(maze, agent, episodes, best_q)
    if config.render != "none":
        show(play(env, greedy, seed=TEST_SEED), maze, config.render)

    draw_curve(record.file("training_reward_curve.png"), episodes, best_length)
    stages = {"untrained": untrained, f"{early_episode(config)} episodes": early, f"{config.episodes} episodes": agent}
    draw_walks(record.file("maze_agent.gif"), maze, env, stages)
    draw_both_policies(record.file("policy.png"), maze, agent, best_q)
    agent.save(record.file("q_table.json"))
    record.save()


if __name__ == "__main__":
    launch(Config, main)
