"""The process that computes for one page: it runs one job at a time, and the newest job wins.

A job is a function of a `Control` and the message that started it. It consumes a generator of the lab, and between two
steps it calls `control.messages()`, which raises `Replaced` as soon as a newer job is wanted.
"""

import importlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lab.errors import UserError
from lab.exercises import own
from lab.files import ROOT

FRAMES_PER_SECOND = 60  # that a job shows at most; the server sends the newest, 30 times a second
Message = dict[str, Any]
Job = Callable[["Control", Message], None]
# What starts a job: (pane, message) -> module and function. The modules are imported when they are first needed.
JOBS: Mapping[tuple[str, str], str] = {
    ("maze", "start"): "lab.play.maze_job:run",
    ("maze", "return"): "lab.play.maze_job:run",  # unless one waits: see `MazeJob.answer`
    ("maze", "random"): "lab.play.maze_job:make_random",
    ("transformer", "generate"): "lab.play.transformer_job:generate",
    ("transformer", "classify"): "lab.play.sentiment_job:classify",
    ("arm", "start"): "lab.play.arm_job:run",
}


class Replaced(BaseException):  # no Exception: nothing in a job catches it
    """Raised in a job when a newer one is wanted."""

    def __init__(self, message: Message) -> None:
        self.message = message


class Control:
    """The link of a job to its page: the messages that arrive, and a way to show frames."""

    def __init__(self, connection: Connection, own_files: Sequence[Path] = ()) -> None:
        self.connection = connection
        self.own_files = own_files
        self.shown_at: dict[tuple[str, str], float] = {}

    def messages(self, wait: float | None = 0.0) -> Iterator[Message]:
        """Yield the messages that have arrived; wait for the first at most `wait` seconds, None: as long as it takes.

        Raises Replaced for one that starts a job, EOFError if the page is gone.
        """
        ends_at = math.inf if wait is None else time.perf_counter() + wait
        while self.connection.poll(None if wait is None else max(0.0, ends_at - time.perf_counter())):
            message = self.connection.recv()
            if message["do"] == "ping":  # the page asks whether anybody is there
                self.show("", "alive")
                continue
            if (message["pane"], message["do"]) in JOBS:
                raise Replaced(message)
            yield message
            wait = ends_at = 0.0

    def is_due(self, pane: str, kind: str, per_second: float = FRAMES_PER_SECOND) -> bool:
        """Return True if the last frame of this kind is old enough for another one."""
        return time.perf_counter() - self.shown_at.get((pane, kind), -math.inf) >= 1 / per_second

    def show(self, pane: str, kind: str, *, written: Mapping[str, str] = MappingProxyType({}), **values: Any) -> None:
        """Send a frame, a complete picture of its kind: the page may skip older ones. NaN becomes null.

        `written` holds further values, as JSON.
        """
        self.shown_at[pane, kind] = time.perf_counter()
        frame = to_json({"pane": pane, "kind": kind, **values})
        ready = "".join(f',"{name}":{text}' for name, text in written.items())
        self.connection.send((f"{pane} {kind}", f"{frame[:-1]}{ready}}}"))

    @contextmanager
    def own_functions(self, script: str) -> Iterator[list[str]]:
        """Let the learner's functions of `--with` that `script` takes do the work; yield a line on each of them."""
        found = own.script_at(ROOT / script)
        files = [file for file in self.own_files if found is not None and found.takes_any(file)]
        if found is None or not files:
            yield []
            return
        with found.in_use(files) as functions:
            yield own.notes(functions)


def to_json(value: Any) -> str:
    """Return plain data as JSON without spaces. NaN becomes null."""
    return json.dumps(finite(value), separators=(",", ":"))


def finite(value: Any) -> Any:
    """Return plain data with None for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return value


def find_job(message: Message) -> Job:
    """Return the job that a message starts; its libraries are imported now."""
    module, _, name = JOBS[message["pane"], message["do"]].partition(":")
    return getattr(importlib.import_module(module), name)


def run_jobs(control: Control, wanted: Message | None = None, until_pane: str = "") -> None:
    """Run the jobs that the page wants, one after the other, until the page is gone.

    Raises Replaced for one of `until_pane`, which waits meanwhile.
    """
    while True:
        try:
            if wanted is not None:
                message, wanted = wanted, None
                run_job(control, message)
            for _ in control.messages(wait=None):
                pass  # no job is running: nobody to tell
        except Replaced as newer:
            wanted = newer.message
            if wanted["pane"] == until_pane:
                raise


def run_job(control: Control, message: Message) -> None:
    """Run one job; what goes wrong in it is shown in its pane."""
    try:
        find_job(message)(control, message)
    except UserError as error:
        control.show(message["pane"], "error", message=str(error))
    except (EOFError, OSError):
        raise  # the page is gone
    except Exception as error:  # of the learner's functions, or of ours: the worker goes on
        control.show(message["pane"], "error", message=f"{type(error).__name__}: {error}")


def main(connection: Connection, own_files: Sequence[Path]) -> None:
    """Run as the worker process of one page, at the other end of the connection."""
    import signal

    import lab.projects  # noqa: F401 - puts the projects on the search path

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the server, which ends this process
    control = Control(connection, own_files)
    try:
        control.show("", "worker", state="ready")
        run_jobs(control)
    except (EOFError, OSError):
        pass  # the page or the server is gone
