"""Watch mode: check a file at every save, with keys for hints and the next exercise. Imports no torch."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lab.errors import UserError
from lab.exercises import progress
from lab.exercises.cards import hint_levels, hint_lines, list_lines, summary_lines, verdict_lines
from lab.exercises.catalog import Exercise, exercises
from lab.exercises.checking import Checker, check_file
from lab.files import display_path

INTERVAL = 0.1  # seconds between two looks at the file
KEYS = "n next   h hint   l list   c check all   x reset   q quit"
INTRODUCTION = [
    "This is an exercise, not an error: fill in the function and save the file;",
    "after every save you read here what is right or wrong.",
    "",
]
CLEAR = "\x1b[2J\x1b[H"


class Watcher:
    """Checks one exercise at every save of its file, with a process that is loaded ahead of time."""

    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise
        self.file = progress.file_of(exercise)
        self.checker = Checker(exercise)
        self.seen: tuple[int, int] | None = None
        self.passed = False
        self.introduction: list[str] = []  # above the first verdict

    def saved(self) -> bool:
        """Return True if the file has changed since the last call; a file that is missing for a moment has not."""
        try:
            status = self.file.stat()
        except OSError:  # an editor is putting a new file in its place
            return False
        stamp = (status.st_mtime_ns, status.st_size)
        changed = stamp != self.seen
        self.seen = stamp
        return changed

    def check(self) -> None:
        """Check the file, show the verdict, and load the process for the next check."""
        checked = self.checker.check(self.file)
        self.checker = Checker(self.exercise)
        progress.record(self.exercise, checked.verdict)
        self.passed = checked.verdict.status == "passed"
        lines = [*self.introduction, *verdict_lines(self.exercise, checked)]
        self.introduction = []
        show([*lines, "", "press n for the next one" if self.passed else f"watching {display_path(self.file)}"])

    def close(self) -> None:
        """End the waiting process."""
        self.checker.close()


def show(lines: list[str]) -> None:
    """Print lines on a cleared screen, with the keys below them."""
    clear = CLEAR if sys.stdout.isatty() else ""
    print(clear + "\n".join([*lines, KEYS]), flush=True)


def watch(exercise: Exercise) -> int:
    """Watch an exercise until q, Ctrl-C, or the end of the last one; return 0 if the last one shown has passed."""
    if not progress.file_of(exercise).is_file():
        raise UserError(f"{progress.file_of(exercise)}: no such file; start with: lab exercises start")
    watcher = Watcher(exercise)
    watcher.introduction = INTRODUCTION
    try:
        with single_keys() as keys:
            while True:
                if watcher.saved():
                    watcher.check()
                key = next(keys)
                if key == "q":
                    return int(not watcher.passed)
                if key == "n":
                    watcher = following(watcher)
                elif key:
                    on_key(key, watcher)
    finally:
        watcher.close()


def following(watcher: Watcher) -> Watcher:
    """Return the watcher of the next exercise; the same one while the present exercise has not passed."""
    if not watcher.passed:
        show(["not yet: this exercise has not passed"])
        return watcher
    exercise = progress.next_open()
    if exercise is None:
        show(["all exercises are solved"])
        return watcher
    watcher.close()
    return Watcher(exercise)


def on_key(key: str, watcher: Watcher) -> None:
    """Do what a key asks for."""
    exercise = watcher.exercise
    if key == "h":
        state = progress.state(exercise)
        show(hint_lines(exercise, state))
        last = len(hint_levels(exercise, state.mistake)) - 1
        progress.update(exercise, replace(state, hints=min(state.hints + 1, last)))
    elif key == "l":
        show(list(list_lines(progress.states())))
    elif key == "c":
        present = [each for each in exercises().values() if progress.file_of(each).is_file()]
        show(list(summary_lines([(each, check_file(each, progress.file_of(each))) for each in present])))
    elif key == "x":
        backup = progress.reset(exercise)
        kept = f"; yours is kept as {display_path(backup)}" if backup else ""
        watcher.introduction = [f"the file is as it was at the start{kept}", ""]  # above the verdict that follows


@contextmanager
def single_keys() -> Iterator[Iterator[str]]:
    """Yield an iterator of the keys that were pressed, "" for none within INTERVAL seconds."""
    if not sys.stdin.isatty():
        yield _typed_lines()
        return
    try:
        import termios
        import tty
    except ImportError:
        yield _windows_keys()
        return
    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        yield _terminal_keys()
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _terminal_keys() -> Iterator[str]:
    import select

    while True:
        ready = select.select([0], [], [], INTERVAL)[0]
        yield (os.read(0, 1).decode("ascii", "ignore") or "q") if ready else ""  # no bytes: the terminal is gone


def _windows_keys() -> Iterator[str]:
    import msvcrt

    while True:
        time.sleep(INTERVAL)
        yield msvcrt.getwch() if msvcrt.kbhit() else ""  # pyright: ignore[reportAttributeAccessIssue]


def _typed_lines() -> Iterator[str]:
    """Yield nothing: without a terminal, only Ctrl-C ends the watching."""
    while True:
        time.sleep(INTERVAL)
        yield ""
