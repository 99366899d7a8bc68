"""The maze pane: its numbers are those of `q_learning_agent.train`, whatever the page wants meanwhile."""

import contextlib
import inspect
import json
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from own_answers import answer
from play_browser import WatchedPage, browser, server, violations, wait_until, watched  # noqa: F401 - fixtures

from lab.errors import UserError
from lab.play import maze_job
from lab.play.maze_job import MAX_POINTS, Curve
from lab.play.messages import MESSAGES, BadMessage, parse
from lab.play.worker import Control, Replaced
from maze_env import SimpleMaze
from maze_layout import DEFAULT_LAYOUT, random_maze
from q_learning_agent import QLearningAgent, train
from value_iteration import value_iteration

MAZE = list(DEFAULT_LAYOUT)
AGENT = {"learning_rate": 0.5, "discount": 0.95, "epsilon": 1.0, "epsilon_decay": 0.98}
STEP = {"do": "step"}
END = {"do": "start"}  # another job: ends this one


class Page:
    """The other end of the job's connection: sends messages when the job waits, and keeps the frames."""

    def __init__(self, messages: Sequence[dict[str, Any]] = (), when_running: Callable[[int], Any] | None = None) -> None:
        """`when_running`: the number of the poll -> a message to send then, or None."""
        self.messages = deque(messages)
        self.when_running = when_running or (lambda poll: None)
        self.polls = 0
        self.arrived: deque[Any] = deque()
        self.frames: list[dict[str, Any]] = []

    def poll(self, wait: float | None) -> bool:
        """Return True if a message has arrived."""
        if wait is None:
            self.arrived.append(self.messages.popleft() if self.messages else END)
        else:
            self.polls += 1
            time.sleep(min(wait, 0.01))
            message = self.when_running(self.polls)
            self.arrived += [message] if message else []
        return bool(self.arrived)

    def recv(self) -> dict[str, Any]:
        """Return the message that has arrived."""
        return {"pane": "maze", **self.arrived.popleft()}

    def send(self, sent: tuple[str, str]) -> None:
        """Keep a frame."""
        assert sent[0] in ("maze state", "maze random")
        self.frames.append(json.loads(sent[1]))


def run(page: Page, own_files: Sequence[Path] = (), **changes: Any) -> list[dict[str, Any]]:
    """Run the job until the page wants another one; return its frames."""
    message = {"layout": MAZE, "seed": 3, "running": False, "steps_per_second": 5000, "slip": 0.0, **AGENT, **changes}
    control: Any = Control(page, own_files)  # pyright: ignore[reportArgumentType]
    with pytest.raises(Replaced):
        maze_job.run(control, message)
    return page.frames


class Enough(Exception):
    """Ends a training."""


