"""The page of `lab play` in Chromium, driven by a program: for its tests, its picture in the README, its benchmark."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.files import ROOT

ADDRESS = re.compile(r"http://\S+:\d+/\?token=\S+")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS = 60  # that a slow machine may take for anything


@contextmanager
def running_server(*flags: str, opens: bool = False) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run `lab play` on a free port; yield the address of its page and the process. Raises UserError if it ends."""
    command = [sys.executable, "-m", "lab", "play", "--port", "0", *([] if opens else ["--no_open"]), *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().strip()
        if not ADDRESS.fullmatch(address):
            raise UserError(f"lab play does not start: {address}{process.stderr.read()}")
        yield address, process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(SECONDS)
        finally:
            process.kill()


@contextmanager
def running_browser() -> Iterator[Any]:
    """Run Chromium; yield Playwright's object for it. Raises UserError if it is not installed."""
    if CHROMIUM is None:
        raise UserError("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened_page(width: int, height: int) -> Iterator[tuple[Any, str]]:
    """Run the server and a browser; yield an empty page, and the server's address."""
    with running_server() as (address, _), running_browser() as browser:
        yield browser.new_page(viewport={"width": width, "height": height}), address


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


def processes_of(process: int) -> list[int]:
    """Return the processes that a process has started and that are still there (Linux only)."""
    children = Path(f"/proc/{process}/task/{process}/children")
    others = Path(f"/proc/{process}/task").glob("*/children")
    return [int(each) for path in {children, *others} for each in path.read_text().split()]


def workers(process: int) -> list[int]:
    """Return the worker processes of a server, without Python's resource tracker."""
    with suppress(OSError):
        return [
            child for child in processes_of(process) if b"spawn_main" in open(f"/proc/{child}/cmdline", "rb").read()
        ]
    return []
