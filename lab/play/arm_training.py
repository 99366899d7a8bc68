"""`ppo.train` in a separate thread, so that meanwhile the arm moves and the page is answered."""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ppo import IterationRecord, train
from ppo_config import PPOConfig

COLUMNS = ("iteration", "steps", "return", "kl", "clip_fraction")


def row_of(record: IterationRecord) -> list[float]:
    """Return the numbers of an iteration that the page draws: `COLUMNS`."""
    returns = record.episode_returns
    mean = float(np.mean(returns)) if returns else math.nan
    return [record.iteration, record.steps, mean, record.update.approx_kl, record.update.clip_fraction]


class Training(threading.Thread):
    """A training that goes on when it may: `allowed` is the number of iterations that may still be shown.

    It is one iteration ahead, so that the first one, which loads libraries, is there when it is wanted. The thread
    only ever adds to `rows` and replaces `weights`, so other threads read them at any time.
    """

    def __init__(self, config: PPOConfig, allowed: float) -> None:
        super().__init__(daemon=True)
        self.config = config
        self.allowed = allowed
        self.is_wanted = True
        self.turn = threading.Condition()
        self.rows: list[list[float]] = []  # one per iteration
        self.weights: dict[str, Any] | None = None  # of the agent, after the newest iteration
        self.error: Exception | None = None  # what ended the training

    def run(self) -> None:
        """Consume the generator, one iteration at a time."""
        try:
            for record in train(self.config):
                if not self._takes_turn():
                    return
                self.weights = record.agent.state_dict()  # a copy: the next iteration changes the agent
                self.rows.append(row_of(record))
        except Exception as error:  # for the thread that watches
            if self._takes_turn():
                self.error = error

    def allow(self, change: Callable[[float], float]) -> None:
        """Change the number of iterations that may still be shown."""
        with self.turn:
            self.allowed = change(self.allowed)
            self.turn.notify()

    def end(self) -> None:
        """Wait until the iteration that is under way has ended; there is no further one."""
        with self.turn:
            self.is_wanted = False
            self.turn.notify()
        self.join()

    def _takes_turn(self) -> bool:
        """Wait until an iteration may be shown; return False if the training is to end."""
        with self.turn:
            self.turn.wait_for(lambda: self.allowed > 0 or not self.is_wanted)
            self.allowed -= 1
            return self.is_wanted