class Limited(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that ends the training after some steps."""

    def __init__(self, env: Any, steps: int) -> None:
        super().__init__(env)
        self.left = steps

    def step(self, action: Any) -> Any:
        """Take a step. Raises Enough."""
        if self.left == 0:
            raise Enough
        self.left -= 1
        return self.env.step(action)


def trained(steps: int, slip: float = 0.0, layout: Sequence[str] = MAZE) -> tuple[list[list[float]], list[Any]]:
    """Return the Q-values, (S, A), and the records of the episodes of so many steps of training, without the page."""
    maze = SimpleMaze(layout, slip=slip)
    agent = QLearningAgent(4, **AGENT, seed=3)
    records = []
    with contextlib.suppress(Enough):
        for record in train(agent, Limited(TimeLimit(maze, 100), steps), 10**6, 3):
            records.append(record)
    return [agent.q_values(state) for state in range(maze.cells.size)], records


# --- the job, in this process -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slip", [0.0, 0.2])
def test_every_single_step_is_that_of_the_training(slip: float) -> None:
    frames = run(Page([STEP] * 150), slip=slip)
    assert [frame["step"] for frame in frames[1:]] == list(range(151))
    for frame in (frames[2], frames[60], frames[-1]):
        q, records = trained(frame["step"], slip)
        np.testing.assert_allclose(frame["q"], q, atol=1e-7, rtol=0)
        assert frame["episode"] == len(records)
    assert records[-1].length == frames[-1]["length"]
    assert np.abs(frames[-1]["q"]).max() > 1


def test_frames_of_a_running_training_are_complete_and_equal_to_the_training() -> None:
    frames = run(Page(when_running=lambda poll: END if poll == 3000 else None), running=True)
    assert len(frames) > 10
    assert frames[-1]["step"] > 1000
    for frame in frames[:: len(frames) // 6]:
        q, records = trained(frame["step"])
        np.testing.assert_allclose(frame["q"], q, atol=1e-7, rtol=0)
        assert frame["curve"] == [[record.number, record.total_reward] for record in records]
        assert frame["is_running"] is True


def test_pause_takes_no_further_step() -> None:
    page = Page([STEP], when_running=lambda poll: {"do": "pause"} if poll == 5 else None)
    frames = run(page, running=True, steps_per_second=1)
    assert page.polls >= 5  # it had waited for the second step
    paused = [frame["step"] for frame in frames if not frame["is_running"]]
    assert paused == [1, 2]  # the second by the message


def test_step_while_it_runs_takes_one_step_and_pauses() -> None:
    frames = run(Page(when_running=lambda poll: STEP if poll == 5 else None), running=True, steps_per_second=1)
    assert [frame["step"] for frame in frames if not frame["is_running"]] == [2]


def test_resume_and_speed() -> None:
    page = Page([{"do": "resume"}], lambda poll: {10: {"do": "speed", "steps_per_second": 5000}, 400: END}.get(poll))
    frames = run(page, steps_per_second=1)
    assert frames[-1]["step"] > 50
    assert frames[-1]["is_running"] is True


def test_a_maze_that_changes_keeps_what_was_learned() -> None:
    changed = ["S.X.", ".X..", "..X.", "...G"]
    layout = {"do": "layout", "layout": changed}
    frames = run(Page([*[STEP] * 50, layout, *[STEP] * 50]))
    before, after = frames[51], frames[52]
    assert (before["layout"], after["layout"]) == (MAZE, changed)
    assert before["q"] == after["q"]
    assert all(frame["state"] != 2 for frame in frames[53:])  # the new wall
    same = run(Page([*[STEP] * 50, {"do": "layout", "layout": MAZE}, *[STEP] * 50]))
    np.testing.assert_allclose(same[-1]["q"], trained(100)[0], atol=1e-7, rtol=0)  # the random numbers went on


def test_a_mouse_in_a_new_wall_starts_again() -> None:
    frames = run(Page([*[STEP] * 100]))
    place = next(number for number, frame in enumerate(frames) if frame["state"] == 4)
    wall = {"do": "layout", "layout": ["S...", "XX..", "..X.", "...G"]}
    frames = run(Page([*[STEP] * (place - 1), wall, STEP, STEP]))
    assert [frame["state"] for frame in frames[-3:]][:2] == [4, 0]
    assert frames[-1]["episode"] == frames[place]["episode"] + 1
    assert frames[-1]["reached_goal"] is False


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        (["S.X.", "XX..", "..X.", "...G"], r"no path .*\(row 1, column 1\) .*\(row 4, column 4\).*Learning waits"),
        (["....", ".X..", "..X.", "...G"], "no start"),
        (["S...", ".X..", "..X.", "...."], "no goal"),
        (["S..", ".X.", "..G"], "another size"),
    ],
)
def test_learning_waits_until_the_maze_is_mended(layout: list[str], problem: str) -> None:
    frames = run(Page([STEP, {"do": "layout", "layout": layout}, STEP, STEP, {"do": "layout", "layout": MAZE}]))
    broken = [frame for frame in frames if frame["problem"]]
    assert len(broken) == 3
    for frame in broken:
        assert frame["step"] == 1
        assert re.search(problem, frame["problem"])
    assert frames[-1]["step"] == 3  # the steps that were asked for
    np.testing.assert_allclose(frames[-1]["q"], trained(3)[0], atol=1e-7, rtol=0)


def test_a_maze_without_a_way_at_the_start_is_one_line() -> None:
    with pytest.raises(UserError, match=r"\(row 1, column 1\) to a goal \(the first is at \(row 1, column 3\)\)"):
        run(Page(), layout=["SXG"])


def test_settings_change_the_agent_and_not_its_epsilon() -> None:
    settings = {"do": "settings", "learning_rate": 0.1, "discount": 0.5, "epsilon_decay": 0.9, "slip": 0.0}
    frames = run(Page([*[STEP] * 120, settings, *[STEP] * 30, {"do": "epsilon", "epsilon": 0.01}]))
    assert frames[122]["epsilon"] == frames[121]["epsilon"] < 1
    assert frames[-1]["epsilon"] == 0.01
    unchanged = run(Page([STEP] * 150))
    assert frames[121]["q"] == unchanged[121]["q"]
    assert frames[-1]["q"] != unchanged[-1]["q"]


def test_the_optimum_is_that_of_the_maze_as_it_is() -> None:
    changed = ["S.X.", ".X..", "..X.", "...G"]
    settings = {"do": "settings", "learning_rate": 0.5, "discount": 0.8, "epsilon_decay": 0.98, "slip": 0.1}
    show, hide = {"do": "optimum", "optimum": True}, {"do": "optimum", "optimum": False}
    frames = run(Page([show, {"do": "layout", "layout": changed}, settings, hide]))
    expected = [(MAZE, 0.0, 0.95), (changed, 0.0, 0.95), (changed, 0.1, 0.8)]
    for frame, (layout, slip, discount) in zip(frames[2:5], expected, strict=True):
        exact = value_iteration(SimpleMaze(layout, slip=slip).outcomes(), discount)
        np.testing.assert_allclose(frame["optimum"], exact, atol=1e-6)
    assert frames[1]["optimum"] is frames[5]["optimum"] is None


def test_a_curve_stays_small_and_its_points_are_means() -> None:
    returns = np.random.default_rng(0).normal(size=5000)
    curve = Curve()
    for number, each in enumerate(returns, 1):
        curve.add(number, each)
        assert len(curve.all_points()) <= MAX_POINTS
    episodes, means = np.array(curve.all_points()).T
    size = curve.episodes_per_point
    assert size == 32
    assert len(means) == -(-5000 // size)
    for k in (0, 7, len(means) - 1):
        np.testing.assert_allclose(means[k], returns[k * size : (k + 1) * size].mean())
        np.testing.assert_allclose(episodes[k], np.arange(1, 5001)[k * size : (k + 1) * size].mean())


def test_a_random_maze_is_the_labs() -> None:
    page: Any = Page()
    maze_job.make_random(Control(page), {"rows": 9, "columns": 12, "seed": 5})
    assert page.frames == [{"pane": "maze", "kind": "random", "layout": random_maze(9, 12, 5)}]


@pytest.mark.parametrize("name", ["q_update", "td_target", "play_and_learn"])
def test_functions_of_a_learner_do_the_work(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text(answer(name), encoding="utf-8")
    frames = run(Page([STEP] * 120), [file])
    assert name in frames[0]["own_functions"][0]
    np.testing.assert_allclose(frames[-1]["q"], trained(120)[0], atol=1e-7, rtol=0)


def test_a_wrong_function_of_a_learner_shows(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        "def q_update(q_table, state, action, target, alpha):\n    q_table[state, action] = 7.0\n\n\n"
        "def value_iteration(dynamics, gamma, tolerance):\n    return [[5.0] * 4 for _ in dynamics]\n\n\n"
        "def play_and_learn(env, agent):\n    env.reset()\n    agent.update(0, 1, 0.0, 1, False)\n"
        "    env.step(1)\n    return 42.0\n",
        encoding="utf-8",
    )
    frames = run(Page([{"do": "optimum", "optimum": True}, STEP]), [file])
    assert frames[-1]["q"][0] == [0, 7, 0, 0]
    assert frames[-1]["optimum"] == [[5.0] * 4] * 16


@pytest.mark.parametrize("change", [{"slip": 0.6}, {"learning_rate": 0}, {"epsilon_decay": "1"}, {"discount": True}, {"more": 1}])
def test_settings_outside_their_range_are_refused(change: dict[str, Any]) -> None:
    settings = {"pane": "maze", "do": "settings", "learning_rate": 0.5, "discount": 1, "epsilon_decay": 1, "slip": 0.5}
    assert parse(json.dumps(settings))["slip"] == 0.5
    with pytest.raises(BadMessage):
        parse(json.dumps({**settings, **change}))


def test_every_message_of_the_page_is_answered() -> None:
    source = inspect.getsource(maze_job.MazeJob.answer)
    assert {name for name in MESSAGES["maze"] if f'"{name}"' not in source} == {"start", "random"}
