"""Fixtures for tests of `lab play`: the server as another process, and its page in Chromium.

A page fails its test if it asks for anything that is not on this machine, or prints an error on its console.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from lab.play.browser import CHROMIUM, SECONDS, running_browser, running_server


def require_chromium() -> None:
    """Skip the test if there is no Chromium; where LAB_REQUIRE_CHROMIUM is set, as in CI, that is an error."""
    if CHROMIUM is None and os.environ.get("LAB_REQUIRE_CHROMIUM"):
        pytest.fail("Chromium is not installed")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    pytest.importorskip("playwright")


def wait_until(is_true: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Return what `is_true` returns as soon as it counts as true. Raises TimeoutError."""
    started = time.monotonic()
    while not (value := is_true()):
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.02)
    return value


class WatchedPage:
    """A page of the server in Chromium, with all that it did wrong."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.problems: list[str] = []
        page.on("console", lambda message: message.type == "error" and self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        # Chromium keeps some errors, such as those of a ResizeObserver, from its console.
        page.add_init_script("addEventListener('error', (event) => console.error(event.message))")
        page.route("**/*", self._only_here)

    def _only_here(self, route: Any) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            self.problems.append(f"asked for {route.request.url}")
            route.abort()

    def open(self, fragment: str) -> None:
        """Open a pane, such as "maze" or "maze?seed=1", and wait for its first frame."""
        self.page.goto(f"{self.address}#{fragment}")
        pane = fragment.partition("?")[0]
        wait_until(lambda: (self.frame() or {}).get("pane") == pane)

    def frame(self) -> Any:
        """Return the newest frame that the page has shown."""
        return self.page.evaluate("window.lab && window.lab.frame")

    def wait_for(self, is_true: Callable[[Any], Any]) -> Any:
        """Return the first frame for which `is_true` counts as true."""
        return wait_until(lambda: (frame := self.frame()) and is_true(frame) and frame)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that runs for all tests of a file."""
    with running_server() as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for all tests of a file."""
    require_chromium()
    with running_browser() as launched:
        yield launched


@pytest.fixture
def watched(server: str, browser: Any) -> Iterator[WatchedPage]:
    """A page of 1280 x 900; the test fails if anything went wrong in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = WatchedPage(context.new_page(), server)
    yield page
    context.close()
    assert page.problems == []


def violations(page: Any) -> list[str]:
    """Return what axe-core finds wrong with a page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]
