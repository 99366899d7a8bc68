"""Mazes as text: checking, reading, random mazes; and the geometry that the other files build on.

A layout is a rectangle of the characters `S` (start), `.` (floor), `X` (wall) and `G` (goal), one string per row. Cells
are named (row, column), both counted from 0; cell (row, column) is state row * columns + column.
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
    """Return the characters of `layout` as an array (R, C).

    Raises UserError, naming the row or cell, unless all rows have the same length, every character is known, and there
    is exactly one start and at least one goal.
    """
    if not any(layout):
        raise UserError("the maze is empty; give at least one row with a start S and a goal G")
    for row, text in enumerate(layout):
        if len(text) != len(layout[0]):
            raise UserError(f"row {row} has {len(text)} cells, row 0 has {len(layout[0])}; make all rows equally long")
    cells = np.array([list(text) for text in layout])  # (R, C)
    for row, column in np.argwhere(~np.isin(cells, list("S.XG"))):
        character = str(cells[row, column])
        raise UserError(f"cell ({row}, {column}) is {character!r}; use S (start), . (floor), X (wall) or G (goal)")
    starts = [(int(row), int(column)) for row, column in np.argwhere(cells == "S")]
    if not starts:
        raise UserError("the maze has no start; mark one cell S")
    if len(starts) > 1:
        raise UserError(f"the maze has {len(starts)} starts, at {starts[0]}, {starts[1]}, ...; mark one cell S")
    if not (cells == "G").any():
        raise UserError("the maze has no goal; mark at least one cell G")
    return cells


def read_maze(path: Path) -> list[str]:
    """Return the layout in a text file, one row per line; empty lines at the end are ignored.

    Raises UserError, naming the file, if `parse_layout` does; OSError if the file cannot be read.
    """
    lines = read_text(path).rstrip().split("\n")
    layout = [line.rstrip() for line in lines]
    try:
        parse_layout(layout)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return layout


def successor_table(walls: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the next state of each action in each state, (S, A), for `walls` (R, C).

    A move into a wall or off the grid leads back to the same state.
    """
    states = np.arange(walls.size).reshape(walls.shape)  # (S,) -> (R, C)
    padded = np.pad(states, 1, mode="edge")  # (R + 2, C + 2): beyond the border is the border cell itself
    up = padded[:-2, 1:-1]  # (R, C)
    right = padded[1:-1, 2:]  # (R, C)
    down = padded[2:, 1:-1]  # (R, C)
    left = padded[1:-1, :-2]  # (R, C)
    neighbors = np.stack([up, right, down, left], axis=-1).reshape(-1, 4)  # (R, C, A) -> (S, A)
    into_wall = walls.ravel()[neighbors]  # (S, A)
    return np.where(into_wall, states.reshape(-1, 1), neighbors)  # (S, A)


def distances_from(
    starts: Sequence[int],
    successors: NDArray[np.int64],
    goals: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return the fewest moves from the nearest of `starts` to each state, (S,), by breadth-first search.

    -1 for states that cannot be reached. The search reaches `goals` (S,) but does not go past them, because an episode
    ends there.
    """
    distances = np.full(len(successors), -1)
    distances[starts] = 0
    queue = deque(starts)
    while queue:
        state = queue.popleft()
        if goals[state]:
            continue
        for successor in successors[state].tolist():
            if distances[successor] < 0:
                distances[successor] = distances[state] + 1
                queue.append(successor)
    return distances


def random_maze(rows: int, columns: int, seed: int, openings: float = 0.1) -> list[str]:
    """Return the layout of a random maze, always solvable; the goal is the cell farthest from the start.

    Corridors grow depth first from the start, top left: a cell opens if it touches exactly one open cell, which keeps
    them a tree. Then each wall is removed with probability `openings`, which makes loops: there is more than one path,
    and "shortest" means something. Takes time linear in the area.

    Raises UserError for fewer than two cells, or `openings` outside [0, 1].
    """
    if min(rows, columns) < 1 or rows * columns < 2:
        raise UserError(
            f"a maze of {rows} x {columns} cells cannot hold a start and a goal; it needs two cells or more"
        )
    if not 0 <= openings <= 1:
        raise UserError(f"openings is {openings}; it must lie in [0, 1]")
    generator = random.Random(seed)
    # grow the corridors
    neighbors = successor_table(np.zeros((rows, columns), dtype=bool))  # (S, A)
    opened = bytearray(rows * columns)  # (S,), 1 where open: faster to index than an array
    stack = [0]  # an explicit stack, since recursion would end at a depth of 1,000
    while stack:
        cell = stack.pop()
        if opened[cell]:
            continue
        adjacent = neighbors[cell].tolist()
        n_open = sum([opened[neighbor] for neighbor in adjacent])
        if n_open == 1 or cell == 0:
            opened[cell] = 1
            generator.shuffle(adjacent)
            stack += adjacent
    # remove some of the walls
    is_open = np.array([cell == 1 or generator.random() < openings for cell in opened])  # (S,)
    # put the goal where the path from the start is longest
    successors = successor_table(~is_open.reshape(rows, columns))  # (S, A)
    distances = distances_from([0], successors, goals=np.zeros_like(is_open))  # (S,)
    cells = np.where(is_open, ".", "X")  # (S,)
    cells[0] = "S"
    cells[distances.argmax()] = "G"
    return ["".join(row) for row in cells.reshape(rows, columns)]  # (S,) -> (R, C)
