"""The frame of the page in Chromium: its tabs, its address, and a server or a worker that goes away."""

import os
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from play_browser import WatchedPage, browser, running_server, server, violations, wait_until, watched  # noqa: F401 - fixtures

from lab.play.browser import workers

PANES = ("maze", "transformer", "arm")


def button(page: WatchedPage, pane: str, name: str) -> Any:
    return page.page.locator(f"#{pane}").get_by_role("button", name=name, exact=True)


def open_tab(page: WatchedPage, pane: str) -> None:
    page.page.locator(f"#tab-{pane}").click()


def is_of(pane: str, kind: str = "state") -> Any:
    return lambda frame: (frame["pane"], frame["kind"]) == (pane, kind)


def connection_of(page: WatchedPage) -> str:
    return page.page.locator("#connection").text_content()


# --- before the worker is ready ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pane", ["maze", "arm"])
def test_start_works_while_the_worker_is_being_started(watched: WatchedPage, pane: str) -> None:  # noqa: F811
    watched.page.goto(f"{watched.address}#{pane}")
    button(watched, pane, "Start").click()
    watched.wait_for(lambda frame: is_of(pane)(frame) and frame["is_running"])


def test_step_works_while_the_worker_is_being_started(watched: WatchedPage) -> None:  # noqa: F811
    watched.page.goto(f"{watched.address}#maze")
    button(watched, "maze", "Step").click()
    watched.wait_for(lambda frame: frame["step"] == 1)


def test_the_maze_keeps_its_place_when_the_first_frame_comes(watched: WatchedPage) -> None:  # noqa: F811
    watched.page.goto(watched.address)
    before = watched.page.locator("#maze [role=grid]").bounding_box()
    watched.wait_for(is_of("maze"))
    watched.page.locator("#maze .mouse").wait_for()
    assert watched.page.locator("#maze [role=grid]").bounding_box() == before


def test_a_narrow_maze_keeps_its_place_while_it_learns(watched: WatchedPage) -> None:  # noqa: F811
    watched.page.set_viewport_size({"width": 360, "height": 740})
    watched.open("maze?speed=5000&maze=S..X...._G.X...XX_..X.X...")
    grid = watched.page.locator("#maze [role=grid]")
    before = grid.bounding_box()
    button(watched, "maze", "Start").click()
    for steps in (1, 1000, 20_000):
        watched.wait_for(lambda frame, steps=steps: frame["step"] >= steps and frame["episode"])
        assert grid.bounding_box() == before
    watched.page.evaluate("""() => {
        const line = document.querySelector('#maze .buttons + .numbers');
        line.textContent = 'Learning: step 1,000,000, ε 0.05; 150,000 episodes, the last 100 steps without the goal';
    }""")
    assert watched.page.evaluate("document.querySelector('#maze [role=grid]').getBoundingClientRect().y") == before["y"]


# --- tabs and the address ---------------------------------------------------------------------------------------------


