"""Ctrl-C: one line at any time, also while a script loads its libraries, which takes seconds."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


def exit_at_once(signal_number: int, frame: object) -> NoReturn:
    """Print one line and exit with status 130: the signal handler while nothing is written.

    An exception would not do: some libraries catch every exception while they are loaded.
    """
    os.write(2, b"error: interrupted\n")
    os._exit(130)


def install() -> None:
    """Let Ctrl-C exit at once, unless the process ignores it, as a background job of a shell does."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, exit_at_once)


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt in the block, if it exits at once outside of it."""
    in_script = signal.getsignal(signal.SIGINT) is exit_at_once
    if not (in_script and threading.current_thread() is threading.main_thread()):
        yield
        return
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, exit_at_once)
