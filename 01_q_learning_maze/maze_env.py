"""A maze for a mouse: a Gymnasium environment whose dynamics are exposed for exact planning."""

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
    """A maze in which a mouse looks for the cheese, one cell per step.

    ## Description
    The maze is a grid of floor and walls. The mouse begins at the start; the episode ends when it
    reaches a goal, where the cheese lies. The default maze has 4 x 4 cells, and its shortest path
    takes 6 steps:

        S . . .
        . X . .
        . . X .
        . . . G

    ## Action space
    `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. A move into a wall or off the grid leaves the
    mouse where it is.

    ## Observation space
    `Discrete(rows * columns)`: the cell the mouse is in, row * columns + column, both counted from
    0. In the default maze the start (0, 0) is 0 and the goal (3, 3) is 15.

    ## Rewards
    +10 for the step that reaches a goal, -1 for every other step, bumps included.

    These make a shortest path optimal for every discount γ in (0, 1]. Reaching the goal with step d
    is worth

        G(d) = -(1 + γ + ... + γ^(d-2)) + 10 γ^(d-1),

    so one step more changes it by G(d+1) - G(d) = -γ^(d-1) - 10 γ^(d-1) (1 - γ) < 0: fewer steps
    are always better. The return of never arriving is the limit of G(d) as d grows, and less than
    any G(d). (With `slip` a longer path may be better, if it passes fewer cells where slipping
    costs much.)

    ## Transitions
    The mouse moves as the action says with probability 1 - slip, and in each of the two
    perpendicular directions with probability slip / 2. `env.P[state][action]` lists the outcomes,
    [(probability, next_state, reward, terminated)]; `step` samples from this list. Walls, goals and
    cells cut off from the start are absorbing in it, [(1.0, state, 0.0, True)], because the mouse
    never takes an action there.

    ## Episode end
    Reaching a goal terminates; nothing else does. `gymnasium.make` truncates after 100 steps
    (`max_episode_steps`).

    ## Information
    `reset` and `step` return {"prob": probability of the sampled transition}.

    ## Arguments
    ```python
    import gymnasium
    import maze_env  # registers the environment

    layout = ["S.X", "..G"]
    env = gymnasium.make("SimpleMaze-v0", layout=layout, render_mode="ansi", slip=0.2)
    ```
    - `layout`: one string per row, of `S` start, `.` floor, `X` wall, `G` goal; None for the
      default maze. `maze_layout` reads layouts from files and makes random ones.
    - `render_mode`: "ansi" returns text (M is the mouse), "rgb_array" an image (height, width, 3)
      of uint8, "human" prints the text, `render_fps` times per second.
    - `slip`: probability in [0, 1] that a move goes to one side.

    Raises UserError, a ValueError, if the maze is invalid (the message says where) or `slip` is not
    a probability.

    ## Attributes
    `layout`; `cells` (R, C), its characters; `start`, a state; `successors` (S, A), the next state
    of each move without slip; `is_goal`, `is_absorbing` (S,); `shortest_path_length`, in steps,
    without slip.

    ## Source
    The dynamics `P` have the format of Gymnasium's toy_text environments; grid worlds are example
    3.5 in Sutton & Barto (2018).
    """

    metadata = {"render_modes": ["human", "ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        layout: Sequence[str] | None = None,
        render_mode: str | None = None,
        slip: float = 0.0,
    ) -> None:
        if not 0 <= slip <= 1:
            raise UserError(f"slip is {slip}; a probability lies in [0, 1]")
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise UserError(f"render_mode is {render_mode!r}; use one of {', '.join(modes)}")
        self.layout = DEFAULT_LAYOUT if layout is None else tuple(layout)
        self.cells = parse_layout(self.layout)  # (R, C)
        self.slip = slip
        self.render_mode = render_mode
        self.start = int(np.flatnonzero(self.cells == "S")[0])
        self.is_goal = (self.cells == "G").ravel()  # (R, C) -> (S,)
        self.successors = successor_table(self.cells == "X")  # (S, A)
        distances = distances_from([self.start], self.successors, self.is_goal)  # (S,)
        is_reachable = distances >= 0  # (S,)
        self.is_absorbing = self.is_goal | ~is_reachable  # (S,)
        self.shortest_path_length = self._shortest_path_length(distances)
        self.observation_space = gym.spaces.Discrete(self.cells.size)
        self.action_space = gym.spaces.Discrete(4)
        self.P = LazyDynamics(self.cells.size, self.transitions)
        self.state = self.start

    def _shortest_path_length(self, distances: NDArray[np.int64]) -> int:
        goal_distances = distances[self.is_goal & (distances > 0)]  # (reachable goals,)
        if not goal_distances.size:
            n_columns = self.cells.shape[1]
            start = divmod(self.start, n_columns)
            goal = divmod(int(self.is_goal.argmax()), n_columns)
            where = f"from the start {start} to a goal (the first is at {goal})"
            raise UserError(f"no path leads {where}; open a wall between them")
        return int(goal_distances.min())

    def transitions(self, state: int, action: int) -> list[Transition]:
        """Return the outcomes of `action` in `state`; their probabilities add up to 1."""
        if self.is_absorbing[state]:
            return [(1.0, state, 0.0, True)]
        directions = [
            (action, 1 - self.slip),
            ((action - 1) % 4, self.slip / 2),
            ((action + 1) % 4, self.slip / 2),
        ]
        outcomes: list[Transition] = []
        for direction, probability in directions:
            if probability == 0:
                continue
            next_state = int(self.successors[state, direction])
            terminated = bool(self.is_goal[next_state])
            reward = GOAL_REWARD if terminated else STEP_REWARD
            outcomes.append((probability, next_state, reward, terminated))
        return outcomes

    def outcomes(self) -> NDArray[np.float64]:
        """Return `P` as arrays, (4, S, A, K): probability, next state, reward and terminated.

        K is 1 without slip, else 2 or 3. Faster than reading `P` entry by entry, which matters in
        a maze with a million states.
        """
        # straight on, and the two sides: how far the directions are rolled, and how probable it is
        shifts = [(0, 1 - self.slip), (1, self.slip / 2), (-1, self.slip / 2)]
        shifts = [(shift, probability) for shift, probability in shifts if probability > 0]
        n_states = self.cells.size
        states = np.arange(n_states)[:, None]  # (S, 1)
        is_absorbing = self.is_absorbing[:, None]  # (S, 1)
        outcomes = np.zeros((4, n_states, 4, len(shifts)))  # (4, S, A, K)
        for k, (shift, probability) in enumerate(shifts):
            moved = np.roll(self.successors, shift, axis=1)  # (S, A)
            next_state = np.where(is_absorbing, states, moved)  # (S, A)
            reaches_goal = self.is_goal[next_state] & ~is_absorbing  # (S, A)
            reward = np.where(reaches_goal, GOAL_REWARD, STEP_REWARD)  # (S, A)
            # an absorbing state has one outcome, the first; the others keep probability 0
            possible = np.full_like(is_absorbing, True) if k == 0 else ~is_absorbing  # (S, 1)
            outcomes[0, :, :, k] = np.where(is_absorbing, 1.0, probability) * possible
            outcomes[1, :, :, k] = next_state * possible
            outcomes[2, :, :, k] = np.where(is_absorbing, 0.0, reward) * possible
            outcomes[3, :, :, k] = (reaches_goal | is_absorbing) * possible
        return outcomes

    def shortest_path_values(self) -> NDArray[np.float64]:
        """Return Q*, (S, A), for discount 1 and no slip: as value iteration does, in one pass.

        By breadth-first search from the goals: with discount 1 the formula for G(d) is 11 - d.
        Raises UserError with slip.
        """
        if self.slip:
            raise UserError(f"slip is {self.slip}; a shortest path is the best only without slip")
        goals = np.flatnonzero(self.is_goal).tolist()
        # moves can be undone, so the distance to a goal is the distance from it
        no_goals = np.zeros_like(self.is_goal)  # (S,): the search passes through all cells
        distances = distances_from(goals, self.successors, no_goals)  # (S,)
        # the value of a state, and Q from one step and the value of the state it leads to
        path_returns = GOAL_REWARD + STEP_REWARD * (distances - 1)  # (S,)
        values = np.where(self.is_goal, 0.0, path_returns)  # (S,)
        rewards = np.where(self.is_goal[self.successors], GOAL_REWARD, STEP_REWARD)  # (S, A)
        q = rewards + values[self.successors]  # (S, A)
        return np.where(self.is_absorbing[:, None], 0.0, q)

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Put the mouse at the start. Return the observation and the information."""
        super().reset(seed=seed)
        self.state = self.start
        if self.render_mode == "human":
            self.render()
        return self.state, {"prob": 1.0}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Move the mouse. Return observation, reward, terminated, truncated (False), information.

        Raises UserError for an action other than 0, 1, 2, 3.
        """
        if action not in range(4):
            raise UserError(f"action is {action}; use 0 (up), 1 (right), 2 (down) or 3 (left)")
        outcomes = self.transitions(self.state, int(action))
        probabilities = [outcome[0] for outcome in outcomes]
        sampled = categorical_sample(probabilities, self.np_random)
        probability, self.state, reward, terminated = outcomes[sampled]
        if self.render_mode == "human":
            self.render()
        return self.state, reward, terminated, False, {"prob": probability}

    def render(self) -> str | NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the maze and the mouse as text or image, or print it, as `render_mode` says."""
        if self.render_mode == "rgb_array":
            return np.asarray(draw_maze(self.cells, mouse=self.state))  # (height, width, 3)
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode; make the environment with one")
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
    """`P[state][action]`, computed on access.

    As a dictionary it would take gigabytes in a maze of 1,000 x 1,000.
    """

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
