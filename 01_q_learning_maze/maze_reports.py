"""What is said and drawn of a training run: figures for its record, curves, animations, policies, heat-maps."""

# S states, A actions, E episodes

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lab.animations import save_gif
from lab.files import atomic
from lab.plots import heat_map, learning_curve, new_figure, save_figure
from lab.record import RunRecord
from maze_drawing import Replay, animate, draw_policies, q_array
from maze_env import GOAL_REWARD, STEP_REWARD, SimpleMaze
from maze_studies import SWEEP_EPSILONS, SWEEP_RATES, TEST_SEED, Panel
from q_learning_agent import Episode, QLearningAgent, Walk, play
from replay_q_learning import Round
from value_iteration import greedy_policy

TEST_EPISODES = 1000  # of a slippery maze; without slipping one walk says it all
Band = tuple[str, NDArray[np.float32], NDArray[np.float32]]  # name, lower and upper end, (E,) each


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


def metrics(records: Sequence[Episode] | Sequence[Round], counted: str) -> list[dict[str, float]]:
    """The rows of metrics.csv, one a record, whose number goes by the name of what is counted."""
    return [{counted if name == "number" else name: value for name, value in vars(now).items()} for now in records]


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


def draw_curve(
    path: Path,
    episodes: Sequence[Episode],
    best_length: float,
    band: Band | None = None,
) -> None:
    """The reward of each episode, that of other seeds, the best possible, and how much was explored."""
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
        band=band,
        legend_location="center right",
    )


def draw_promise(path: Path, rounds: Sequence[Round], best: float) -> None:
    """How the optimism at the start gives way to the truth, and how much had to be tried for it."""
    learning_curve(
        path,
        [now.steps / 1e6 for now in rounds],
        [now.start_value for now in rounds],
        title="Q-learning with replay in a large maze",
        x_label="million steps, of all mice together",
        y_label="reward promised at the start",
        y_name="promise of the table",
        reference_lines={"optimum": best},
        second=("pairs tried", [now.tried for now in rounds]),
        legend_location="center left",
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
    """What was learned beside what planning computes: value iteration, or breadth-first search in a large maze."""
    learned_q = q_array(agent.q_table, maze.cells.size)
    best_q = np.where(maze.is_absorbing[:, None], np.nan, best_q)  # (S, A): nothing to choose there
    titled = {"learned by Q-learning": learned_q, "optimal, by planning": best_q}
    with atomic(path) as temporary:
        draw_policies(maze.cells, titled).save(temporary, format="PNG")


def sweep_as_dict(panels: Sequence[Panel]) -> dict[str, dict[str, dict[str, float]]]:
    """The shares by episodes, learning rate and epsilon, under names without a dot (`rate 0_5`), as JSON holds them."""
    return {
        f"episodes {panel.episodes}": {
            f"rate {rate:g}".replace(".", "_"): {
                f"epsilon {epsilon:g}".replace(".", "_"): round(share, 3)
                for epsilon, share in zip(SWEEP_EPSILONS, row, strict=True)
            }
            for rate, row in zip(SWEEP_RATES, panel.shares.tolist(), strict=True)
        }
        for panel in panels
    }


def show(walk: Walk, maze: SimpleMaze, render_mode: str) -> None:
    """Print `walk` as text, cell by cell."""
    viewer = SimpleMaze(maze.layout, render_mode)
    for state in walk.states:
        viewer.state = state
        text = viewer.render()
        if text is not None:
            print(text)


def draw_sweep(path: Path, panels: Sequence[Panel]) -> None:
    """Heat-maps of the share of agents that find a shortest way, over learning rate and epsilon."""
    figure, all_axes = new_figure(width=13, height=5.0, columns=len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        heat_map(axes, panel.shares, [f"{rate:g}" for rate in SWEEP_RATES], [f"{eps:g}" for eps in SWEEP_EPSILONS])
        axes.set(title=f"after {panel.episodes} episodes", xlabel="epsilon", ylabel="learning rate")
    figure.suptitle("Share of agents whose greedy way is a shortest one")
    save_figure(figure, path)
