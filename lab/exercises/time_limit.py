"""A limit of time for a block of code."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfTime(BaseException):  # no Exception: probes note those as outcomes
    """Raised where a mutant does not end."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after some seconds; a no-op where the system has no such timer."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
