"""Probes of the exercises of lesson 1: inputs chosen so that every known mistake shows. Imports no torch.

All numbers are halves and quarters, so that results can be checked by hand and no mistake hides in rounding.
"""

from typing import Any

from lab.exercises.probes import Answer, Invariant, Probe, call, copied


def _target(name: str, next_values: list[float], terminated: bool, truncated: bool, reward: float = 2.0) -> Probe:
    arguments = {"reward": reward, "next_values": next_values, "terminated": terminated, "truncated": truncated}
    return call("td_target", name, copied(**arguments, gamma=0.5))


def _step_of(answer: Answer, gamma: float) -> float:
    return answer["td_target"](1.0, [8.0, 2.0], False, False, gamma)


TD_TARGET = (
    _target("a step within the episode", [-4.0, 8.0, 3.0], terminated=False, truncated=False),
    _target("the goal is reached", [-4.0, 8.0, 3.0], terminated=True, truncated=False),
    _target("the time limit ends the episode", [-4.0, 8.0, 3.0], terminated=False, truncated=True),
    _target("the goal is reached in the last step", [-4.0, 8.0, 3.0], terminated=True, truncated=True),
    _target("all values are negative", [-4.0, -8.0, -6.0], terminated=False, truncated=False, reward=-1.0),
    _target("a single action", [6.0], terminated=False, truncated=False),
)


def _update(name: str, table: dict[tuple[int, int], float], alpha: float = 0.25, target: float = 8.0) -> Probe:
    """Return a probe that updates entry (1, 2) and compares the whole table."""

    def run(answer: Answer) -> Any:
        changed = dict(table)
        result = answer["q_update"](changed, 1, 2, target, alpha)
        return {"table": changed, "returns None": result is None}

    arguments = {"table": table, "state": 1, "action": 2, "target": target, "alpha": alpha}
    return Probe(name, run, copied(**arguments))


FULL = {(1, 0): 3.0, (1, 2): 4.0, (2, 1): 7.0, (2, 2): 5.0, (1, 3): 1.0, (0, 2): 6.0}
Q_UPDATE = (
    _update("an entry that exists", FULL),
    _update("an entry that is not there yet", {(1, 0): 3.0, (2, 1): 7.0}),
    _update("alpha is 1", FULL, alpha=1.0),
    _update("the old value is the target", FULL, target=4.0),
    _update("a negative target", FULL, alpha=0.5, target=-2.0),
    _update("alpha is 0", FULL, alpha=0.0),
)

PROBES = {"td_target": TD_TARGET, "q_update": Q_UPDATE}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "td_target": (
        Invariant(
            "gamma_zero",
            lambda answer: _step_of(answer, 0.0) == 1.0,
            "with gamma = 0 only the reward counts; yours depends on what comes after it",
        ),
    ),
}
