"""Train a mouse to find the cheese by tabular Q-learning, and draw what it learned.

Writes training_reward_curve.png, metrics.csv, maze_agent.gif, policy.png, q_table.json and train.json to the output
folder, and with --sweep also sweep.png and sweep.json.
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from batched_q_learning import BatchedQLearning
from lab.devices import pick_device
from lab.errors import UserError
from lab.exercises import own
from lab.files import check_outputs, write_json
from lab.launch import launch
from lab.metrics import METRICS, write_metrics
from lab.progress import track
from lab.record import RunRecord
from lab.seeding import check_seed
from maze_drawing import q_array
from maze_env import SimpleMaze
from maze_layout import DEFAULT_LAYOUT, random_maze, read_maze
from maze_reports import (
    check_path,
    draw_learning_curve,
    draw_policy_comparison,
    draw_start_value,
    draw_sweep,
    draw_trajectories,
    episode_rows,
    iteration_rows,
    print_trajectory,
    summarize_episodes,
    summarize_iterations,
    sweep_as_dict,
)
from maze_studies import SWEEP_EPISODES, RewardBand, SweepResult, quantile_band, sweep
from maze_training import (
    MAX_ITERATIONS,
    TrainingResult,
    floor_cells,
    greedy_trajectories,
    make_dynamics,
    mean_episode_length,
    train_shared_table,
    train_single_agent,
)
from q_learning_agent import Episode, QLearningAgent
from replay_q_learning import Iteration

OUTPUT_FILES = (METRICS, "training_reward_curve.png", "maze_agent.gif", "policy.png", "q_table.json", "train.json")
MAX_MAZE_SIZE = 1000  # rows and columns of a random maze; more takes minutes to make and gigabytes of memory
MAX_CELLS_SINGLE_AGENT = 300  # free cells up to which 300 episodes of one agent are enough
MAX_CELLS_WITH_SLIP = 2_500  # free cells up to which one agent learns in minutes in a maze with slip
MAX_CELLS_REPLAY = 200_000  # free cells up to which replay learns in minutes
MAX_BAND_SEEDS = 100_000  # more take minutes and gigabytes of memory
MAX_STEPS_WITH_BAND = 200_000  # training steps of one agent up to which the band is computed; more takes too long


@dataclass
class Config:
    """Train a mouse to find the cheese by tabular Q-learning, and draw what it learned."""

    output_dir: Path = Path(__file__).parent / "results"
    """Folder for everything the run writes."""
    episodes: int = 300
    """Training episodes of one agent (ignored with replay, which stops by itself)."""
    learning_rate: float = 0.5
    """Step size alpha, in (0, 1]."""
    discount: float = 0.95
    """Discount factor gamma, in [0, 1]."""
    epsilon: float = 1.0
    """Probability of a random action in the first episode, in [0, 1]."""
    epsilon_decay: float = 0.98
    """Factor that epsilon is multiplied by after each episode, in (0, 1]."""
    epsilon_min: float = 0.05
    """Lower bound of epsilon, in [0, epsilon]."""
    seed: int = 0
    """Seed of the agent, the environment and the random maze."""
    maze_file: Path | None = None
    """Text file with a maze of S (start), . (floor), X (wall) and G (goal), one row per line."""
    maze_size: int | None = None
    """Train in a random maze of this many rows and columns, 2 to 1000."""
    slip: float = 0.0
    """Probability that a move goes to one side instead of straight on."""
    learner: Literal["auto", "one", "replay"] = "auto"
    """one: online Q-learning; replay: many agents, shared table, experience replay; auto: by the size of the maze.
    Replay needs a maze without slip, and sets learning rate and discount to 1."""
    band_seeds: int = 1000
    """Other seeds to train for the band in the learning curve; 0 for none."""
    sweep: bool = False
    """Also draw heat maps of the success rate over learning rate and epsilon."""
    render: Literal["none", "ansi", "human"] = "none"
    """Print the learned path as text: all at once (ansi) or one step at a time (human)."""
    device: str = "cpu"
    """Device of the agents that learn together (band, sweep, replay): auto, cpu, cuda or mps. A single agent, whose
    table is a dictionary, learns on the CPU."""


def choose_layout(config: Config) -> list[str]:
    """Return the layout of the maze that the flags choose."""
    if config.maze_file is not None and config.maze_size is not None:
        raise UserError("--maze_file and --maze_size exclude each other; give one of them")
    if config.maze_file is not None:
        return read_maze(config.maze_file)
    if config.maze_size is not None:
        if config.maze_size > MAX_MAZE_SIZE:
            raise UserError(f"--maze_size is {config.maze_size}; it must be {MAX_MAZE_SIZE} or less")
        return random_maze(config.maze_size, config.maze_size, config.seed)
    return list(DEFAULT_LAYOUT)


def make_maze(config: Config) -> SimpleMaze:
    """Return the maze that the flags choose. Raises UserError, naming the file if the maze comes from one."""
    SimpleMaze(slip=config.slip)  # raises at once if the probability is invalid
    layout = choose_layout(config)
    try:
        return SimpleMaze(layout, slip=config.slip)
    except UserError as error:
        raise UserError(f"{config.maze_file}: {error}") from None


def choose_learner(config: Config, maze: SimpleMaze) -> str:
    """Return the learner to use, "one" or "replay". Raises UserError if none would finish within minutes."""
    n_cells = floor_cells(maze)
    if maze.slip and config.learner == "replay":
        raise UserError(f"--learner replay needs a maze without slip, and --slip is {maze.slip}; set it to 0")
    if maze.slip and n_cells > MAX_CELLS_WITH_SLIP:
        raise UserError(
            f"--slip {maze.slip} in a maze of {n_cells} free cells is too slow; use at most {MAX_CELLS_WITH_SLIP} cells"
        )
    if config.learner != "auto":
        return config.learner
    if n_cells > MAX_CELLS_REPLAY:
        raise UserError(
            f"{n_cells} free cells is too large for tabular learning (10+ minutes); "
            f"use at most {MAX_CELLS_REPLAY} cells, or give --learner replay to wait for it"
        )
    return "one" if maze.slip or n_cells <= MAX_CELLS_SINGLE_AGENT else "replay"


def agent_settings(config: Config) -> dict[str, float]:
    """Return the settings that one agent and the agents of the band have in common."""
    return {
        "learning_rate": config.learning_rate,
        "discount": config.discount,
        "epsilon": config.epsilon,
        "epsilon_decay": config.epsilon_decay,
        "epsilon_min": config.epsilon_min,
    }


def make_agent(config: Config) -> QLearningAgent:
    """Return an untrained agent with the settings of the flags."""
    return QLearningAgent(n_actions=4, seed=config.seed, **agent_settings(config))


def run_single_agent(config: Config, maze: SimpleMaze, record: RunRecord) -> TrainingResult[Episode]:
    """Train one agent; write metrics.csv and the learning curve."""

    def describe(episode: Episode) -> str:
        return f"reward {episode.total_reward:.0f}, steps {episode.length}, epsilon {episode.epsilon:.2f}"

    progress = partial(track, total=config.episodes, what="Q-learning", describe=describe)
    result = train_single_agent(make_agent(config), maze, config.episodes, config.seed, progress)
    record.results |= summarize_episodes(maze, result)
    write_metrics(record.file(METRICS), episode_rows(result.records))
    band = train_band(config, maze, result, record)
    draw_learning_curve(record.file("training_reward_curve.png"), result.records, result.best_length, band)
    return result


def train_band(
    config: Config, maze: SimpleMaze, result: TrainingResult[Episode], record: RunRecord
) -> RewardBand | None:
    """Train the agents of the band; None if `band_seeds` is 0, or if it would take too long."""
    steps = sum(episode.length for episode in result.records)
    if config.band_seeds == 0 or steps > MAX_STEPS_WITH_BAND:
        return None
    dynamics = make_dynamics(maze, pick_device(config.device))
    agents = BatchedQLearning(dynamics, config.band_seeds, **agent_settings(config))
    band = quantile_band(agents, config.episodes, config.seed, result.best_length)
    record.results["band_seeds"] = config.band_seeds
    record.results["band_optimal_share"] = band.optimal_fraction
    record.results["band_mean_last_reward"] = band.mean_last_reward
    return band


def run_shared_table(config: Config, maze: SimpleMaze, record: RunRecord) -> TrainingResult[Iteration]:
    """Train many agents with one table; write metrics.csv and the curve of the start's value."""

    def describe(iteration: Iteration) -> str:
        value = f"value of the start {iteration.start_value:.0f}"
        return f"steps {iteration.steps:,}, pairs visited {iteration.visited:,}, {value}"

    torch.set_num_threads(1)  # the operations are so short that a second thread costs more than it saves
    progress = partial(track, total=MAX_ITERATIONS, what="replay", describe=describe)
    result = train_shared_table(maze, config.seed, progress, pick_device(config.device))
    summary = summarize_iterations(maze, result)
    record.results |= summary
    write_metrics(record.file(METRICS), iteration_rows(result.records))
    optimum = summary["optimal_start_value"]
    draw_start_value(record.file("training_reward_curve.png"), result.records, optimum)
    return result


