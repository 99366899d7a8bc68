"""The maze: the Gymnasium API, its dynamics, its layouts and invalid arguments."""

import importlib.util
import time
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import maze_env
from lab.errors import UserError
from maze_drawing import draw_maze
from maze_env import DOWN, LEFT, RIGHT, UP, SimpleMaze
from maze_layout import random_maze, read_maze
from value_iteration import as_arrays, value_iteration


def test_both_environment_checkers_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maze_env.time, "sleep", lambda seconds: None)  # the checker draws in "human" mode too
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("SimpleMaze-v0", slip=0.3).unwrapped)
        check_env_sb3(SimpleMaze(slip=0.3))


def test_default_maze_follows_its_manual() -> None:
    env = SimpleMaze()
    assert env.reset(seed=0)[0] == 0
    expected = [(UP, 0, -1), (LEFT, 0, -1), (DOWN, 4, -1), (RIGHT, 4, -1), (DOWN, 8, -1), (DOWN, 12, -1)]
    expected += [(DOWN, 12, -1), (RIGHT, 13, -1), (RIGHT, 14, -1), (UP, 14, -1)]  # bumps into border and both walls
    for action, state, reward in expected:
        assert env.step(action)[:4] == (state, reward, False, False)
    assert env.step(RIGHT)[:4] == (15, 10, True, False)


def test_registered_time_limit_truncates_and_does_not_terminate() -> None:
    env = gym.make("SimpleMaze-v0")
    env.reset(seed=0)
    ends = [env.step(UP)[2:4] for _ in range(100)]
    assert ends == [(False, False)] * 99 + [(False, True)]


def test_second_import_under_another_name_does_not_warn() -> None:
    spec = importlib.util.spec_from_file_location("maze_env_again", maze_env.__file__)
    assert spec is not None
    assert spec.loader is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@given(st.integers(1, 6), st.integers(2, 6), st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_probabilities_add_up_and_only_goals_terminate(rows: int, columns: int, seed: int, slip: float) -> None:
    env = SimpleMaze(random_maze(rows, columns, seed), slip=slip)
    assert len(env.P) == rows * columns
    for state in env.P:
        for outcomes in env.P[state].values():
            assert sum(probability for probability, *_ in outcomes) == pytest.approx(1)
            for probability, next_state, reward, terminated in outcomes:
                assert probability > 0
                if env.is_absorbing[state]:
                    assert (next_state, reward, terminated) == (state, 0, True)
                else:
                    assert env.cells.flat[next_state] != "X"
                    assert terminated == bool(env.is_goal[next_state])
                    assert reward == (10 if terminated else -1)


@given(st.integers(1, 6), st.integers(2, 6), st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_arrays_of_outcomes_equal_the_dynamics(rows: int, columns: int, seed: int, slip: float) -> None:
    env = SimpleMaze(random_maze(rows, columns, seed), slip=slip)
    assert np.array_equal(env.outcomes(), as_arrays(env.P))


@given(st.integers(1, 7), st.integers(2, 7), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_values_by_breadth_first_search_equal_value_iteration(rows: int, columns: int, seed: int) -> None:
    for maze in (SimpleMaze(random_maze(rows, columns, seed)), SimpleMaze(["G..S.X.", "..XG.X."])):
        assert np.array_equal(maze.shortest_path_values(), value_iteration(maze.P, 1.0))


def test_values_by_breadth_first_search_refuse_slip() -> None:
    with pytest.raises(UserError, match=r"slip is 0\.1"):
        SimpleMaze(slip=0.1).shortest_path_values()


def test_slip_goes_to_the_two_sides_and_never_back() -> None:
    env = SimpleMaze([".....", "..S..", "....G"], slip=0.3)
    probabilities = {next_state: probability for probability, next_state, *_ in env.P[env.start][UP]}
    assert probabilities == pytest.approx({2: 0.7, 6: 0.15, 8: 0.15})


def test_steps_follow_the_stated_probabilities() -> None:
    env = SimpleMaze([".....", "..S..", "....G"], slip=0.3)
    env.reset(seed=1)
    counts: dict[int, int] = {}
    for _ in range(6000):
        env.state = env.start
        state, *_, info = env.step(UP)
        counts[state] = counts.get(state, 0) + 1
        assert info["prob"] == pytest.approx(0.7 if state == 2 else 0.15)
    # four standard deviations of a frequency in 6,000 draws are 0.024 at most
    assert {state: count / 6000 for state, count in counts.items()} == pytest.approx(
        {2: 0.7, 6: 0.15, 8: 0.15}, abs=0.024
    )


def test_equal_seeds_give_equal_trajectories() -> None:
    trajectories = []
    for _ in range(2):
        env = SimpleMaze(slip=0.5)
        env.reset(seed=7)
        trajectories.append([env.step(DOWN)[0] for _ in range(30)])
    assert trajectories[0] == trajectories[1]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ([], "empty"),
        ([""], "empty"),
        (["S.", "."], "row 1 has 1 cells, row 0 has 2"),
        (["S.", "?G"], r"cell \(1, 0\) is '\?'"),
        (["..", ".G"], "no start"),
        (["S.", "SG"], r"2 starts, at \(0, 0\), \(1, 0\)"),
        (["S.", ".."], "no goal"),
        (["SX", "XG"], r"no path leads from the start \(0, 0\) to a goal \(the first is at \(1, 1\)\)"),
    ],
)
def test_an_invalid_maze_is_refused_and_the_cell_is_named(layout: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SimpleMaze(layout)


@pytest.mark.parametrize("slip", [-0.1, 1.1, float("nan")])
def test_slip_must_be_a_probability(slip: float) -> None:
    with pytest.raises(ValueError, match=f"slip is {slip}"):
        SimpleMaze(slip=slip)


def test_unknown_actions_and_render_modes_are_refused() -> None:
    for action in (-1, 4, 1.7, float("nan")):
        with pytest.raises(UserError, match=f"action is {action}"):
            SimpleMaze().step(action)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="'3d'"):
        SimpleMaze(render_mode="3d")


@pytest.mark.parametrize(
    ("layout", "length"),
    [(["SG"], 1), (["S", "G"], 1), (["S" + "." * 48 + "G"], 49), (["G..S.G"], 2), (["SX.", "..G"], 3), (["SGG"], 1)],
)
def test_small_and_narrow_mazes(layout: list[str], length: int) -> None:
    assert SimpleMaze(layout).shortest_path_length == length


def test_cells_that_the_mouse_cannot_reach_are_absorbing() -> None:
    env = SimpleMaze(["SG.", "XXX", "..."])  # one cell behind the goal, three behind walls
    assert env.is_absorbing.tolist() == [False] + [True] * 8


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 999), st.sampled_from([0.0, 0.1, 1.0]))
@settings(max_examples=60, deadline=None)
def test_random_mazes_are_solvable_and_reproducible(rows: int, columns: int, seed: int, openings: float) -> None:
    if rows * columns == 1:
        with pytest.raises(UserError, match="two cells or more"):
            random_maze(rows, columns, seed, openings)
        return
    layout = random_maze(rows, columns, seed, openings)
    assert SimpleMaze(layout).cells.shape == (rows, columns)  # raises if it cannot be solved
    assert layout == random_maze(rows, columns, seed, openings)


