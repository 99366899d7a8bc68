"""Pictures of a maze: the mouse, the cheese, and what the agent believes, as shades, arrows and numbers."""

# R rows, C columns, S = R * C states, A = 4 actions

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from lab.animations import captioned, side_by_side

WALL, FLOOR, GRID, ARROW, TEXT = "#3b4252", "#ffffff", "#d8dee9", "#1d3557", "#41506b"
CHEESE, CHEESE_HOLE, FUR, EAR, EYE = "#f2c14e", "#d39f2a", "#8a8f99", "#e8b4b8", "#20242c"
PALE, DEEP = np.array([253, 246, 227]), np.array([116, 190, 150])  # shades of the values below, red, green and blue
LOWEST, HIGHEST = -10.0, 10.0  # shades spread over these, and further down where there are lower values
SMALL = 8  # pixels; in smaller cells nothing but a shade can be made out
MOUSE_DOT = "#d1495b"
FINE = 3  # shapes are drawn this many times larger, then reduced, for smooth edges
DIRECTIONS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # row and column step of each action
PANEL_WIDTH = 288  # pixels of one panel of the animation, room enough for its caption
MOST_FRAMES = 80  # longer walks skip steps, so that the file stays small


def q_array(q_table: Mapping[tuple[int, int], float], n_states: int, n_actions: int = 4) -> NDArray[np.float64]:
    """`q_table` as an array (S, A): 0 for untried actions, NaN throughout for states where nothing was tried."""
    q = np.zeros((n_states, n_actions))  # (S, A)
    visited = np.zeros(n_states, dtype=bool)  # (S,)
    for (state, action), value in q_table.items():
        q[state, action] = value
        visited[state] = True
    q[~visited] = np.nan
    return q


