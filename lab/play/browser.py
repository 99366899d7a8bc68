"""The page of `lab play` in Chromium, driven by a program: for its picture in the README and its benchmark."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lab.errors import UserError
from lab.files import ROOT

COMMAND = [sys.executable, "-m", "lab", "play", "--port", "0", "--no_open"]


@contextmanager
def running_server() -> Iterator[str]:
    """Run `lab play` on a free port; yield the address of its page."""
    with subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@contextmanager
def opened_page(width: int, height: int) -> Iterator[tuple[Any, str]]:
    """Run the server and a browser; yield an empty page, and the server's address. Raises UserError without one."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise UserError("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with running_server() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser.new_page(viewport={"width": width, "height": height}), address
        finally:
            browser.close()


def wait_for_frame(page: Any, pane: str, is_wanted: Callable[[dict[str, Any]], bool] = lambda frame: True) -> Any:
    """Return the first frame of a pane that is wanted. Raises UserError after two minutes."""
    for _ in range(12_000):
        frame = page.evaluate("window.lab && window.lab.frame") or {}
        if frame.get("pane") == pane and is_wanted(frame):
            return frame
        time.sleep(0.01)
    raise UserError(f"the pane {pane} shows nothing new")


def press(page: Any, name: str) -> None:
    """Press a button by its name."""
    page.get_by_role("button", name=name, exact=True).click()
