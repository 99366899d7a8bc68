"""Reports of a training run: numbers for its record, rows of metrics.csv, curves, animations, policies, heat maps."""

# S states, A actions, E episodes

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.animations import save_gif
from lab.files import atomic
from lab.plots import heat_map, learning_curve, new_figure, save_figure
from lab.record import RunRecord
from maze_drawing import AnimationPanel, animate, draw_policies
from maze_env import GOAL_REWARD, STEP_REWARD, SimpleMaze
from maze_studies import (
    OPTIMALITY_FACTOR,
    SWEEP_EPSILONS,
    SWEEP_LEARNING_RATES,
    RewardBand,
    SweepResult,
)
from maze_training import TrainingResult
from q_learning_agent import Episode, Trajectory
from replay_q_learning import Iteration


def check_path(record: RunRecord, maze: SimpleMaze, learned: float, optimal: float) -> None:
    """Add a check to `record`: the length of the learned path, compared with the shortest."""
    if maze.slip:
        expected = f"at most 5% above {optimal:.2f}, the mean of the optimal policy"
        ok = learned <= OPTIMALITY_FACTOR * optimal
        record.check("mean path length", round(learned, 2), expected, ok)
    else:
        shortest = maze.shortest_path_length
        record.check("path length", int(learned), f"{shortest}, the shortest", ok=learned == shortest)


def episode_rows(episodes: Sequence[Episode]) -> list[dict[str, float]]:
    """Return the rows of metrics.csv of a single agent, one per episode."""
    return [
        {
            "episode": episode.number,
            "total_reward": episode.total_reward,
            "length": episode.length,
            "epsilon": episode.epsilon,
            "reached_goal": episode.reached_goal,
        }
        for episode in episodes
    ]


def iteration_rows(iterations: Sequence[Iteration]) -> list[dict[str, float]]:
    """Return the rows of metrics.csv of a shared table, one per iteration."""
    return [
        {
            "round": iteration.number,
            "steps": iteration.steps,
            "tried": iteration.visited,
            "arrivals": iteration.goals_reached,
            "start_value": iteration.start_value,
            "learned": iteration.converged,
        }
        for iteration in iterations
    ]


def summarize_episodes(maze: SimpleMaze, result: TrainingResult[Episode]) -> dict[str, float]:
    """Return the results of a single agent: first and last episodes, and values of the start."""
    lengths = [episode.length for episode in result.records]
    last = lengths[-50:]
    goals_reached = sum(episode.reached_goal for episode in result.records)
    return {
        "shortest_path_length": maze.shortest_path_length,
        "first_episode_length": lengths[0],
        "mean_length_last_episodes": sum(last) / len(last),
        "steps": sum(lengths),
        "start_value": max(result.agent.q_values(maze.start)),
        "optimal_start_value": float(result.best_q[maze.start].max()),
        "goal_reached_share": goals_reached / len(lengths),
    }


def summarize_iterations(maze: SimpleMaze, result: TrainingResult[Iteration]) -> dict[str, float]:
    """Return the results of a shared table: the work it took, and values of the start."""
    last = result.records[-1]
    return {
        "shortest_path_length": maze.shortest_path_length,
        "rounds": len(result.records),
        "steps": last.steps,
        "table_entries": last.visited,
        "start_value": last.start_value,
        "optimal_start_value": float(result.best_q[maze.start].max()),
    }


