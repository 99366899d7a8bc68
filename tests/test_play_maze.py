"""The maze pane: its numbers are those of `q_learning_agent.train`, whatever the page wants meanwhile."""

import contextlib
import inspect
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from own_answers import answer
from play_browser import WatchedPage, browser, running_server, server, violations, wait_until, watched  # noqa: F401 - fixtures

from lab.errors import UserError
from lab.exercises import own
from lab.files import ROOT
from lab.play import maze_job
from lab.play.maze_job import MAX_POINTS, Curve, WrittenValues
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

    def __init__(
        self, messages: Sequence[dict[str, Any]] = (), when_running: Callable[[int], Any] | None = None
    ) -> None:
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
    same = run(Page([*[STEP] * 50, {"do": "layout", "layout": MAZE}, *[STEP] * 50]), slip=0.4)
    np.testing.assert_allclose(same[-1]["q"], trained(100, 0.4)[0], atol=1e-7, rtol=0)  # the random numbers continue


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
        (["S.X.", "XX..", "..X.", "...G"], r"No path .*\(row 1, column 1\) .*\(row 4, column 4\).*Learning waits"),
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


def test_only_rows_that_changed_are_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counter()
    monkeypatch.setattr(maze_job, "to_json", lambda row: counted.update(["rows"]) or json.dumps(row))
    generator = np.random.default_rng(0)
    values, table, expected = WrittenValues(50, 4), {}, np.zeros((50, 4))
    for _ in range(20):
        counted.clear()
        states = generator.choice(50, 3, replace=False)
        for state in states:
            action, q = int(generator.integers(4)), float(generator.normal())
            table[int(state), action] = expected[state, action] = q
        np.testing.assert_allclose(json.loads(values.write(table)), expected, atol=1e-7, rtol=0)
        assert counted["rows"] == 3
    assert values.write(table) == values.write(table)
    assert counted["rows"] == 3
    table[0, 0] = float("nan")
    monkeypatch.undo()
    assert json.loads(values.write(table))[0][0] is None


