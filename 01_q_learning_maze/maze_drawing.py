"""Images of a maze: the mouse, the cheese, and the agent's Q-values as colors, arrows and numbers."""

# R rows, C columns, S = R * C states, A = 4 actions

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from lab.animations import captioned, side_by_side

WALL, FLOOR, GRID, ARROW, TEXT = "#3b4252", "#ffffff", "#d8dee9", "#1d3557", "#41506b"
CHEESE, CHEESE_HOLE, FUR, EAR, EYE = "#f2c14e", "#d39f2a", "#8a8f99", "#e8b4b8", "#20242c"
MOUSE_DOT = "#d1495b"
LOW_COLOR, HIGH_COLOR = np.array([253, 246, 227]), np.array([116, 190, 150])  # red, green and blue
LOW_VALUE, HIGH_VALUE = -10.0, 10.0  # values of these colors; the low one is lower if there are lower values
MIN_DETAIL_SIZE = 8  # pixels; smaller cells show nothing but a color
SUPERSAMPLING = 3  # shapes are drawn this many times larger, then reduced, for smooth edges
DIRECTIONS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # row and column step of each action
PANEL_WIDTH = 288  # pixels of one panel of the animation, enough for its caption
MAX_FRAMES = 80  # longer trajectories skip steps, so that the file stays small


def q_array(
    q_table: Mapping[tuple[int, int], float],
    n_states: int,
    n_actions: int = 4,
) -> NDArray[np.float64]:
    """Return `q_table` as an array (S, A): 0 for untried actions, NaN in states where nothing was tried."""
    q = np.zeros((n_states, n_actions))  # (S, A)
    visited = np.zeros(n_states, dtype=bool)  # (S,)
    for (state, action), value in q_table.items():
        q[state, action] = value
        visited[state] = True
    q[~visited] = np.nan
    return q