def run_sweep(config: Config, maze: SimpleMaze, best_length: float, record: RunRecord) -> None:
    """Train agents with many settings; write their success rates as heat maps and as JSON."""

    def describe(result: SweepResult) -> str:
        return f"after {result.episodes} episodes"

    dynamics = make_dynamics(maze, pick_device(config.device))
    results = sweep(dynamics, config.discount, best_length, config.seed)
    results = list(track(results, len(SWEEP_EPISODES), "sweep", describe))
    draw_sweep(record.file("sweep.png"), results)
    write_json(record.file("sweep.json"), sweep_as_dict(results))


def main(config: Config) -> None:
    """Train, compare with the optimum, draw."""
    for name, least in (("episodes", 1), ("band_seeds", 0)):
        if getattr(config, name) < least:
            raise UserError(f"--{name} is {getattr(config, name)}; it must be {least} or more")
    if config.band_seeds > MAX_BAND_SEEDS:
        raise UserError(f"--band_seeds is {config.band_seeds}; it must be {MAX_BAND_SEEDS} or less")
    check_seed(config.seed)
    pick_device(config.device)  # raises at once if it is not available
    make_agent(config)  # raises at once if a setting is invalid
    maze = make_maze(config)
    learner = choose_learner(config, maze)
    if learner == "replay" and own.IN_USE:
        raise UserError("--with is for one agent; replay learns with other functions: give --learner one")
    check_outputs(config.output_dir, OUTPUT_FILES, maze_file=config.maze_file)
    record = RunRecord(__file__, config.output_dir, config)

    run = run_single_agent if learner == "one" else run_shared_table
    result = run(config, maze, record)
    greedy_policy = partial(result.agent.act, greedy=True)
    learned_length = mean_episode_length(maze, greedy_policy)
    check_path(record, maze, learned_length, result.best_length)

    trajectories = greedy_trajectories(maze, result.stages)
    if config.render != "none":
        print_trajectory(list(trajectories.values())[-1], maze, config.render)
    n_states = maze.cells.size
    q_values = {title: q_array(agent.q_table, n_states) for title, agent in result.stages.items()}
    draw_trajectories(record.file("maze_agent.gif"), maze, trajectories, q_values)
    learned_q = list(q_values.values())[-1]  # (S, A)
    draw_policy_comparison(record.file("policy.png"), maze, learned_q, result.best_q)
    if config.sweep:
        run_sweep(config, maze, result.best_length, record)
    result.agent.save(record.file("q_table.json"))
    record.save()


if __name__ == "__main__":
    launch(Config, main)