def test_the_maze_waits_while_the_jobs_of_other_panes_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that comes back finds it paused, and what it learns from then on is what it would have learned."""
    others = []

    def other_job(control: Control, message: dict[str, Any]) -> None:
        others.append(message["number"])
        control.show("maze", "random")  # whatever it shows
        for _ in control.messages(None):
            pytest.fail("a message for the maze")

    monkeypatch.setattr("lab.play.worker.find_job", lambda message: other_job)
    leave = [{"pane": "arm", "do": "start", "number": number} for number in (1, 2)]
    back = {"do": "return", "layout": MAZE}
    page = Page([*[STEP] * 60, *leave, back, *[STEP] * 60, leave[0], back])
    frames = [frame for frame in run(page) if frame["kind"] == "state"]
    assert others == [1, 2, 1]
    assert [frame["step"] for frame in frames] == [0, *range(61), *[60] * 2, *range(61, 121), *[120] * 2]
    assert not any(frame["is_running"] for frame in frames)
    q, records = trained(120)
    np.testing.assert_allclose(frames[-1]["q"], q, atol=1e-7, rtol=0)
    assert frames[-1]["curve"] == [[record.number, record.total_reward] for record in records]


def test_a_running_maze_is_paused_when_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.play.worker.find_job", lambda message: lambda control, message: None)
    leave = {"pane": "transformer", "do": "classify"}
    page = Page([{"do": "return", "layout": MAZE}], lambda poll: leave if poll == 300 else None)
    frames = run(page, running=True)
    assert frames[-3]["is_running"]
    assert not frames[-2]["is_running"]
    assert frames[-2]["step"] > 10


def test_a_maze_that_was_changed_and_left_at_once_comes_back_as_it_is_drawn() -> None:
    changed = ["S.X.", ".X..", "..X.", "...G"]
    frames = run(Page([*[STEP] * 5, {"do": "return", "layout": changed}, STEP]))
    assert frames[-1]["layout"] == changed
    assert frames[-1]["step"] == 6


def test_problems_with_a_random_maze_are_sentences() -> None:
    with pytest.raises(UserError, match=r"^A maze of 1 x 1 cells .*\.$"):
        maze_job.make_random(Control(Page()), {"rows": 1, "columns": 1, "seed": 5})  # pyright: ignore[reportArgumentType]


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


def test_functions_of_a_learner_stay_in_use_while_another_script_runs(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.py" for name in ("q_update", "compute_gae")]
    for file in files:
        file.write_text(answer(file.stem), encoding="utf-8")
    maze, arm = own.script_at(ROOT / maze_job.SCRIPT), own.script_at(ROOT / "03_ppo_reacher/train.py")
    assert maze is not None
    assert arm is not None
    with maze.in_use(files[:1]):
        with arm.in_use(files[1:]):
            assert [each.name for each in own.IN_USE] == ["compute_gae"]
        assert [each.name for each in own.IN_USE] == ["q_update"]
    assert own.IN_USE == []


def test_a_wrong_function_of_a_learner_shows(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        "def q_update(q_table, state, action, target, alpha):\n    q_table[state, action] = 7.0\n\n\n"
        "def value_iteration(dynamics, gamma, tolerance):\n    return [[5.0] * 4 for _ in dynamics]\n\n\n"
        "def play_and_learn(env, agent):\n    env.reset()\n    agent.update(0, 1, 0.0, 1, False)\n"
        "    env.step(1)\n    return 42.0\n",
        encoding="utf-8",
    )
    frames = run(Page([{"do": "optimum", "optimum": True}, *[STEP] * 20]), [file])
    assert frames[-1]["q"] == [[0, 7, 0, 0], *[[0] * 4] * 15]
    assert frames[-1]["optimum"] == [[5.0] * 4] * 16


@pytest.mark.parametrize(
    "change", [{"slip": 0.6}, {"learning_rate": 0}, {"epsilon_decay": "1"}, {"discount": True}, {"more": 1}]
)
def test_settings_outside_their_range_are_refused(change: dict[str, Any]) -> None:
    settings = {"pane": "maze", "do": "settings", "learning_rate": 0.5, "discount": 1, "epsilon_decay": 1, "slip": 0.5}
    assert parse(json.dumps(settings))["slip"] == 0.5
    with pytest.raises(BadMessage):
        parse(json.dumps({**settings, **change}))


def test_every_message_of_the_page_is_answered() -> None:
    source = inspect.getsource(maze_job.MazeJob.answer)
    assert {name for name in MESSAGES["maze"] if f'"{name}"' not in source} == {"start", "random"}
    assert set(MESSAGES["maze"]["start"]) == set(MESSAGES["maze"]["return"])


# --- the pane, in Chromium --------------------------------------------------------------------------------------------


def cell(page: Any, row: int, column: int) -> Any:
    """Return the button of a cell, counted from 1."""
    return page.locator(f'#maze [role=gridcell][aria-label^="row {row}, column {column},"]')


def press(page: Any, name: str) -> None:
    """Click one of the pane's buttons."""
    page.locator("#maze").get_by_role("button", name=name, exact=True).click()


def fragment(page: Any) -> dict[str, str]:
    """Return the state in the address."""
    return dict(pair.split("=") for pair in page.evaluate("location.hash").partition("?")[2].split("&"))