def fitting_cell_size(cells: NDArray[np.str_], pixels: int, largest: int) -> int:
    """Pixels a cell, so that the longer side of `cells` (R, C) takes about `pixels`."""
    return int(np.clip(pixels // max(cells.shape), 1, largest))


def draw_maze(
    cells: NDArray[np.str_],
    mouse: int | None = None,
    q_values: NDArray[np.float64] | None = None,
    cell_size: int | None = None,
    numbers: bool = False,
) -> Image.Image:
    """A picture of the maze `cells` (R, C), `cell_size` pixels a cell (chosen to fit if None).

    Args:
        mouse: the state the mouse is in.
        q_values: (S, A); each state is shaded by its best value, an arrow shows the best action (several if they tie),
            and states of NaN stay blank.
        numbers: write the best value into each cell.
    """
    size = cell_size or fitting_cell_size(cells, pixels=480, largest=64)
    n_rows, n_columns = cells.shape
    image = Image.new("RGB", (n_columns * size * FINE, n_rows * size * FINE), FLOOR)
    pen = ImageDraw.Draw(image)
    best = np.full(cells.size, np.nan) if q_values is None else q_values.max(axis=1)  # (S,)
    shades = _shades(cells, best.reshape(cells.shape))  # (R, C, 3)
    if size < SMALL:
        return _overview(cells, shades, mouse, size)
    for state, character in enumerate(cells.flat):
        row, column = divmod(state, n_columns)
        box = _Box(pen, row * size * FINE, column * size * FINE, size * FINE)
        box.fill(tuple(shades[row, column].tolist()))
        if character == "G":
            box.cheese()
        elif q_values is not None and not np.isnan(best[state]):
            box.arrows(np.flatnonzero(q_values[state] > best[state] - 1e-9).tolist())
        if state == mouse:
            box.mouse()
    image = image.resize((n_columns * size, n_rows * size), Image.Resampling.LANCZOS)
    if numbers and size >= 60:  # legible
        _write_numbers(image, best.reshape(cells.shape), size)
    return image


def _shades(cells: NDArray[np.str_], values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The colour of each cell (R, C, 3): walls dark, floor by its value (R, C), white where that is NaN."""
    lowest = min(LOWEST, np.nan_to_num(values).min())
    share = np.clip((values - lowest) / (HIGHEST - lowest), 0, 1)[..., None]  # (R, C, 1)
    shades = np.where(np.isnan(share), 255, PALE + share * (DEEP - PALE))  # (R, C, 3)
    shades[cells == "X"] = ImageColor.getrgb(WALL)
    return shades.astype(np.uint8)


def _overview(cells: NDArray[np.str_], shades: NDArray[np.uint8], mouse: int | None, size: int) -> Image.Image:
    """A maze of tiny cells: shades, and a dot each for the cheese and the mouse, large enough to be seen."""
    image = Image.fromarray(shades.repeat(size, axis=0).repeat(size, axis=1))
    pen, radius = ImageDraw.Draw(image), max(size, max(image.size) // 80)
    places = [(state, CHEESE) for state in np.flatnonzero(cells == "G").tolist()] + [(mouse, MOUSE_DOT)]
    for state, color in places:
        if state is not None:
            row, column = divmod(state, cells.shape[1])
            middle = (column + 0.5) * size, (row + 0.5) * size
            pen.circle(middle, radius, fill=color, outline=EYE)
    return image


def _write_numbers(image: Image.Image, values: NDArray[np.float64], size: int) -> None:
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=size // 6)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            pen.text((column * size + 5, row * size + 4), f"{value:.2f}", fill=TEXT, font=font)


@dataclass(frozen=True)
class _Box:
    """One cell of the picture: `top`, `left` and `size` in pixels; shapes take shares of the cell, (down, right)."""

    pen: ImageDraw.ImageDraw
    top: float
    left: float
    size: float

    def at(self, down: float, right: float) -> tuple[float, float]:
        return self.left + right * self.size, self.top + down * self.size

    def circle(self, down: float, right: float, radius: float, color: str) -> None:
        self.pen.ellipse((self.at(down - radius, right - radius), self.at(down + radius, right + radius)), fill=color)

    def fill(self, color: tuple[int, ...]) -> None:
        outline = GRID if self.size >= 8 * FINE else None
        corners = (self.at(0, 0), (self.left + self.size - 1, self.top + self.size - 1))
        self.pen.rectangle(corners, fill=color, outline=outline, width=FINE)

    def arrows(self, actions: Sequence[int]) -> None:
        tail = -0.18 if len(actions) == 1 else 0.0  # one arrow sits in the middle, several spread from there
        for action in actions:
            self.arrow(*DIRECTIONS[action], tail)

    def arrow(self, down: int, right: int, tail: float) -> None:
        def point(along: float, across: float) -> tuple[float, float]:
            return self.at(0.5 + along * down + across * right, 0.5 + along * right + across * down)

        self.pen.line((point(tail, 0), point(tail + 0.22, 0)), fill=ARROW, width=max(round(self.size * 0.06), 1))
        self.pen.polygon((point(tail + 0.36, 0), point(tail + 0.2, 0.11), point(tail + 0.2, -0.11)), fill=ARROW)

    def cheese(self) -> None:
        self.pen.polygon((self.at(0.28, 0.78), self.at(0.55, 0.14), self.at(0.55, 0.86)), fill=CHEESE_HOLE)
        self.pen.rectangle((self.at(0.55, 0.14), self.at(0.8, 0.86)), fill=CHEESE)
        for down, right, radius in ((0.68, 0.34, 0.07), (0.64, 0.6, 0.05), (0.73, 0.72, 0.04)):
            self.circle(down, right, radius, CHEESE_HOLE)

    def mouse(self) -> None:
        for right in (0.27, 0.73):
            self.circle(0.3, right, 0.16, FUR)
            self.circle(0.3, right, 0.1, EAR)
        self.circle(0.55, 0.5, 0.28, FUR)
        for right in (0.4, 0.6):
            self.circle(0.5, right, 0.04, EYE)
        self.circle(0.68, 0.5, 0.05, EAR)


@dataclass(frozen=True)
class Replay:
    """One panel of the animation: a walk, and what the agent believed when it took it."""

    title: str
    states: Sequence[int]  # (steps + 1,)
    rewards: Sequence[float]  # (steps,)
    q_values: NDArray[np.float64]  # (S, A), NaN where unvisited


def animate(cells: NDArray[np.str_], replays: Sequence[Replay]) -> list[Image.Image]:
    """Frames that show `replays` side by side, step by step; a walk that is over stands still at its end."""
    longest = max(len(replay.states) for replay in replays)
    stride = -(-longest // MOST_FRAMES)  # rounded up
    steps = [*range(0, longest - 1, stride), longest - 1]
    return [side_by_side([_panel(cells, replay, step) for replay in replays]) for step in steps]


def _panel(cells: NDArray[np.str_], replay: Replay, step: int) -> Image.Image:
    step = min(step, len(replay.rewards))
    maze = draw_maze(cells, replay.states[step], replay.q_values, fitting_cell_size(cells, PANEL_WIDTH, largest=72))
    maze.thumbnail((2 * PANEL_WIDTH, 2 * PANEL_WIDTH))
    return _titled(maze, f"{replay.title}   step {step}   reward {sum(replay.rewards[:step]):+.0f}")


def _titled(maze: Image.Image, title: str) -> Image.Image:
    """`maze` in the middle of a panel that is wide enough for `title`."""
    panel = Image.new("RGB", (max(maze.width, PANEL_WIDTH), maze.height), FLOOR)
    panel.paste(maze, ((panel.width - maze.width) // 2, 0))
    return captioned(panel, title)


def draw_policies(cells: NDArray[np.str_], titled_q_values: Mapping[str, NDArray[np.float64]]) -> Image.Image:
    """The policies of several tables of Q-values, title to (S, A), side by side with their values."""
    size = fitting_cell_size(cells, pixels=512, largest=100)
    mazes = [(title, draw_maze(cells, None, q, size, numbers=True)) for title, q in titled_q_values.items()]
    return side_by_side([_titled(maze, title) for title, maze in mazes], gap=16)