def fitting_cell_size(cells: NDArray[np.str_], pixels: int, largest: int) -> int:
    """Return the pixels per cell with which the longer side of `cells` (R, C) takes about `pixels`."""
    return int(np.clip(pixels // max(cells.shape), 1, largest))


def draw_maze(
    cells: NDArray[np.str_],
    mouse: int | None = None,
    q_values: NDArray[np.float64] | None = None,
    cell_size: int | None = None,
    numbers: bool = False,
) -> Image.Image:
    """Return an image of the maze `cells` (R, C).

    Args:
        mouse: the state the mouse is in.
        q_values: (S, A); each state is colored by its best value, an arrow shows the best action (several if they tie),
            and states of NaN stay blank.
        cell_size: pixels per cell; None for a size that fits.
        numbers: write the best value into each cell.
    """
    size = cell_size or fitting_cell_size(cells, pixels=480, largest=64)
    large_size = size * SUPERSAMPLING
    n_rows, n_columns = cells.shape
    image = Image.new("RGB", (n_columns * large_size, n_rows * large_size), FLOOR)
    draw = ImageDraw.Draw(image)
    best = np.full(cells.size, np.nan) if q_values is None else q_values.max(axis=1)  # (S,)
    colors = _cell_colors(cells, best.reshape(cells.shape))  # (R, C, 3)
    if size < MIN_DETAIL_SIZE:
        return _overview(cells, colors, mouse, size)
    for state, character in enumerate(cells.flat):
        row, column = divmod(state, n_columns)
        box = _Box(draw, row * large_size, column * large_size, large_size)
        box.fill(tuple(colors[row, column].tolist()))
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


def _cell_colors(cells: NDArray[np.str_], values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the color of each cell (R, C, 3): walls dark, floor by its value (R, C), white where that is NaN."""
    lowest = min(LOW_VALUE, np.nan_to_num(values).min())
    position = np.clip((values - lowest) / (HIGH_VALUE - lowest), 0, 1)[..., None]  # (R, C, 1)
    mixed = LOW_COLOR + position * (HIGH_COLOR - LOW_COLOR)  # (R, C, 3)
    colors = np.where(np.isnan(position), 255, mixed)  # (R, C, 3)
    colors[cells == "X"] = ImageColor.getrgb(WALL)
    return colors.astype(np.uint8)


def _overview(cells: NDArray[np.str_], colors: NDArray[np.uint8], mouse: int | None, size: int) -> Image.Image:
    """Return an image of a maze of tiny cells: colors, and visible dots for the cheese and the mouse."""
    image = Image.fromarray(colors.repeat(size, axis=0).repeat(size, axis=1))
    draw = ImageDraw.Draw(image)
    radius = max(size, max(image.size) // 80)
    markers = [(state, CHEESE) for state in np.flatnonzero(cells == "G").tolist()]
    if mouse is not None:
        markers.append((mouse, MOUSE_DOT))
    for state, color in markers:
        row, column = divmod(state, cells.shape[1])
        center = (column + 0.5) * size, (row + 0.5) * size
        draw.circle(center, radius, fill=color, outline=EYE)
    return image


def _write_numbers(image: Image.Image, values: NDArray[np.float64], size: int) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=size // 6)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            draw.text((column * size + 5, row * size + 4), f"{value:.2f}", fill=TEXT, font=font)


@dataclass(frozen=True)
class _Box:
    """One cell of the image: `top`, `left` and `size` in pixels; shapes take fractions of the cell, (down, right)."""

    draw: ImageDraw.ImageDraw
    top: float
    left: float
    size: float

    def at(self, down: float, right: float) -> tuple[float, float]:
        return self.left + right * self.size, self.top + down * self.size

    def circle(self, down: float, right: float, radius: float, color: str) -> None:
        corners = (self.at(down - radius, right - radius), self.at(down + radius, right + radius))
        self.draw.ellipse(corners, fill=color)

    def fill(self, color: tuple[int, ...]) -> None:
        outline = GRID if self.size >= 8 * SUPERSAMPLING else None
        corners = (self.at(0, 0), (self.left + self.size - 1, self.top + self.size - 1))
        self.draw.rectangle(corners, fill=color, outline=outline, width=SUPERSAMPLING)

    def arrows(self, actions: Sequence[int]) -> None:
        tail = -0.18 if len(actions) == 1 else 0.0  # one arrow is centered, several start at the center
        for action in actions:
            self.arrow(*DIRECTIONS[action], tail)

    def arrow(self, down: int, right: int, tail: float) -> None:
        def point(along: float, across: float) -> tuple[float, float]:
            return self.at(0.5 + along * down + across * right, 0.5 + along * right + across * down)

        width = max(round(self.size * 0.06), 1)
        self.draw.line((point(tail, 0), point(tail + 0.22, 0)), fill=ARROW, width=width)
        head = (point(tail + 0.36, 0), point(tail + 0.2, 0.11), point(tail + 0.2, -0.11))
        self.draw.polygon(head, fill=ARROW)

    def cheese(self) -> None:
        self.draw.polygon((self.at(0.28, 0.78), self.at(0.55, 0.14), self.at(0.55, 0.86)), fill=CHEESE_HOLE)
        self.draw.rectangle((self.at(0.55, 0.14), self.at(0.8, 0.86)), fill=CHEESE)
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
class AnimationPanel:
    """One panel of the animation: a trajectory, and the Q-values of the agent that took it."""

    title: str
    states: Sequence[int]  # (steps + 1,)
    rewards: Sequence[float]  # (steps,)
    q_values: NDArray[np.float64]  # (S, A), NaN where unvisited


def animate(cells: NDArray[np.str_], panels: Sequence[AnimationPanel]) -> list[Image.Image]:
    """Return frames that show `panels` side by side, step by step; a trajectory that is over rests at its end."""
    longest = max(len(panel.states) for panel in panels)
    stride = -(-longest // MAX_FRAMES)  # rounded up
    steps = [*range(0, longest - 1, stride), longest - 1]
    return [side_by_side([_draw_panel(cells, panel, step) for panel in panels]) for step in steps]


def _draw_panel(cells: NDArray[np.str_], panel: AnimationPanel, step: int) -> Image.Image:
    step = min(step, len(panel.rewards))
    cell_size = fitting_cell_size(cells, PANEL_WIDTH, largest=72)
    maze = draw_maze(cells, panel.states[step], panel.q_values, cell_size)
    maze.thumbnail((2 * PANEL_WIDTH, 2 * PANEL_WIDTH))
    return _titled(maze, f"{panel.title}   step {step}   reward {sum(panel.rewards[:step]):+.0f}")


def _titled(maze: Image.Image, title: str) -> Image.Image:
    """Return `maze`, centered in an image that is wide enough for `title`, under that title."""
    canvas = Image.new("RGB", (max(maze.width, PANEL_WIDTH), maze.height), FLOOR)
    canvas.paste(maze, ((canvas.width - maze.width) // 2, 0))
    return captioned(canvas, title)


def draw_policies(cells: NDArray[np.str_], q_values_by_title: Mapping[str, NDArray[np.float64]]) -> Image.Image:
    """Return an image of the policies and values of several Q-tables, title to (S, A), side by side."""
    size = fitting_cell_size(cells, pixels=512, largest=100)
    images: list[Image.Image] = []
    for title, q_values in q_values_by_title.items():
        maze = draw_maze(cells, None, q_values, size, numbers=True)
        images.append(_titled(maze, title))
    return side_by_side(images, gap=16)