def test_different_seeds_give_different_mazes_with_walls() -> None:
    mazes = {"".join(random_maze(9, 9, seed)) for seed in range(20)}
    assert len(mazes) == 20
    assert all("X" in maze for maze in mazes)


def seconds_of_a_maze(size: int) -> float:
    """Return the processor time of everything that a maze of size x size cells needs."""
    start = time.process_time()
    env = SimpleMaze(random_maze(size, size, seed=0), slip=0.1)
    assert len(env.P) == size**2
    assert len(env.P[size**2 - 1][UP]) in (1, 3)
    assert env.outcomes().shape == (4, size**2, 4, 3)
    assert min(np.asarray(draw_maze(env.cells, mouse=env.start)).shape[:2]) >= size
    return time.process_time() - start


def test_the_time_for_a_large_maze_is_linear_in_its_cells() -> None:
    assert seconds_of_a_maze(1000) < 64 * seconds_of_a_maze(250)  # 16 times the cells; the square would be 256


def test_maze_files(tmp_path: Path) -> None:
    file = tmp_path / "maze.txt"
    file.write_bytes(b"S.X\r\n..G\r\n\r\n")
    assert read_maze(file) == ["S.X", "..G"]
    file.write_text("S.\n.\n")
    with pytest.raises(UserError, match=r"maze\.txt: row 1 has 1 cells"):
        read_maze(file)
    file.write_text("")
    with pytest.raises(UserError, match=r"maze\.txt: the maze is empty"):
        read_maze(file)


def test_text_shows_the_mouse() -> None:
    env = SimpleMaze(["S.X", "..G"], render_mode="ansi")
    env.reset()
    env.step(RIGHT)
    assert env.render() == "S M X\n. . G\n"


def test_human_mode_prints_every_step(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maze_env.time, "sleep", lambda seconds: None)
    env = SimpleMaze(["SG"], render_mode="human")
    env.reset()
    env.step(RIGHT)
    assert capsys.readouterr().out == "M G\n\nS M\n\n"


def test_image_changes_where_the_mouse_moves() -> None:
    env = SimpleMaze(["S.X", "..G"], render_mode="rgb_array")
    env.reset()
    before = env.render()
    env.step(RIGHT)
    after = env.render()
    assert isinstance(before, np.ndarray)
    assert isinstance(after, np.ndarray)
    assert (before.dtype, before.shape) == (np.uint8, (128, 192, 3))
    changed = (before != after).any(axis=(0, 2))  # (width,): columns of pixels
    assert changed[:64].any()
    assert changed[64:128].any()
    assert not changed[128:].any()