def test_back_and_forward_lead_from_pane_to_pane(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze?seed=5")
    wait_until(lambda: "speed=200" in watched.page.evaluate("location.hash"))
    open_tab(watched, "arm")
    watched.wait_for(is_of("arm"))
    watched.page.go_back()
    watched.wait_for(is_of("maze"))
    assert watched.page.locator("#tab-maze").get_attribute("aria-selected") == "true"
    assert watched.page.locator("#maze").get_by_label("Seed").input_value() == "5"
    watched.page.go_forward()
    watched.wait_for(is_of("arm"))
    wait_until(lambda: watched.page.evaluate("location.hash") == "#arm?seed=0&policy=trained")


def test_a_maze_that_was_left_is_found_as_it_was(watched: WatchedPage) -> None:  # noqa: F811
    page = watched.page
    watched.open("maze?speed=1000&optimum=1&learning_rate=0.3")
    button(watched, "maze", "Start").click()
    watched.wait_for(lambda frame: frame["step"] > 300)
    for pane in ("transformer", "arm"):
        open_tab(watched, pane)
        watched.wait_for(lambda frame, pane=pane: frame["pane"] == pane)
    open_tab(watched, "maze")
    left = watched.wait_for(is_of("maze"))
    assert left["step"] > 300
    assert not left["is_running"]
    assert left["optimum"]
    assert len(left["curve"]) > 0
    page.go_back()
    watched.wait_for(is_of("arm"))
    page.go_back()
    page.go_back()  # to the address of the maze, with its settings
    back = watched.wait_for(is_of("maze"))
    assert (back["step"], back["q"]) == (left["step"], left["q"])
    button(watched, "maze", "Start").click()
    watched.wait_for(lambda frame: frame["step"] > left["step"])
    page.evaluate("location.hash = location.hash.replace('learning_rate=0.3', 'learning_rate=0.4')")
    watched.wait_for(lambda frame: frame["step"] == 0)


def test_an_address_that_is_reloaded_at_once_has_the_last_change(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    for row, column in ((1, 2), (1, 3), (1, 4)):
        watched.page.evaluate(f"document.querySelector('#maze [aria-label^=\"row {row}, column {column},\"]').click()")
    watched.page.reload()
    watched.wait_for(lambda frame: frame["layout"] == ["SXXX", ".X..", "..X.", "...G"])


def test_an_address_that_changes_all_the_time_is_not_refused(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    written = watched.page.evaluate("""
        async () => {
            const slider = document.querySelector('#maze .slider input');
            const replace = history.replaceState;
            let calls = 0;
            history.replaceState = function (...all) { calls += 1; replace.apply(this, all); };
            for (let k = 0; k < 300; k += 1) {
                slider.value = k % 2;
                slider.dispatchEvent(new Event('input'));
                await new Promise((done) => setTimeout(done, 1));
            }
            return calls;
        }
    """)
    assert written <= 60
    wait_until(lambda: "speed=5000" in watched.page.evaluate("location.hash"))


@pytest.mark.parametrize(
    ("fragment", "pane"),
    {
        "#constructor": "maze",
        "#toString?maze=S": "maze",
        "#__proto__": "maze",
        "#arm?policy=toString&without=constructor&x=Infinity&y=1e400&seed=99999999999": "arm",
        "#transformer?task=constructor&head=99.99&temperature=1e400&sentence=%00%EF%BF%BF%ED%A0%80": "transformer",
        "#maze?layout=XX&maze=S_GG&speed=1e99&slip=-1&seed=0x10&discount=NaN&__proto__=1": "maze",
        "#maze?maze=SGSG&epsilon=1e-400": "maze",
        "#maze?a=%&b=%zz???&&==": "maze",
    }.items(),
)
def test_nonsense_in_the_address_is_ignored(watched: WatchedPage, fragment: str, pane: str) -> None:  # noqa: F811
    watched.page.goto(watched.address + fragment)
    wait_until(lambda: watched.frame() or watched.page.locator(f"#{pane} .problem").text_content())
    assert watched.page.locator(f"#tab-{pane}").get_attribute("aria-selected") == "true"
    assert connection_of(watched) == ""


def test_tabs_that_change_quickly_end_at_the_last_one(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    for number in range(30):
        open_tab(watched, PANES[number % 3])
        if number % 4 == 0:
            button(watched, PANES[number % 3], "Start").click()
    watched.wait_for(is_of("arm"))
    assert watched.page.locator("[role=tabpanel]:visible").get_attribute("id") == "arm"
    assert watched.wait_for(is_of("arm"))["steps"] == 0
    assert connection_of(watched) == ""


def test_a_random_maze_that_comes_late_does_not_disturb_another_pane(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    watched.page.evaluate("""
        [...document.querySelectorAll('#maze button')].find(each => each.textContent === 'Random maze').click();
        document.getElementById('tab-arm').click();
    """)
    watched.wait_for(is_of("arm"))
    watched.page.wait_for_timeout(1000)
    shown = watched.frame()
    watched.wait_for(lambda frame: is_of("arm")(frame) and frame["joints"] != shown["joints"])


def test_keys_of_the_browser_do_not_change_tabs(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze")
    watched.page.locator("#tab-maze").focus()
    watched.page.keyboard.press("Control+ArrowRight")
    assert watched.page.locator("#tab-maze").get_attribute("aria-selected") == "true"
    watched.page.keyboard.press("ArrowRight")
    assert watched.page.locator("#tab-transformer").get_attribute("aria-selected") == "true"


def test_a_session_by_keyboard_alone_is_accessible_all_the_way(watched: WatchedPage) -> None:  # noqa: F811
    page = watched.page
    press = page.keyboard.press

    def tab_to(name: str) -> None:
        for _ in range(40):
            press("Tab")
            if page.evaluate("document.activeElement.textContent") == name:
                return
        pytest.fail(f"no {name} within 40 tab stops")

    watched.open("maze")
    for pane, next_tab in (("maze", "Transformer"), ("transformer", "Arm"), ("arm", "Maze")):
        watched.wait_for(lambda frame, pane=pane: frame["pane"] == pane)
        tab_to("Start")
        press("Enter")
        watched.wait_for(lambda frame: frame.get("is_running"))
        assert violations(page) == []
        press("Tab")  # Pause
        press("Space")
        watched.wait_for(lambda frame: "is_running" in frame and not frame["is_running"])
        press("Tab")  # Step
        press("Enter")
        press("Tab")  # Reset
        press("Enter")
        assert violations(page) == []
        for _ in range(40):
            press("Shift+Tab")
            if page.evaluate("document.activeElement.getAttribute('role')") == "tab":
                break
        press("ArrowRight")
        assert page.evaluate("document.activeElement.textContent") == next_tab
    watched.wait_for(is_of("maze"))


# --- what goes away ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_worker_is_reported_and_every_pane_goes_on(browser: Any) -> None:  # noqa: F811
    with running_server() as (address, process):
        page = WatchedPage(browser.new_page(), address)
        for pane, kind in (("maze", "state"), ("transformer", "generation"), ("arm", "state")):
            page.page.goto("about:blank")
            page.open(pane)
            button(page, pane, "Start").click()
            page.wait_for(lambda frame: frame.get("is_running"))
            (worker,) = wait_until(lambda: len(found := workers(process.pid)) == 1 and found)
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: "The worker process has ended" in connection_of(page))
            wait_until(lambda: "Connected again" in connection_of(page))
            page.wait_for(lambda frame, kind=kind: frame["kind"] == kind and not frame["is_running"])
            button(page, pane, "Start").click()
            page.wait_for(lambda frame: frame.get("is_running"))
        assert page.problems == []


def test_an_endless_loop_is_ended_by_restart(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "mine.py"
    file.write_text(
        "def q_update(q_table, state, action, target, alpha):\n    while True:\n        pass\n", encoding="utf-8"
    )
    with running_server("--with", str(file)) as (address, process):
        page = WatchedPage(browser.new_page(), address)
        page.open("maze")
        restart = page.page.get_by_role("button", name="Restart")
        button(page, "maze", "Step").click()
        wait_until(restart.is_visible)
        assert violations(page.page) == []
        (worker,) = workers(process.pid)
        for _ in range(300):  # nobody reads these
            button(page, "maze", "Pause").dispatch_event("click")
        restart.click()
        wait_until(lambda: "Connected again" in connection_of(page))
        assert not restart.is_visible()
        page.wait_for(lambda frame: frame["step"] == 0)
        wait_until(lambda: len(workers(process.pid)) == 1)
        assert worker not in workers(process.pid)
        open_tab(page, "arm")  # where the loop is not used
        page.wait_for(is_of("arm"))
        assert page.problems == []
        page.page.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_a_worker_that_works_is_left_alone(watched: WatchedPage) -> None:  # noqa: F811
    """Also if it is asked while it computes, while it is paused, and while no job runs."""
    watched.open("maze?speed=5000")
    button(watched, "maze", "Start").click()
    watched.page.wait_for_timeout(7000)
    button(watched, "maze", "Pause").click()
    watched.page.wait_for_timeout(7000)
    assert not watched.page.get_by_role("button", name="Restart").is_visible()


def test_a_server_that_is_started_anew_is_told_from_one_that_is_gone(browser: Any) -> None:  # noqa: F811
    with running_server() as (address, _):
        page = WatchedPage(browser.new_page(), address)
        page.open("maze")
        wait_until(lambda: "epsilon=1" in page.page.evaluate("location.hash"))
    wait_until(lambda: "does not answer" in connection_of(page))
    with running_server("--port", str(urlsplit(address).port)) as (new, _):
        assert new != address
        wait_until(lambda: "open the address that it has printed" in connection_of(page))
        page.page.goto(new)  # in the same browser, so that the old page gets the new cookie too
        page.wait_for(is_of("maze"))


def test_a_socket_that_is_lost_is_opened_again(watched: WatchedPage) -> None:  # noqa: F811
    sockets: list[Any] = []
    watched.page.route_web_socket("**/socket*", lambda route: sockets.append((route, route.connect_to_server())))
    watched.open("arm")
    button(watched, "arm", "Step").click()
    watched.wait_for(lambda frame: frame["steps"])
    for side in sockets.pop():
        side.close()
    wait_until(lambda: "the connection was lost" in connection_of(watched))
    wait_until(lambda: "back at its beginning" in connection_of(watched))
    watched.wait_for(lambda frame: is_of("arm")(frame) and frame["steps"] == 0)
    assert len(sockets) == 1


def test_what_the_server_refused_is_said_for_a_while_only(watched: WatchedPage) -> None:  # noqa: F811
    watched.page.clock.install()
    watched.open("arm")
    watched.page.evaluate("""
        () => {
            const send = WebSocket.prototype.send;
            WebSocket.prototype.send = function () { send.call(this, '{}'); WebSocket.prototype.send = send; };
        }
    """)
    button(watched, "arm", "Step").click()
    wait_until(lambda: "refused" in connection_of(watched))
    watched.page.clock.run_for(20_000)
    wait_until(lambda: connection_of(watched) == "")


def test_a_seed_that_is_none_gives_way_to_the_last_one(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("maze?seed=5")
    field = watched.page.locator("#maze").get_by_label("Seed")
    for text in ("-5", "1e20", "2.5", ""):
        field.fill(text)
        field.press("Enter")
        assert field.input_value() == text
        button(watched, "maze", "Step").click()
        watched.wait_for(lambda frame: frame["step"] > 0)
        button(watched, "maze", "Reset").click()
        watched.wait_for(lambda frame: frame["step"] == 0)
        assert field.input_value() == "5"
        assert "seed=5" in watched.page.url
    assert connection_of(watched) == ""