def draw_learning_curve(
    path: Path,
    episodes: Sequence[Episode],
    best_length: float,
    band: RewardBand | None = None,
) -> None:
    """Draw the reward of each episode with the optimum, the band of other seeds, and epsilon."""
    labeled_band = None
    if band is not None:
        labeled_band = (f"10th to 90th percentile of {band.n_agents:,} seeds", band.low, band.high)
    learning_curve(
        path,
        [episode.number for episode in episodes],
        [episode.total_reward for episode in episodes],
        title="Q-learning in the maze",
        x_label="episode",
        y_label="total reward per episode",
        y_name="reward",
        window=max(min(20, len(episodes) // 5), 1),
        reference_lines={"optimum": GOAL_REWARD + STEP_REWARD * (best_length - 1)},
        second=("epsilon", [episode.epsilon for episode in episodes]),
        band=labeled_band,
        legend_location="center right",
    )


def draw_start_value(path: Path, iterations: Sequence[Iteration], optimum: float) -> None:
    """Draw how the value of the start falls from its optimistic initial value to the optimum."""
    learning_curve(
        path,
        [iteration.steps / 1e6 for iteration in iterations],
        [iteration.start_value for iteration in iterations],
        title="Q-learning with replay in a large maze",
        x_label="million steps, all agents together",
        y_label="value of the start, max Q(start, a)",
        y_name="learned value",
        reference_lines={"optimum": optimum},
        second=("state-action pairs visited", [iteration.visited for iteration in iterations]),
        legend_location="center left",
    )


def draw_trajectories(
    path: Path,
    maze: SimpleMaze,
    trajectories: Mapping[str, Trajectory],
    q_values: Mapping[str, NDArray[np.float64]],
) -> None:
    """Draw an animation of the mouse at several stages of training, side by side.

    `trajectories` and `q_values`, (S, A) each, have the titles of the stages as keys.
    """
    most_steps = max(20, 2 * maze.shortest_path_length)  # untrained agents may walk for very long
    panels: list[AnimationPanel] = []
    for title, trajectory in trajectories.items():
        states = trajectory.states[: most_steps + 1]
        rewards = trajectory.rewards[:most_steps]
        panels.append(AnimationPanel(title, states, rewards, q_values[title]))
    save_gif(path, animate(maze.cells, panels), frames_per_second=4, hold_seconds=3)


def draw_policy_comparison(
    path: Path,
    maze: SimpleMaze,
    learned_q: NDArray[np.float64],
    best_q: NDArray[np.float64],
) -> None:
    """Draw the learned policy and values next to the optimal ones, both from Q-values (S, A)."""
    without_absorbing = np.where(maze.is_absorbing[:, None], np.nan, best_q)  # (S, A): no action is taken there
    titled = {"learned by Q-learning": learned_q, "optimal, by planning": without_absorbing}
    with atomic(path) as temporary:
        draw_policies(maze.cells, titled).save(temporary, format="PNG")


def print_trajectory(trajectory: Trajectory, maze: SimpleMaze, render_mode: str) -> None:
    """Print `trajectory` as text, step by step."""
    viewer = SimpleMaze(maze.layout, render_mode)
    for state in trajectory.states:
        viewer.state = state
        text = viewer.render()
        if text is not None:
            print(text)


def sweep_as_dict(results: Sequence[SweepResult]) -> dict[str, dict[str, dict[str, float]]]:
    """Return success rates by episodes, learning rate and epsilon, with keys without a dot (`rate 0_5`), for JSON."""
    by_episodes: dict[str, dict[str, dict[str, float]]] = {}
    for result in results:
        by_rate: dict[str, dict[str, float]] = {}
        for rate, row in zip(SWEEP_LEARNING_RATES, result.success_rates.tolist(), strict=True):
            by_epsilon = {
                f"epsilon {epsilon:g}".replace(".", "_"): round(success_rate, 3)
                for epsilon, success_rate in zip(SWEEP_EPSILONS, row, strict=True)
            }
            by_rate[f"rate {rate:g}".replace(".", "_")] = by_epsilon
        by_episodes[f"episodes {result.episodes}"] = by_rate
    return by_episodes


def draw_sweep(path: Path, results: Sequence[SweepResult]) -> None:
    """Draw heat maps of the success rate over learning rate and epsilon."""
    rates = [f"{rate:g}" for rate in SWEEP_LEARNING_RATES]
    epsilons = [f"{epsilon:g}" for epsilon in SWEEP_EPSILONS]
    figure, all_axes = new_figure(width=13, height=5.0, columns=len(results))
    for axes, result in zip(all_axes, results, strict=True):
        heat_map(axes, result.success_rates, rates, epsilons)
        axes.set(title=f"after {result.episodes} episodes", xlabel="epsilon", ylabel="learning rate")
    figure.suptitle("Fraction of agents with an optimal greedy policy")
    save_figure(figure, path)
