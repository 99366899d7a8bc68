"""The maze pane: watch `q_learning_agent.train` while it runs, one step of the environment at a time.

There is no second training loop: the environment that the training steps through waits for its turn before every step,
and meanwhile the messages of the page are answered and what has been learned so far is shown.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from lab.errors import UserError
from lab.play.worker import Control, Message
from maze_env import STEP_REWARD, SimpleMaze
from q_learning_agent import QLearningAgent, train
from value_iteration import value_iteration

PANE = "maze"
SCRIPT = "01_q_learning_maze/train.py"  # whose --with the learner's functions are
EPISODES = 10**9  # until another job is wanted
MAX_STEPS = 100  # of an episode, as `gymnasium.make` has it, or twice the number of cells if that is more
MAX_POINTS = 300  # of the curve of returns


class WatchedMaze(gym.Env[Any, Any]):
    """A maze that can be changed while an agent learns in it, and that calls `before_step` before every step."""

    def __init__(self, layout: Sequence[str], slip: float, before_step: Callable[[], None]) -> None:
        self.maze = SimpleMaze(layout, slip=slip)
        self.before_step = before_step
        self.was_moved = False  # by a change of the maze
        self.action_space, self.observation_space = self.maze.action_space, self.maze.observation_space

    def change(self, layout: Sequence[str], slip: float) -> None:
        """Put another maze of the same size in the place of this one. Raises UserError if it is no maze.

        Where the mouse stands in a wall then, its episode ends.
        """
        maze = SimpleMaze(layout, slip=slip)
        if maze.cells.shape != self.maze.cells.shape:
            raise UserError(f"the maze has {maze.cells.shape} cells; it had {self.maze.cells.shape}: start again")
        maze.np_random = self.maze.np_random  # the random numbers go on
        maze.state = self.maze.state
        self.was_moved = bool(maze.is_absorbing[maze.state])
        self.maze = maze

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self.was_moved = False
        return self.maze.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Wait for the turn of this step, and take it."""
        self.before_step()
        if self.was_moved:
            return self.maze.state, STEP_REWARD, False, True, {}
        state, reward, terminated, truncated, info = self.maze.step(action)
        return state, float(reward), terminated, truncated, info


@dataclass
class Curve:
    """Returns and lengths of all episodes, thinned out: at most `MAX_POINTS` points, each the mean of some episodes."""

    episodes_per_point: int = 1
    points: list[list[float]] = field(default_factory=list)  # episode, return, length
    pending: list[list[float]] = field(default_factory=list)

    def add(self, episode: int, total_reward: float, length: int) -> None:
        """Add an episode."""
        self.pending.append([episode, total_reward, length])
        if len(self.pending) < self.episodes_per_point:
            return
        self.points.append(np.mean(self.pending, axis=0).tolist())
        self.pending.clear()
        if len(self.points) >= MAX_POINTS:
            pairs = np.array(self.points).reshape(-1, 2, 3)  # (points, 3) -> (points / 2, 2, 3)
            self.points = pairs.mean(axis=1).tolist()
            self.episodes_per_point *= 2


class MazeJob:
    """One training, its pace, and what of it is shown."""

    def __init__(self, control: Control, message: Message) -> None:
        self.control = control
        self.layout: list[str] = message["layout"]
        self.is_running: bool = message["running"]
        self.steps_per_second: float = message["steps_per_second"]
        self.single_steps = 0  # asked for while it is paused
        self.next_step_at = time.perf_counter()
        self.step = 0
        self.episode = 0
        self.curve = Curve()
        self.own_functions: list[str] = []
        self.env = WatchedMaze(self.layout, message["slip"], self.before_step)
        self.agent = QLearningAgent(
            4,
            learning_rate=message["learning_rate"],
            discount=message["discount"],
            epsilon=message["epsilon"],
            epsilon_decay=message["epsilon_decay"],
            epsilon_min=min(0.05, message["epsilon"]),
            seed=message["seed"],
        )
        self.optimum = self.optimal_values()

    def run(self, seed: int) -> None:
        """Train until another job is wanted."""
        limit = max(MAX_STEPS, 2 * self.env.maze.cells.size)
        with self.control.own_functions(SCRIPT) as self.own_functions:
            self.show()
            for record in train(self.agent, TimeLimit(self.env, limit), EPISODES, seed):
                self.episode = record.number
                self.curve.add(record.number, record.total_reward, record.length)

    def before_step(self) -> None:
        """Answer the page and wait until the next step is due."""
        self.show_if_due()
        self.answer(0.0)
        while not self.is_running and not self.single_steps:
            self.show()
            self.answer(None)
        if self.single_steps:
            self.single_steps -= 1
            self.next_step_at = time.perf_counter()
        while self.is_running and (early := self.next_step_at - time.perf_counter()) > 0:
            self.show_if_due()
            self.answer(early)
        now = time.perf_counter()
        self.next_step_at = max(self.next_step_at, now - 0.1) + 1 / self.steps_per_second
        self.step += 1

    def show_if_due(self) -> None:
        """Show the state if the last frame is old enough."""
        if self.control.is_due(PANE, "state"):
            self.show()

    def answer(self, wait: float | None) -> None:
        """Do what the messages say; wait for the first."""
        for message in self.control.messages(wait):
            match message["do"]:
                case "pause":
                    self.is_running = False
                case "resume":
                    self.is_running = True
                    self.next_step_at = time.perf_counter()
                case "step":
                    self.is_running = False
                    self.single_steps += 1
                case "speed":
                    self.steps_per_second = message["steps_per_second"]
                    self.next_step_at = time.perf_counter()
                case "layout":
                    self.change(message["layout"], self.env.maze.slip)
                case "settings":
                    self.change_settings(message)

    def change(self, layout: list[str], slip: float) -> None:
        """Change the maze; the page is told if it is none."""
        try:
            self.env.change(layout, slip)
        except UserError as error:
            self.control.show(PANE, "error", message=str(error))
            return
        self.layout = layout
        self.optimum = self.optimal_values()
        self.control.show(PANE, "error", message="")
        self.show()

    def change_settings(self, message: Message) -> None:
        """Change the settings of the agent and the slip of the maze."""
        agent = self.agent
        agent.learning_rate, agent.discount = message["learning_rate"], message["discount"]
        agent.epsilon, agent.epsilon_decay = message["epsilon"], message["epsilon_decay"]
        agent.epsilon_min = min(0.05, agent.epsilon)
        self.change(self.layout, message["slip"])

    def optimal_values(self) -> NDArray[np.float64]:
        """Return Q* of the maze, (S, A)."""
        return value_iteration(self.env.maze.outcomes(), self.agent.discount, tolerance=1e-9)

    def show(self) -> None:
        """Show the Q-values, (S, A), and everything else that the pane draws."""
        maze = self.env.maze
        self.control.show(
            PANE,
            "state",
            layout=self.layout,
            q=[self.agent.q_values(state) for state in range(maze.cells.size)],
            optimum=self.optimum.tolist(),
            state=int(maze.state),
            step=self.step,
            episode=self.episode,
            epsilon=self.agent.epsilon,
            shortest=int(maze.shortest_path_length),
            is_running=self.is_running,
            curve=[*self.curve.points, *self.curve.pending],
            own_functions=self.own_functions,
        )


def run(control: Control, message: Message) -> None:
    """Run the job of a start message."""
    MazeJob(control, message).run(message["seed"])
