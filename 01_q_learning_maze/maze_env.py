"""A maze for a mouse: a grid world that follows the Gymnasium API and opens its dynamics to exact planning."""

# R rows, C columns, S = R * C states, A = 4 actions

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text.utils import categorical_sample
from numpy.typing import NDArray

from lab.errors import UserError
from maze_drawing import draw_maze
from maze_layout import DEFAULT_LAYOUT, distances_from, parse_layout, successor_table

UP, RIGHT, DOWN, LEFT = range(4)
GOAL_REWARD, STEP_REWARD = 10.0, -1.0

Transition = tuple[float, int, float, bool]  # probability, next state, reward, terminated


class SimpleMaze(gym.Env[Any, Any]):
    """A mouse looks for the cheese in a maze, one cell a step.

    ## Description
    The maze is a grid of floor and walls. The mouse begins at the start; the episode ends when it reaches a goal, where
    the cheese lies. The default maze has 4 x 4 cells, and its shortest way takes 6 moves:

        S . . .
        . X . .
        . . X .
        . . . G

    ## Action space
    `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. A move into a wall or off the grid leaves the mouse where it is.

    ## Observation space
    `Discrete(rows * columns)`: the cell the mouse is in, row * columns + column, both counted from 0. In the default
    maze the start (0, 0) is 0 and the goal (3, 3) is 15.

    ## Rewards
    +10 for the step that reaches a goal, -1 for every other step, bumps included.

    These make a shortest path optimal for every discount γ in (0, 1]. Reaching the goal with step d is worth

        G(d) = -(1 + γ + ... + γ^(d-2)) + 10 γ^(d-1),

    so one step more changes it by G(d+1) - G(d) = -γ^(d-1) - 10 γ^(d-1) (1 - γ) < 0: fewer steps are always better.
    Never to arrive is worth what G(d) falls to as d grows, less than any of them. (With `slip` a longer way may be
    better, past fewer places where slipping costs much.)

    ## Transitions
    The mouse moves where it wants with probability 1 - slip, and in each of the two perpendicular directions with
    probability slip / 2. `env.P[state][action]` lists what can happen, [(probability, next_state, reward, terminated)];
    `step` samples from that very list. Walls, goals and cells cut off from the start are absorbing there:
    [(1.0, state, 0.0, True)], because the mouse never takes an action in one.

    ## Episode end
    Reaching a goal terminates; nothing else does. `gymnasium.make` truncates after 100 steps (`max_episode_steps`).

    ## Information
    `reset` and `step` return {"prob": probability of the transition that happened}.

    ## Arguments
    ```python
    import gymnasium
    import maze_env  # registers the environment

    env = gymnasium.make("SimpleMaze-v0", layout=["S.X", "..G"], render_mode="ansi", slip=0.2)
    ```
    - `layout`: strings of `S` start, `.` floor, `X` wall, `G` goal, one a row; None for the default.
      `maze_layout` reads them from files and makes random ones.
    - `render_mode`: "ansi" returns text (M is the mouse), "rgb_array" a picture (height, width, 3) of uint8, "human"
      prints the text, `render_fps` pictures a second.
    - `slip`: probability in [0, 1] that the move goes astray.

    Raises UserError, a ValueError, that says what is wrong with the maze and where, or that `slip` is no probability.

    ## Attributes
    `layout`; `cells` (R, C), its characters; `start`, a state; `is_goal`, `is_absorbing` (S,); `shortest_path_length`,
    in moves, without slipping.

    ## Source
    The interface to the dynamics is that of Gymnasium's toy_text environments; grid worlds are example 3.5 in
    Sutton & Barto (2018).
    """

    metadata = {"render_modes": ["human", "ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, layout: Sequence[str] | None = None, render_mode: str | None = None, slip: float = 0.0) -> None:
        if not 0 <= slip <= 1:
            raise UserError(f"slip is {slip}; a probability lies in [0, 1]")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise UserError(f"render_mode is {render_mode!r}; use one of {', '.join(self.metadata['render_modes'])}")
        self.layout = DEFAULT_LAYOUT if layout is None else tuple(layout)
        self.cells = parse_layout(self.layout)  # (R, C)
        self.slip = slip
        self.render_mode = render_mode
        self.start = int(np.flatnonzero(self.cells == "S")[0])
        self.is_goal = (self.cells == "G").ravel()  # (S,)
        self.successors = successor_table(self.cells == "X")  # (S, A)
        distances = distances_from([self.start], self.successors, self.is_goal)  # (S,)
        self.is_absorbing = self.is_goal | (distances < 0)  # (S,)
        self.shortest_path_length = self._shortest_path_length(distances)
        self.observation_space = gym.spaces.Discrete(self.cells.size)
        self.action_space = gym.spaces.Discrete(4)
        self.P = LazyDynamics(self.cells.size, self.transitions)
        self.state = self.start

    def _shortest_path_length(self, distances: NDArray[np.int64]) -> int:
        reached = distances[self.is_goal & (distances > 0)]
        if not reached.size:
            start, goal = (divmod(state, self.cells.shape[1]) for state in (self.start, int(self.is_goal.argmax())))
            raise UserError(
                f"no way leads from the start {start} to a goal (the first is at {goal}); open a wall between"
            )
        return int(reached.min())

    def transitions(self, state: int, action: int) -> list[Transition]:
        """What can happen when `action` is taken in `state`; the probabilities add up to 1."""
        if self.is_absorbing[state]:
            return [(1.0, state, 0.0, True)]
        slips = ((action - 1) % 4, self.slip / 2), ((action + 1) % 4, self.slip / 2)
        outcomes: list[Transition] = []
        for direction, probability in ((action, 1 - self.slip), *slips):
            if probability > 0:
                next_state = int(self.successors[state, direction])
                arrived = bool(self.is_goal[next_state])
                outcomes.append((probability, next_state, GOAL_REWARD if arrived else STEP_REWARD, arrived))
        return outcomes

    def outcomes(self) -> NDArray[np.float64]:
        """`P` as arrays: probability, next state, reward and terminated of every outcome, (4, S, A, K); K is 1 or 3.

        Quicker than to ask `P` for every entry, which counts where there are a million states.
        """
        shares = [(0, 1 - self.slip), (1, self.slip / 2), (-1, self.slip / 2)]  # straight on, the two sides
        turns = [(turn, probability) for turn, probability in shares if probability > 0]  # K of them
        own = np.arange(self.cells.size)[:, None]  # (S, 1)
        still = self.is_absorbing[:, None]  # (S, 1)
        outcomes = np.empty((4, self.cells.size, 4, len(turns)))  # (4, S, A, K)
        for k, (turn, probability) in enumerate(turns):
            next_state = np.where(still, own, np.roll(self.successors, turn, axis=1))  # (S, A)
            arrived = self.is_goal[next_state] & ~still  # (S, A)
            reward = np.where(still, 0.0, np.where(arrived, GOAL_REWARD, STEP_REWARD))  # (S, A)
            share = np.where(still, float(k == 0), probability)  # (S, 1)
            outcomes[..., k] = np.stack(np.broadcast_arrays(share, next_state, reward, arrived | still)) * (share > 0)
        return outcomes

    def shortest_path_values(self) -> NDArray[np.float64]:
        """Q*, (S, A), for a discount of 1 and no slip: what value iteration finds, in one pass over the maze.

        By breadth-first search from the goals; the formula for G(d) above is 11 - d then. Raises UserError with slip.
        """
        if self.slip:
            raise UserError(f"slip is {self.slip}; without chance alone is the number of moves all that counts")
        everywhere = np.zeros_like(self.is_goal)
        goals = np.flatnonzero(self.is_goal).tolist()
        distances = distances_from(goals, self.successors, everywhere)  # (S,)
        values = np.where(self.is_goal, 0.0, GOAL_REWARD - STEP_REWARD + STEP_REWARD * distances)  # (S,)
        rewards = np.where(self.is_goal[self.successors], GOAL_REWARD, STEP_REWARD)  # (S, A)
        return np.where(self.is_absorbing[:, None], 0.0, rewards + values[self.successors])  # (S, A)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Put the mouse at the start. Returns the observation and the information."""
        super().reset(seed=seed)
        self.state = self.start
        if self.render_mode == "human":
            self.render()
        return self.state, {"prob": 1.0}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Move the mouse. Returns observation, reward, terminated, truncated (always False), information.

        Raises UserError for an action other than 0, 1, 2, 3.
        """
        if not 0 <= action < 4:
            raise UserError(f"action {action} is none of 0 (up), 1 (right), 2 (down), 3 (left)")
        outcomes = self.transitions(self.state, int(action))
        chosen = categorical_sample([outcome[0] for outcome in outcomes], self.np_random)
        probability, self.state, reward, terminated = outcomes[chosen]
        if self.render_mode == "human":
            self.render()
        return self.state, reward, terminated, False, {"prob": probability}

    def render(self) -> str | NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The maze with the mouse in it, as `render_mode` says; None for "human", which prints it, and for no mode."""
        if self.render_mode == "rgb_array":
            return np.asarray(draw_maze(self.cells, mouse=self.state))  # (height, width, 3)
        if self.render_mode is None:
            gym.logger.warn(
                'render() draws nothing without a render_mode; make the environment with render_mode="ansi"'
            )
            return None
        text = self._text()
        if self.render_mode == "ansi":
            return text
        print(text, flush=True)
        time.sleep(1 / self.metadata["render_fps"])
        return None

    def _text(self) -> str:
        cells = self.cells.copy()
        cells.flat[self.state] = "M"
        return "\n".join(" ".join(row) for row in cells) + "\n"


class LazyDynamics(Mapping[int, Mapping[int, list[Transition]]]):
    """`P[state][action]` worked out when asked for: a table of it would fill gigabytes for a maze of 1,000 x 1,000."""

    def __init__(self, n_states: int, transitions: Callable[[int, int], list[Transition]]) -> None:
        self.n_states, self.transitions = n_states, transitions

    def __getitem__(self, state: int) -> dict[int, list[Transition]]:
        if not 0 <= state < self.n_states:
            raise KeyError(state)
        return {action: self.transitions(int(state), action) for action in range(4)}

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n_states))

    def __len__(self) -> int:
        return self.n_states


if "SimpleMaze-v0" not in gym.registry:  # a second import, under another name, must not warn
    gym.register(id="SimpleMaze-v0", entry_point=f"{__name__}:SimpleMaze", max_episode_steps=100)
