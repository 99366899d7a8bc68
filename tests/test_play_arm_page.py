"""The arm pane in Chromium: the buttons, the target by pointer and keys, the address, narrow, dark and still."""

import re
import time
from typing import Any

import pytest
from play_browser import WatchedPage, browser, server, violations, wait_until, watched  # noqa: F401 - fixtures


def is_state(frame: Any) -> bool:
    return frame["kind"] == "state"


def button(page: WatchedPage, name: str) -> Any:
    return page.page.get_by_role("button", name=name, exact=True)


def is_at(frame: Any, x: float, y: float) -> bool:
    return is_state(frame) and frame["target"] == pytest.approx([x, y], abs=0.002)


def box(page: WatchedPage) -> tuple[float, float, float]:
    """Center and half of the width of the drawing, in pixels."""
    found = page.page.locator("#arm .handle svg").bounding_box()
    return found["x"] + found["width"] / 2, found["y"] + found["height"] / 2, found["width"] / 2


def pixels(page: WatchedPage, x: float, y: float) -> tuple[float, float]:
    """Where on the screen a place in meters is."""
    middle, height, half = box(page)
    return middle + x / 0.24 * half, height - y / 0.24 * half


def test_the_trained_model_reaches_before_anything_is_touched(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("arm")
    frame = watched.wait_for(lambda frame: is_state(frame) and frame["distance"] < 0.02)
    assert (frame["policy"], frame["steps"], frame["return"], frame["wanders"]) == ("trained", 0, None, True)
    assert watched.page.get_by_role("radio", name="the trained model").is_checked()
    assert watched.page.get_by_label("Leave out").locator("option:checked").text_content() == "nothing"
    shown = watched.page.evaluate("""
        () => ['cx', 'cy'].map(name => Number(document.querySelector('#arm .fingertip').getAttribute(name)))
    """)
    assert max(map(abs, shown)) > 0.01
    assert watched.page.locator("#arm .code h3").count() == 4
    assert violations(watched.page) == []


def test_start_pause_step_and_reset(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("arm?seed=3")
    button(watched, "Step").click()
    frame = watched.wait_for(lambda frame: is_state(frame) and frame["steps"])
    assert (frame["iteration"], frame["policy"], frame["is_running"]) == (1, "learning", False)
    wait_until(lambda: "seed=3&policy=learning" in watched.page.evaluate("location.hash"))
    button(watched, "Start").click()
    watched.wait_for(lambda frame: is_state(frame) and frame["iteration"] >= 5)
    button(watched, "Pause").click()
    paused = watched.wait_for(lambda frame: is_state(frame) and not frame["is_running"])
    time.sleep(1)
    assert watched.wait_for(is_state)["steps"] == paused["steps"]
    points = watched.page.locator("#arm .curve").first.get_attribute("points").split()
    assert len(points) == paused["iteration"]
    numbers = watched.page.locator("#arm .numbers").last.text_content()
    assert f"{paused['steps']:,} steps: return {paused['return']:.2f}".replace("-", "−") in numbers
    charts = " ".join(watched.page.locator("#arm .chart").all_inner_texts())
    assert "PD −3.6" in charts
    assert re.search(r"-\d", charts) is None  # a hyphen is no minus sign
    assert violations(watched.page) == []
    button(watched, "Reset").click()
    watched.wait_for(lambda frame: is_state(frame) and frame["steps"] == 0)
    assert watched.page.locator("#arm .curve").first.get_attribute("points") == ""


def test_the_pointer_moves_the_target_while_it_learns(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("arm")
    button(watched, "Start").click()
    watched.wait_for(lambda frame: frame["steps"])
    mouse = watched.page.mouse
    mouse.move(*pixels(watched, 0.1, 0.1))
    mouse.down()
    mouse.move(*pixels(watched, -0.08, 0.12))
    moved = watched.wait_for(lambda frame: is_at(frame, -0.08, 0.12))
    assert not moved["wanders"]
    mouse.move(*pixels(watched, 0.23, 0.0))  # out of reach
    watched.wait_for(lambda frame: is_at(frame, 0.2, 0.0))
    mouse.up()
    mouse.move(*pixels(watched, 0.0, 0.0))
    later = watched.wait_for(lambda frame: is_state(frame) and frame["steps"] > moved["steps"])
    assert is_at(later, 0.2, 0.0)
    wait_until(lambda: "x=20&y=0" in watched.page.evaluate("location.hash"))


def test_a_finger_moves_the_target_taps_and_scrolls(server: str, browser: Any) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": 360, "height": 500}, has_touch=True, is_mobile=True)
    touched = WatchedPage(context.new_page(), server)
    touched.open("arm?policy=controller&x=0&y=10")
    page = touched.page
    page.locator("#arm .handle").evaluate("each => each.scrollIntoView()")
    device = context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    def swipe(start: tuple[float, float], end: tuple[float, float]) -> None:
        touch("touchStart", start)
        for part in range(1, 11):
            touch("touchMove", (start[0] + (end[0] - start[0]) * part / 10, start[1] + (end[1] - start[1]) * part / 10))
        page.wait_for_timeout(200)  # a finger that rests before it lifts: the page does not go on by itself
        touch("touchEnd")

    def rest() -> None:
        """Wait until the page has not moved for half a second: a tap on a moving page only stops it."""
        last = None
        while (now := page.evaluate("scrollY")) != last:
            last = now
            page.wait_for_timeout(500)

    scrolled = page.evaluate("scrollY")
    swipe(pixels(touched, 0.0, 0.1), pixels(touched, 0.1, 0.0))  # from the target
    touched.wait_for(lambda frame: is_at(frame, 0.1, 0.0))
    assert page.evaluate("scrollY") == scrolled
    swipe(pixels(touched, -0.1, -0.1), pixels(touched, -0.1, 0.1))  # from elsewhere
    wait_until(lambda: page.evaluate("scrollY") > scrolled)
    assert touched.wait_for(is_state)["target"] == pytest.approx([0.1, 0.0], abs=0.002)
    rest()
    page.locator("#arm .handle").evaluate("each => each.scrollIntoView()")
    rest()
    page.touchscreen.tap(*pixels(touched, -0.1, -0.1))
    touched.wait_for(lambda frame: is_at(frame, -0.1, -0.1))
    wait_until(lambda: "x=-10&y=-10" in page.evaluate("location.hash"))
    assert touched.problems == []
    context.close()


def test_everything_works_by_keyboard(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("arm?policy=controller&x=5&y=5")
    page = watched.page
    page.keyboard.press("Tab")
    for _ in range(12):
        if page.evaluate("document.activeElement.className") == "handle":
            break
        page.keyboard.press("Tab")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    watched.wait_for(lambda frame: is_at(frame, 0.03, 0.04))
    wait_until(lambda: "target at x 3, y 4" in page.locator("#live").text_content())
    page.keyboard.press("Tab")  # the chosen radio button
    page.keyboard.press("ArrowUp")
    watched.wait_for(lambda frame: frame.get("policy") == "trained")
    page.keyboard.press("Tab")
    page.keyboard.type("-7.5")
    page.keyboard.press("Tab")
    watched.wait_for(lambda frame: is_at(frame, -0.075, 0.04))
    button(watched, "Step").focus()
    page.keyboard.press("Space")
    watched.wait_for(lambda frame: frame["steps"])


def test_a_seed_that_is_none_leaves_the_training_alone(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("arm?seed=3&policy=learning")
    button(watched, "Step").click()
    watched.wait_for(lambda frame: is_state(frame) and frame["iteration"] == 1)
    field = watched.page.get_by_label("Random seed")
    for text in ("-1", "4294967296", "2.5", ""):
        field.fill(text)
        field.press("Enter")
        field.press("Tab")
        assert field.input_value() == "3"
    button(watched, "Step").click()
    watched.wait_for(lambda frame: is_state(frame) and frame["iteration"] == 2)


def test_the_address_holds_the_state_and_nonsense_is_ignored(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("arm?seed=7&policy=controller&x=-5&y=10&without=use_clipping")
    assert watched.wait_for(is_state)["policy"] == "controller"
    watched.wait_for(lambda frame: is_at(frame, -0.05, 0.1) and frame["distance"] < 0.001)
    assert watched.page.get_by_label("Leave out").input_value() == "use_clipping"
    watched.page.reload()
    watched.wait_for(lambda frame: is_at(frame, -0.05, 0.1) and frame["policy"] == "controller")
    assert watched.page.get_by_label("Random seed").input_value() == "7"
    watched.page.evaluate("location.hash = '#arm?seed=-1&policy=best&x=a&y=1e9&without=everything'")
    watched.wait_for(lambda frame: is_state(frame) and frame["wanders"])
    wait_until(lambda: watched.page.evaluate("location.hash") == "#arm?seed=0&policy=trained")


def test_a_frame_changes_little_of_the_page(watched: WatchedPage) -> None:  # noqa: F811
    watched.open("arm")
    watched.wait_for(lambda frame: is_state(frame) and frame["distance"] < 0.02)
    changes, frames = watched.page.evaluate("""
        async () => {
            let changes = 0, frames = 0, last = null;
            const observer = new MutationObserver((records) => (changes += records.length));
            const what = { subtree: true, childList: true, attributes: true, characterData: true };
            observer.observe(document.getElementById('arm'), what);
            for (const start = performance.now(); performance.now() - start < 3000;) {
                await new Promise(resolve => setTimeout(resolve, 2));
                if (window.lab.frame !== last) frames += 1;
                last = window.lab.frame;
            }
            observer.disconnect();
            return [changes, frames];
        }
    """)
    assert frames > 10
    assert changes <= 7 * frames  # the links, the elbow, the fingertip, the caption, now and then the target


def test_narrow_and_dark(watched: WatchedPage) -> None:  # noqa: F811
    watched.page.set_viewport_size({"width": 360, "height": 740})
    watched.page.emulate_media(color_scheme="dark")
    watched.open("arm")
    button(watched, "Step").click()
    watched.wait_for(lambda frame: frame["steps"])
    assert watched.page.evaluate("document.documentElement.scrollWidth") == 360
    assert violations(watched.page) == []
    sizes = watched.page.evaluate("""
        () => [...document.querySelectorAll('#arm button, #arm input, #arm select, #arm .handle')].map(each => {
            const box = each.getBoundingClientRect();
            return Math.min(box.width, box.height);
        })
    """)
    assert min(sizes) >= 24


def test_reduced_motion_draws_one_frame_a_second(watched: WatchedPage) -> None:  # noqa: F811
    watched.page.emulate_media(reduced_motion="reduce")
    watched.open("arm")
    watched.wait_for(is_state)
    drawn, frames = watched.page.evaluate("""
        async () => {
            const joint = document.querySelector('#arm .fingertip');
            const drawn = new Set(), frames = new Set();
            for (const start = performance.now(); performance.now() - start < 2500;) {
                await new Promise(resolve => setTimeout(resolve, 5));
                drawn.add(joint.getAttribute('cx'));
                frames.add(window.lab.frame);
            }
            return [drawn.size, frames.size];
        }
    """)
    assert drawn <= 4 < frames
