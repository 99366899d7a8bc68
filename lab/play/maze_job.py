"""The maze pane: watch `q_learning_agent.train` while it runs, one step of the environment at a time.

There is no second training loop: the environment that the training steps through waits for its turn before every step,
and meanwhile the messages of the page are answered and what has been learned so far is shown.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

import q_learning_agent  # the modules, not their functions: `--with` puts a learner's functions into them
import value_iteration
from lab.errors import UserError
from lab.play.worker import FRAMES_PER_SECOND, Control, Message, Replaced, run_jobs, to_json
from maze_env import STEP_REWARD, SimpleMaze
from maze_layout import random_maze

PANE = "maze"
SCRIPT = "01_q_learning_maze/train.py"  # whose --with the learner's functions are
ACTIONS = 4
EPISODES = 10**9  # until another job is wanted
MAX_STEPS = 100  # of an episode, as `gymnasium.make` has it, or twice the number of cells if that is more
EPSILON_MIN = 0.05
MAX_POINTS = 300  # of the curve of returns
DIGITS = 7  # after the point: an error below 1e-7, and frames half as long
TIME_FOR_FRAMES = 0.25  # of the job's time at most; a frame of a large maze takes some milliseconds
MAX_LAG = 0.1  # seconds that steps may be late and be made up for


class WatchedMaze(gym.Env[Any, Any]):
    """A maze that can be changed while an agent learns in it, and that calls `before_step` before every step."""

    def __init__(self, layout: Sequence[str], slip: float, before_step: Callable[[], None]) -> None:
        self.maze = SimpleMaze(layout, slip=slip)
        self.before_step = before_step
        self.is_stranded = False  # the mouse, by a change of the maze
        self.action_space, self.observation_space = self.maze.action_space, self.maze.observation_space

    def change(self, layout: Sequence[str], slip: float) -> None:
        """Put another maze of the same size in the place of this one. Raises UserError if it is no maze.

        Where the mouse is in a wall then, or at a goal that it did not walk to, its episode is cut off.
        """
        maze = SimpleMaze(layout, slip=slip)
        if maze.cells.shape != self.maze.cells.shape:
            raise UserError("the maze has another size now; press Reset")
        maze.np_random = self.maze.np_random  # the random numbers continue
        maze.state = self.maze.state
        self.is_stranded = bool(maze.is_absorbing[maze.state])
        self.maze = maze

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self.is_stranded = False
        return self.maze.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Wait for the turn of this step, and take it."""
        self.before_step()
        if self.is_stranded:
            return self.maze.state, STEP_REWARD, False, True, {}
        state, reward, terminated, truncated, info = self.maze.step(action)
        return state, float(reward), terminated, truncated, info


@dataclass
class Curve:
    """Returns of all episodes, thinned out: at most `MAX_POINTS` points, each the mean of as many episodes."""

    episodes_per_point: int = 1
    points: list[list[float]] = field(default_factory=list)  # (points, 2): episode, return
    count: int = 0  # of the episodes that are no point yet
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # their sum

    def add(self, episode: int, total_reward: float) -> None:
        """Add an episode."""
        self.count += 1
        self.total += (episode, total_reward)
        if self.count < self.episodes_per_point:
            return
        self.points.append((self.total / self.count).tolist())
        self.count, self.total = 0, np.zeros(2)
        if len(self.points) >= MAX_POINTS:
            pairs = np.array(self.points).reshape(-1, 2, 2)  # (points, 2) -> (points / 2, 2, 2)
            self.points = pairs.mean(axis=1).tolist()
            self.episodes_per_point *= 2

    def all_points(self) -> list[list[float]]:
        """Return the points, (points, 2), the last of them of fewer episodes."""
        return [*self.points, (self.total / self.count).tolist()] if self.count else self.points


