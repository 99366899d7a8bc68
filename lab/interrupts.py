"""Ctrl-C while a script loads its libraries, which takes seconds: one line instead of a traceback."""

import os
import signal  # no other imports: until they have loaded, Ctrl-C still prints a traceback


def exit_at_once(signal_number: int, frame: object) -> None:
    """Print one line and exit with status 130: the signal handler while nothing is written.

    An exception would not do: some libraries catch every exception while they are loaded.
    """
    os.write(2, b"error: interrupted\n")
    os._exit(130)


def install() -> None:
    """Let Ctrl-C exit at once, unless the process ignores it, as a background job of a shell does."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, exit_at_once)
