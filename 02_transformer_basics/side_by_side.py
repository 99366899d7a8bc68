"""Two engines on the same work: what each gives, and how fast, both measured in one run on one machine."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Answer = TypeVar("Answer")
MOST_ROUNDS = 5


def race(runs: Mapping[str, Callable[[], Answer]], seconds: float = 3.0) -> dict[str, tuple[Answer, float]]:
    """Answer and shortest time in seconds of each of `runs`, called in turn: five rounds, none begun after `seconds`.

    What else the machine does slows them all, since they take turns, and hardly counts in the shortest time.
    """
    started, best = time.perf_counter(), {}
    for number in range(MOST_ROUNDS):
        if number and time.perf_counter() - started > seconds:
            break
        for name, run in runs.items():
            begun = time.perf_counter()
            answer = run()
            taken = time.perf_counter() - begun
            best[name] = (answer, min(taken, best[name][1]) if number else taken)
    return best