class WrittenValues:
    """The Q-values of all states as JSON, (S, A): only the rows that have changed are written again."""

    def __init__(self, num_states: int, num_actions: int) -> None:
        self.q = [[0.0] * num_actions for _ in range(num_states)]  # (S, A)
        self.rows = [to_json([0] * num_actions)] * num_states
        self.values = np.zeros(0)  # of the Q-table, in its order: pairs are added at its end

    def write(self, q_table: Mapping[tuple[int, int], float]) -> str:
        """Return the Q-values of a table, rounded."""
        values = np.fromiter(q_table.values(), float, len(q_table))
        known = len(self.values)
        changed = [*np.flatnonzero(values[:known] != self.values).tolist(), *range(known, len(values))]
        pairs = list(q_table)
        for number in changed:
            state, action = pairs[number]
            self.q[state][action] = round(float(values[number]), DIGITS)
        for state in {pairs[number][0] for number in changed}:
            self.rows[state] = to_json([q or 0 for q in self.q[state]])
        self.values = values
        return f"[{','.join(self.rows)}]"


class MazeJob:
    """One training, its pace, and what of it is shown."""

    def __init__(self, control: Control, message: Message) -> None:
        self.control = control
        self.layout: list[str] = message["layout"]
        self.problem = ""  # with the maze; learning waits until it is mended
        self.is_running: bool = message["running"]
        self.steps_per_second: float = message["steps_per_second"]
        self.single_steps = 0  # asked for while it is paused
        self.next_step_at = self.next_frame_at = time.perf_counter()
        self.step = 0
        self.episode: q_learning_agent.Episode | None = None  # the last one that has ended
        self.curve = Curve()
        self.own_functions: list[str] = []
        self.shows_optimum = False
        self.optimum = ""  # (S, A) as JSON, computed when it is to be shown
        self.env = WatchedMaze(self.layout, message["slip"], self.before_step)
        self.values = WrittenValues(self.env.maze.cells.size, ACTIONS)
        self.agent = q_learning_agent.QLearningAgent(
            ACTIONS,
            learning_rate=message["learning_rate"],
            discount=message["discount"],
            epsilon=message["epsilon"],
            epsilon_decay=message["epsilon_decay"],
            epsilon_min=min(EPSILON_MIN, message["epsilon"]),
            seed=message["seed"],
        )

    def run(self, seed: int) -> None:
        """Train until another job is wanted."""
        limit = max(MAX_STEPS, 2 * self.env.maze.cells.size)
        with self.control.own_functions(SCRIPT) as self.own_functions:
            self.show()
            env = TimeLimit(self.env, limit)
            for episode in q_learning_agent.train(self.agent, env, EPISODES, seed):
                self.curve.add(episode.number, episode.total_reward)
                self.episode = episode

    def before_step(self) -> None:
        """Answer the page until the next step is due."""
        self.answer(0.0)
        self.show_if_due()
        while (wait := self.seconds_to_wait()) != 0:
            if wait is None or wait > 1 / FRAMES_PER_SECOND:
                self.show()
            self.answer(wait)
        self.single_steps = max(0, self.single_steps - 1)
        self.next_step_at = max(self.next_step_at, time.perf_counter() - MAX_LAG) + 1 / self.steps_per_second
        self.step += 1

    def seconds_to_wait(self) -> float | None:
        """Return the time until the next step is due; None: until the page wants it."""
        if self.problem:
            return None
        if self.single_steps:
            return 0.0
        return max(0.0, self.next_step_at - time.perf_counter()) if self.is_running else None

    def answer(self, wait: float | None) -> None:
        """Do what the messages say; wait for the first. Raises Replaced if this job is over."""
        try:
            for message in self.control.messages(wait):
                match message["do"]:
                    case "pause":
                        self.is_running, self.single_steps = False, 0
                    case "resume":
                        self.is_running, self.next_step_at = True, time.perf_counter()
                    case "step":
                        self.is_running = False
                        self.single_steps += 1
                    case "speed":
                        self.steps_per_second, self.next_step_at = message["steps_per_second"], time.perf_counter()
                    case "layout":
                        self.change(message["layout"], self.env.maze.slip)
                    case "settings":
                        self.change_settings(message)
                    case "epsilon":
                        self.agent.epsilon = message["epsilon"]
                        self.agent.epsilon_min = min(EPSILON_MIN, message["epsilon"])
                    case "optimum":
                        self.shows_optimum = message["optimum"]
        except Replaced as newer:
            message = self.after_other_panes(newer.message)
            if message["do"] != "return":
                raise Replaced(message) from None
            self.is_running, self.single_steps = False, 0
            self.change(message["layout"], self.env.maze.slip)
            self.show()

    def after_other_panes(self, message: Message) -> Message:
        """Return the next message for this pane. Until then the jobs of other panes run, and this one waits."""
        if message["pane"] != PANE:
            try:
                run_jobs(self.control, message, until_pane=PANE)
            except Replaced as newer:
                return newer.message
        return message

    def change(self, layout: list[str], slip: float) -> None:
        """Change the maze. If it is none, learning waits, and the page is told why."""
        self.layout, self.optimum = layout, ""
        try:
            self.env.change(layout, slip)
            self.problem = ""
        except UserError as error:
            self.problem = f"{sentence(error)} Learning waits."

    def change_settings(self, message: Message) -> None:
        """Change the settings of the agent and the slip of the maze."""
        self.agent.learning_rate, self.agent.discount = message["learning_rate"], message["discount"]
        self.agent.epsilon_decay = message["epsilon_decay"]
        self.change(self.layout, message["slip"])

    def show_if_due(self) -> None:
        """Show the state while it runs, unless the last frame is too new or frames take too much of the time."""
        if self.is_running and self.control.is_due(PANE, "state") and time.perf_counter() >= self.next_frame_at:
            self.show()

    def show(self) -> None:
        """Show the Q-values, (S, A), and everything else that the pane draws."""
        maze, episode = self.env.maze, self.episode
        if self.shows_optimum and not self.optimum and not self.problem:
            q_star = value_iteration.value_iteration(maze.outcomes(), self.agent.discount, tolerance=1e-9)
            self.optimum = to_json(np.round(q_star, DIGITS).tolist())
        started = time.thread_time()
        self.control.show(
            PANE,
            "state",
            written={
                "q": self.values.write(self.agent.q_table),
                "optimum": (self.shows_optimum and self.optimum) or "null",
            },
            layout=self.layout,
            problem=self.problem,
            state=int(maze.state),
            step=self.step,
            episode=episode.number if episode else 0,
            length=episode.length if episode else None,
            reached_goal=episode.reached_goal if episode else None,
            epsilon=self.agent.epsilon,
            shortest=maze.shortest_path_length,
            is_running=self.is_running,
            curve=self.curve.all_points(),
            own_functions=self.own_functions,
        )
        cost = time.thread_time() - started
        self.next_frame_at = time.perf_counter() + cost * (1 / TIME_FOR_FRAMES - 1)


def sentence(error: UserError) -> str:
    """Return the message of an error as a sentence, with its cells (row, column) counted from 1, as the page does."""
    text = re.sub(r"\((\d+), (\d+)\)", lambda cell: f"(row {int(cell[1]) + 1}, column {int(cell[2]) + 1})", str(error))
    return f"{text[0].upper()}{text[1:]}."


@contextmanager
def as_sentences() -> Iterator[None]:
    """Raise every UserError of the block with its message as a sentence."""
    try:
        yield
    except UserError as error:
        raise UserError(sentence(error)) from None


def run(control: Control, message: Message) -> None:
    """Run the job of a start message."""
    with as_sentences():
        job = MazeJob(control, message)
    job.run(message["seed"])


def make_random(control: Control, message: Message) -> None:
    """Show a random maze of the lab, for the page to start with."""
    with as_sentences():
        layout = random_maze(message["rows"], message["columns"], message["seed"])
    control.show(PANE, "random", layout=layout)