def test_the_pane_begins_with_the_labs_maze_and_settings(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    kinds = {"S": "start", ".": "floor", "X": "wall", "G": "goal"}
    labels = watched.page.locator("#maze [role=gridcell]").evaluate_all("all => all.map(each => each.ariaLabel)")
    assert labels == [
        f"row {row}, column {column}, {kinds[kind]}"
        for row, cells in enumerate(MAZE, 1)
        for column, kind in enumerate(cells, 1)
    ]
    defaults = inspect.signature(QLearningAgent).parameters
    state = fragment(watched.page)
    assert {name: float(state[name]) for name in AGENT} == {name: defaults[name].default for name in AGENT}
    assert state["maze"] == "_".join(MAZE)
    assert watched.frame()["step"] == 0


def test_the_pane_shows_the_numbers_of_the_training(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze?seed=3&speed=1000")
    for steps in range(1, 6):
        press(watched.page, "Step")
        watched.wait_for(lambda frame, steps=steps: frame["step"] == steps)
    np.testing.assert_allclose(watched.frame()["q"], trained(5)[0], atol=1e-6, rtol=0)
    press(watched.page, "Start")
    watched.wait_for(lambda frame: frame["episode"] >= 60)
    press(watched.page, "Pause")
    frame = watched.wait_for(lambda frame: not frame["is_running"])
    q, records = trained(frame["step"])
    np.testing.assert_allclose(frame["q"], q, atol=1e-6, rtol=0)
    assert frame["episode"] == len(records)
    shown = [cell(watched.page, 4, column).inner_text() for column in (1, 2, 3)]
    assert shown == [f"→\n{max(q[state]):.2f}" for state in (12, 13, 14)]
    press(watched.page, "Reset")
    watched.wait_for(lambda frame: frame["step"] == 0 and not any(map(any, frame["q"])))
    wait_until(lambda: cell(watched.page, 4, 3).inner_text() == "")


def test_the_maze_is_drawn_by_keys_alone_while_it_learns(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    keys = watched.page.keyboard
    focused = "document.activeElement.ariaLabel ?? document.activeElement.textContent"
    while watched.page.evaluate(focused) != "Start":
        keys.press("Tab")
    keys.press("Enter")
    watched.wait_for(lambda frame: frame["is_running"])
    while not watched.page.evaluate(focused).startswith("row"):
        keys.press("Tab")
    for key in ("ArrowDown", "ArrowUp", "ArrowUp", "ArrowRight", "ArrowRight", "Space"):
        keys.press(key)
    assert watched.page.evaluate(focused) == "row 1, column 3, wall"
    for key in ("ArrowDown", "g", "End", "ArrowUp", "s", "ArrowLeft", "Space", "Tab"):
        keys.press(key)
    layout = ["...S", ".XG.", "..X.", "...G"]
    frame = watched.wait_for(lambda frame: frame["layout"] == layout)
    assert not watched.page.evaluate(focused).startswith("row")  # one stop of the tab key
    assert frame["step"] > 0
    assert frame["problem"] == ""
    assert "column 3, floor" in (cell(watched.page, 1, 3).get_attribute("aria-label") or "")


def test_the_maze_is_drawn_with_the_mouse(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    mouse = watched.page.mouse
    boxes = [cell(watched.page, 4, column).bounding_box() for column in (1, 2, 3)]
    places = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
    mouse.move(*places[0])
    mouse.down()
    mouse.move(*places[1], steps=4)
    mouse.move(*places[2], steps=4)
    mouse.up()
    watched.wait_for(lambda frame: frame["layout"][3] == "XXXG")
    cell(watched.page, 4, 1).press("Enter")  # the drag is over
    watched.page.locator("#maze").get_by_label("goal", exact=True).check()
    cell(watched.page, 4, 2).click()
    watched.wait_for(lambda frame: frame["layout"][3] == ".GXG")


def test_the_maze_fits_a_window_that_changes(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    for width in (1280, 700, 360, 900):
        watched.page.set_viewport_size({"width": width, "height": 900})
        wait_until(
            lambda: 0 < cell(watched.page, 1, 4).bounding_box()["width"] < watched.page.viewport_size["width"] / 4
        )


def test_a_maze_without_a_way_says_so_and_goes_on_when_it_is_mended(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze?maze=S.G_XXX")
    problem = watched.page.locator("#maze .problem")
    press(watched.page, "Start")
    watched.wait_for(lambda frame: frame["step"] > 3)
    cell(watched.page, 1, 2).click()
    wait_until(lambda: "No path leads from the start" in problem.inner_text())
    steps = watched.wait_for(lambda frame: frame["problem"])["step"]
    shortest = watched.page.locator("#maze svg").get_by_text("shortest path")
    assert shortest.count() == 0
    cell(watched.page, 2, 1).click()
    watched.wait_for(lambda frame: frame["layout"][1] == ".XX")
    assert watched.frame()["step"] == steps
    cell(watched.page, 1, 2).click()
    watched.wait_for(lambda frame: frame["step"] > steps)
    wait_until(lambda: problem.inner_text() == "")
    assert shortest.count() == 1


def test_a_curve_without_points_and_lines_has_its_axes(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze?maze=S.G_XXX")
    cell(watched.page, 1, 2).click()
    watched.wait_for(lambda frame: frame["problem"])
    drawing = watched.page.locator("#maze figure.chart svg")
    wait_until(lambda: "shortest path" not in drawing.inner_html())
    assert "NaN" not in drawing.inner_html()
    assert drawing.get_by_text("10 episodes").count() == 1


def test_a_link_to_a_maze_without_a_way_can_be_mended(watched: WatchedPage) -> None:  # noqa: F811
    watched.page.goto(f"{watched.address}#maze?maze=SXG")
    problem = watched.page.locator("#maze .problem")
    wait_until(lambda: "column 3" in problem.inner_text())
    cell(watched.page, 1, 2).click()
    press(watched.page, "Start")
    watched.wait_for(lambda frame: frame["layout"] == ["S.G"] and frame["step"] > 0)
    wait_until(lambda: problem.inner_text() == "")


def test_the_address_holds_the_state(watched: WatchedPage) -> None:  # noqa: F811
    watched.open(
        "maze?maze=S.._..X_.G.&seed=12&speed=50&optimum=1&learning_rate=0.25&slip=0.1&discount=nonsense&epsilon=9"
    )
    cell(watched.page, 1, 2).click()
    wait_until(lambda: fragment(watched.page)["maze"] == "SX._..X_.G.")
    watched.page.reload()
    frame = watched.wait_for(lambda frame: frame["optimum"] and frame["layout"] == ["SX.", "..X", ".G."])
    exact = value_iteration(SimpleMaze(frame["layout"], slip=0.1).outcomes(), 0.95)
    np.testing.assert_allclose(frame["optimum"], exact, atol=1e-6)
    assert f"{exact.max(axis=1)[4]:.2f}" in cell(watched.page, 2, 2).inner_text()
    state = fragment(watched.page)
    assert (state["seed"], state["speed"], state["learning_rate"]) == ("12", "50", "0.25")
    assert (state["discount"], state["epsilon"]) == ("0.95", "1")


def test_sizes_and_random_mazes(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    for label, value in (("Rows", 64), ("Columns", 64)):
        watched.page.locator("#maze").get_by_label(label).fill(str(value))
        watched.page.locator("#maze").get_by_label(label).press("Enter")
    watched.wait_for(lambda frame: [len(row) for row in frame["layout"]] == [64] * 64)
    press(watched.page, "Random maze")
    frame = watched.wait_for(lambda frame: "layout" in frame and sum(row.count("X") for row in frame["layout"]) > 1000)
    seed = int(watched.page.locator("#maze").get_by_label("Seed").input_value())
    assert frame["layout"] == random_maze(64, 64, seed)
    assert (cell(watched.page, 1, 1).bounding_box() or {})["width"] >= 24
    press(watched.page, "Start")
    watched.wait_for(lambda frame: frame.get("step", 0) > 100)
    assert watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    press(watched.page, "The lab's maze")
    watched.wait_for(lambda frame: frame["layout"] == MAZE)


GAPS = """async (milliseconds) => {
  const started = performance.now(), times = [];
  for (let last = null; performance.now() - started < milliseconds; await new Promise((done) => setTimeout(done, 1)))
    if (window.lab.frame !== last) { last = window.lab.frame; times.push(performance.now()); }
  return times.slice(1).map((time, number) => time - times[number]).sort((a, b) => a - b);
}"""
FIRST_VALUE = """async () => {
  const started = performance.now();
  [...document.querySelectorAll("#maze button")].find((each) => each.textContent === "Start").click();
  while (!window.lab.frame.q.flat().some(Boolean)) await new Promise((done) => setTimeout(done, 1));
  return performance.now() - started;
}"""


def test_it_is_quick(watched: WatchedPage) -> None:  # noqa: F811
    """The best of a few tries: other programs may have the processor."""
    watched.open("maze?speed=5000")
    first_values = []
    for _ in range(5):
        press(watched.page, "Reset")
        watched.wait_for(lambda frame: not any(map(any, frame["q"])))
        first_values.append(watched.page.evaluate(FIRST_VALUE))
    assert min(first_values) < 100
    gaps = [watched.page.evaluate(GAPS, 1000) for _ in range(5)]
    assert min(each[len(each) // 2] for each in gaps) <= 1000 / 25


WRITTEN = """async (name) => {
  const cells = new Set(), note = (records) => records.forEach(({ target }) =>
    cells.add((target.closest ? target : target.parentElement).closest("[role=gridcell]")));
  const observer = new MutationObserver(note), step = window.lab.frame.step;
  observer.observe(document.querySelector("#maze [role=grid]"), { subtree: true, childList: true, attributes: true });
  [...document.querySelectorAll("#maze button")].find((each) => each.textContent === name).click();
  while (window.lab.frame.step === step) await new Promise((done) => setTimeout(done, 1));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 1)));
  note(observer.takeRecords());
  observer.disconnect();
  return cells.size;
}"""


def test_a_large_maze_is_drawn_many_times_a_second(watched: WatchedPage) -> None:  # noqa: F811
    watched.open(f"maze?speed=5000&maze={'_'.join(random_maze(64, 64, 1))}")
    written = [watched.page.evaluate(WRITTEN, "Step") for _ in range(20)]
    assert max(written) <= 4  # the mouse's cells before and after, and little else
    positioned = watched.page.locator("#maze [role=gridcell]").evaluate_all(
        "all => all.filter(each => getComputedStyle(each).position !== 'static').length"
    )
    assert positioned <= 2  # the start and the mouse: a layer for each of the cells would be slow
    press(watched.page, "Start")
    watched.wait_for(lambda frame: frame["step"] > 1000)
    gaps = [watched.page.evaluate(GAPS, 1000) for _ in range(5)]
    assert min(each[len(each) // 2] for each in gaps) <= 1000 / 15
    press(watched.page, "Pause")
    watched.wait_for(lambda frame: not frame["is_running"])
    first = watched.page.locator("#maze [role=gridcell][tabindex='0']")
    first.focus()
    for key in ("ArrowDown", "End", "ArrowUp", "ArrowLeft"):
        watched.page.keyboard.press(key)
    assert watched.page.evaluate("document.activeElement.ariaLabel").startswith("row 1, column 63, ")
    q = watched.frame()["q"][62]
    described = watched.page.locator("#maze-cell").inner_text()
    assert "wall" in described or f"up {q[0]:.2f}".replace("-", "−") in described


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_pane_is_accessible(server: str, browser: Any, scheme: str, width: int) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = WatchedPage(context.new_page(), server)
    page.open("maze?optimum=1&speed=5000")
    press(page.page, "Start")
    page.wait_for(lambda frame: frame["episode"] > 200)
    press(page.page, "Pause")
    page.wait_for(lambda frame: not frame["is_running"])
    assert violations(page.page) == []
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.problems == []
    context.close()


def test_reduced_motion_gets_frames_on_demand(server: str, browser: Any) -> None:  # noqa: F811
    context = browser.new_context(reduced_motion="reduce")
    page = WatchedPage(context.new_page(), server)
    page.open("maze?speed=1000")
    numbers = page.page.locator("#maze .numbers").first
    press(page.page, "Start")
    step = page.wait_for(lambda frame: frame["step"] > 500)["step"]
    assert "step 0" in numbers.inner_text()
    press(page.page, "Show the newest")
    wait_until(lambda: int(re.findall(r"step ([\d,]+)", numbers.inner_text())[0].replace(",", "")) >= step)
    assert page.problems == []
    context.close()


def test_the_live_region_speaks_of_episodes(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze?speed=2000")
    press(watched.page, "Start")
    wait_until(lambda: re.search(r"episode \d+: \d+ steps", watched.page.locator("#live").inner_text()))


def test_the_pane_names_functions_of_a_learner(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "mine.py"
    file.write_text(answer("q_update"), encoding="utf-8")
    with running_server("--with", str(file)) as (address, _):
        page = WatchedPage(browser.new_page(), address)
        page.open("maze")
        wait_until(lambda: "Runs your own q_update of" in page.page.locator("#maze").inner_text())
        wait_until(lambda: "mine.py: q_update" in page.page.locator("#maze .code h3").first.inner_text())
        assert page.problems == []
        page.page.close()
