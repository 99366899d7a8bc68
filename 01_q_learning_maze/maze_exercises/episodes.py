"""An environment and an agent that record how they are called, for the exercise on the training loop.

Imports no torch.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from lab.exercises.probes import EndlessLoopError, as_number, plain

START = 5
PATIENCE = 40  # steps after the end of an episode until the loop counts as endless
MOST_STEPS = 1200  # of the longest episode
MOST_CALLS = 400 + 3 * MOST_STEPS
# name of the episode to its steps: (next state, reward, terminated, truncated)
ENDS: dict[str, list[tuple[int, float, bool, bool]]] = {
    "cheese": [(9, -1.0, False, False), (0, -3.0, False, False), (7, 10.0, True, False)],
    "time": [(2, -1.0, False, False), (6, -4.0, False, False), (6, -1.5, False, True)],
    "both": [(3, -2.0, False, False), (8, 10.0, True, True)],
    "one step": [(7, 10.0, True, False)],
    "long": [
        *((10 + step, float(step % 3) - 2.0, False, False) for step in range(MOST_STEPS - 1)),
        (0, -1.0, False, True),
    ],
}


class Log:
    """The calls of an episode, in order.

    Attributes:
        calls: what is compared, such as "act(5)" and "step(1)".
        names: the names of the functions alone.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.names: list[str] = []
        self.steps: list[tuple[Any, ...]] = []  # what happened: state, action, reward, next state, terminated
        self.updates: list[tuple[Any, ...]] = []  # what the agent was told
        self.state: Any = None

    def note(self, name: str, *arguments: Any) -> None:
        """Add a call. Raises EndlessLoopError after many more than an episode has."""
        if len(self.names) == MOST_CALLS:
            raise EndlessLoopError("the episode never ends")
        self.names.append(name.split()[0])
        self.calls.append(f"{name}({', '.join(map(_text, arguments))})")

    def count(self, name: str) -> int:
        """Return the number of calls of a function."""
        return self.names.count(name)

    def in_order(self) -> bool:
        """Return True if an action, a step and an update follow each other all the time, after a reset."""
        steps = self.names[1:-1]
        return steps == ["act", "step", "update"] * (len(steps) // 3)

    def told_the_truth(self) -> bool:
        """Return True if the agent was told what happened."""
        return self.updates == self.steps


def _text(value: Any) -> str:
    value = plain(as_number(value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:g}"
    return str(value)


class RecordedEnv:
    """Plays given episodes, whatever the actions are."""

    def __init__(self, log: Log, episodes: Sequence[str]) -> None:
        self.log = log
        self.episodes = [ENDS[name] for name in episodes]
        self.number = -1
        self.position = 0
        self.action_space = self  # for env.action_space.sample()
        self.n = 4

    def sample(self) -> int:
        """Return the action that no agent would take."""
        return 3

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        """Start the next episode."""
        self.log.note("reset", *([] if seed is None else ["a seed"]))
        self.number = min(self.number + 1, len(self.episodes) - 1)
        self.position = 0
        self.log.state = START + self.number
        return self.log.state, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Return the next step of the episode; after its end, the last one again."""
        self.log.note("step", action)
        steps = self.episodes[self.number]
        if self.position >= len(steps) + PATIENCE:
            raise EndlessLoopError("the episode is over, but `env.step` is called again and again")
        next_state, reward, terminated, truncated = steps[min(self.position, len(steps) - 1)]
        self.position += 1
        self.log.steps.append((self.log.state, action, reward, next_state, terminated))
        self.log.state = next_state
        return next_state, reward, terminated, truncated, {}

    def render(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class RecordedAgent:
    """An agent whose actions are 0, 1, 2, 0, 1, 2 and so on."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.actions = 0
        self.discount = 0.5
        self.epsilon = 0.5
        self.n_actions = 4

    def act(self, state: Any, greedy: bool = False) -> int:
        """Return the next action."""
        self.log.note("act greedy" if greedy else "act", state)
        self.actions += 1
        return (self.actions - 1) % 3

    def update(self, state: Any, action: Any, reward: Any, next_state: Any, terminated: Any) -> None:
        """Note what the agent is told."""
        flag = bool(terminated) if isinstance(plain(as_number(terminated)), (bool, int)) else terminated
        self.log.note("update", state, action, reward, next_state, flag)
        self.log.updates.append((state, action, reward, next_state, flag))

    def end_episode(self) -> None:
        """Note the end."""
        self.log.note("end_episode")


def played(function: Callable[[Any, Any], Any], episodes: Sequence[str]) -> Any:
    """Return all that can be compared of some episodes: the returns, and the calls."""
    log = Log()
    env, agent = RecordedEnv(log, episodes), RecordedAgent(log)
    returns = [as_number(function(env, agent)) for _ in episodes]
    return None if returns == [None] * len(episodes) else {"return": returns, "calls": "; ".join(log.calls)}


def played_to_the_end(function: Callable[[Any, Any], Any], episode: str) -> dict[str, str]:
    """Return whether one episode is left before its end, whatever else is wrong with it."""
    log = recorded(function, episode)
    return {"the episode is": "left too early" if log.count("step") < len(ENDS[episode]) else "played to its end"}


def recorded(function: Callable[[Any, Any], Any], episode: str) -> Log:
    """Return the calls of one episode."""
    log = Log()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 3 * MOST_STEPS)  # a recursion for each step is right, too
    try:
        function(RecordedEnv(log, [episode]), RecordedAgent(log))
    finally:
        sys.setrecursionlimit(before)
    return log
