"""Mazes as text: checking and reading them, making random ones, and the geometry every other file builds on.

A layout is a rectangle of the characters `S` (start), `.` (floor), `X` (wall) and `G` (goal), one string a row. Cells
are named (row, column), both counted from 0; cell (row, column) is state number row * columns + column.
"""

# R rows, C columns, S = R * C states, A = 4 actions

import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.errors import UserError
from lab.files import read_text

DEFAULT_LAYOUT = ("S...", ".X..", "..X.", "...G")


def parse_layout(layout: Sequence[str]) -> NDArray[np.str_]:
    """The characters of `layout` as an array (R, C).

    Raises UserError, naming the place, unless the rows are of one length, every character is known, and there is
    exactly one start and at least one goal.
    """
    if not layout or not layout[0]:
        raise UserError("the maze is empty; give at least one row with a start S and a goal G")
    for row, text in enumerate(layout):
        if len(text) != len(layout[0]):
            raise UserError(f"row {row} has {len(text)} cells, row 0 has {len(layout[0])}; make all rows equally long")
    cells = np.array([list(text) for text in layout])  # (R, C)
    for row, column in np.argwhere(~np.isin(cells, list("S.XG"))):
        found = str(cells[row, column])
        raise UserError(f"cell ({row}, {column}) is {found!r}; use S (start), . (floor), X (wall) or G (goal)")
    starts = [(int(row), int(column)) for row, column in np.argwhere(cells == "S")]
    if not starts:
        raise UserError("the maze has no start; mark one cell S")
    if len(starts) > 1:
        raise UserError(f"the maze has {len(starts)} starts, at {starts[0]}, {starts[1]}, ...; mark one cell S")
    if not (cells == "G").any():
        raise UserError("the maze has no goal; mark at least one cell G")
    return cells


def read_maze(path: Path) -> list[str]:
    """The layout in a text file, a line a row; empty lines at the end are ignored.

    Raises UserError, naming the file, for what `parse_layout` refuses; OSError if the file cannot be read.
    """
    layout = read_text(path).rstrip().split("\n")
    layout = [line.rstrip() for line in layout]
    try:
        parse_layout(layout)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return layout


def successor_table(walls: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where each action leads from each state, (S, A), for `walls` (R, C); into a wall or off the grid stays put."""
    states = np.arange(walls.size).reshape(walls.shape)  # (R, C)
    padded = np.pad(states, 1, mode="edge")  # (R + 2, C + 2): beyond the border lies the border cell itself
    up, right, down, left = padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]
    neighbours = np.stack([up, right, down, left], axis=-1).reshape(-1, 4)  # (S, A)
    return np.where(walls.ravel()[neighbours], states.reshape(-1, 1), neighbours)  # (S, A)


def distances_from(starts: Sequence[int], successors: NDArray[np.int64], goals: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Fewest moves from the nearest of `starts` to each state, (S,), by breadth-first search.

    -1 where the mouse never comes. Goals (S,) are reached but not passed through, because an episode ends there.
    """
    distances = np.full(len(successors), -1)
    distances[starts] = 0
    queue = deque(starts)
    while queue:
        state = queue.popleft()
        if goals[state]:
            continue
        for neighbour in successors[state].tolist():
            if distances[neighbour] < 0:
                distances[neighbour] = distances[state] + 1
                queue.append(neighbour)
    return distances


def random_maze(rows: int, columns: int, seed: int, openings: float = 0.1) -> list[str]:
    """A random maze that can always be solved, made in time linear in its area; the goal lies farthest from the start.

    Corridors grow depth first from the start, top left: a cell opens if it touches exactly one open cell, which keeps
    them a tree. Then each wall falls with probability `openings`, which closes loops: there is more than one way, and
    "shortest" means something.

    Raises UserError for fewer than two cells, or `openings` outside [0, 1].
    """
    if min(rows, columns) < 1 or rows * columns < 2:
        raise UserError(
            f"a maze of {rows} x {columns} cells cannot hold a start and a goal; it needs two cells or more"
        )
    if not 0 <= openings <= 1:
        raise UserError(f"openings is {openings}; it must lie in [0, 1]")
    generator = random.Random(seed)
    neighbours = successor_table(np.zeros((rows, columns), dtype=bool))  # (S, A)
    opened = bytearray(rows * columns)  # (S,), 1 where open: quicker to look into than an array
    stack = [0]  # a stack of our own: recursion would end at a depth of 1,000
    while stack:
        cell = stack.pop()
        around = neighbours[cell].tolist()
        if not opened[cell] and (cell == 0 or sum([opened[neighbour] for neighbour in around]) == 1):
            opened[cell] = 1
            generator.shuffle(around)
            stack += around
    is_open = np.array([cell == 1 or generator.random() < openings for cell in opened])  # (S,)
    distances = distances_from([0], successor_table(~is_open.reshape(rows, columns)), np.zeros_like(is_open))  # (S,)
    cells = np.where(is_open, ".", "X")
    cells[0], cells[distances.argmax()] = "S", "G"
    return ["".join(row) for row in cells.reshape(rows, columns)]
