"""Probes of the exercises on the table of Q-values: inputs chosen so that every known mistake shows. Imports no torch.

All numbers are multiples of 1/16, so that results can be checked by hand and no mistake hides in rounding. gamma and
alpha are rarely 1/2, where 1 - gamma is the same.
"""

from typing import Any

from lab.exercises.probes import Answer, Invariant, Probe, as_number, call, copied


def _target(
    name: str,
    next_values: list[float],
    terminated: bool = False,
    truncated: bool = False,
    reward: float = 3.0,
    gamma: float = 0.75,
) -> Probe:
    arguments = {"reward": reward, "next_values": next_values, "terminated": terminated, "truncated": truncated}
    return call("td_target", name, copied(**arguments, gamma=gamma), result=as_number)


def _target_of(answer: Answer, *arguments: Any) -> Any:
    return as_number(answer["td_target"](*arguments))


TD_TARGET = (
    _target("a step within the episode", [-4.0, 8.0, 3.0], reward=2.0, gamma=0.5),
    _target("the goal is reached", [-4.0, 8.0, 3.0], terminated=True),
    _target("the time limit ends the episode", [-4.0, 8.0, 3.0], truncated=True),
    _target("the goal is reached in the last step", [-4.0, 8.0, 3.0], terminated=True, truncated=True),
    _target("all values are negative", [-4.0, -8.0, -6.0], reward=-1.0, gamma=0.25),
    _target("the last action is the best", [0.0, -3.0, 1.0, 7.0], reward=-8.0, gamma=0.25),
    _target("a single action", [6.0], reward=0.0),
    _target("gamma is 1", [-2.0, -4.0], reward=-5.0, gamma=1.0),
)


def _update(
    name: str,
    table: dict[tuple[int, int], float],
    alpha: float = 0.25,
    target: float = 8.0,
    state: int = 1,
    action: int = 2,
) -> Probe:
    """Return a probe that updates an entry and compares the whole table."""

    def run(answer: Answer) -> Any:
        changed = dict(table)
        result = answer["q_update"](changed, state, action, target, alpha)
        changed.setdefault((state, action), 0.0)  # an entry that is not there counts as 0
        return {"table": {key: as_number(value) for key, value in changed.items()}, "returns None": result is None}

    arguments = {"table": table, "state": state, "action": action, "target": target, "alpha": alpha}
    return Probe(name, run, copied(**arguments))


FULL = {(1, 0): 3.0, (1, 2): 4.0, (2, 1): 7.0, (2, 2): 5.0, (1, 3): 1.0, (0, 2): 6.0}
NEGATIVE = {(0, 0): -4.0, (0, 1): -2.0, (1, 0): -1.0, (3, 0): 2.0, (0, 3): -6.0}
Q_UPDATE = (
    _update("an entry that exists", FULL),
    _update("an entry that is not there yet", {(1, 0): 3.0, (2, 1): 7.0}),
    _update("alpha is 1", FULL, alpha=1.0),
    _update("alpha is 0", FULL, alpha=0.0),
    _update("state 0, action 0", NEGATIVE, alpha=0.125, target=-11.25, state=0, action=0),
    _update("an entry whose value is 0", {(3, 1): 0.0, (1, 3): 2.0}, alpha=0.75, state=3, action=1),
    _update("a table without entries", {}, alpha=0.375, target=-6.25, state=5, action=0),
)


def _unvisited(answer: Answer) -> bool:
    """Return True if no entry but the visited one is changed."""
    table = dict(FULL)
    answer["q_update"](table, 1, 2, 9.0, 0.25)
    table.pop((1, 2), None)
    return table == {key: value for key, value in FULL.items() if key != (1, 2)}


def _alpha_one(answer: Answer) -> bool:
    table = dict(FULL)
    answer["q_update"](table, 1, 2, 9.0, 1.0)
    return as_number(table.get((1, 2))) == 9.0


def _between(answer: Answer) -> bool:
    table = dict(FULL)
    answer["q_update"](table, 1, 2, 9.0, 0.625)
    return 4.0 <= as_number(table.get((1, 2), 0.0)) <= 9.0


def _decay(name: str, epsilon: float, decay: float, minimum: float) -> Probe:
    arguments = {"epsilon": epsilon, "decay": decay, "minimum": minimum}
    return call("decayed_epsilon", name, copied(**arguments), result=as_number)


DECAYED_EPSILON = (
    _decay("above the minimum", 1.0, 0.75, 0.25),
    _decay("the product falls below the minimum", 0.25, 0.5, 0.1875),
    _decay("a minimum of 0", 0.25, 0.375, 0.0),
    _decay("no decay", 0.625, 1.0, 0.125),
    _decay("epsilon is 0", 0.0, 0.5, 0.125),
)


def _never_below(answer: Answer) -> bool:
    return all(as_number(answer["decayed_epsilon"](epsilon, 0.25, 0.5)) >= 0.5 for epsilon in (0.5, 0.625, 1.0, 0.25))


def _no_decay(answer: Answer) -> bool:
    return as_number(answer["decayed_epsilon"](0.75, 1.0, 0.5)) == 0.75


def _shrinks(answer: Answer) -> bool:
    return as_number(answer["decayed_epsilon"](0.75, 0.5, 0.125)) < 0.75


PROBES = {"td_target": TD_TARGET, "q_update": Q_UPDATE, "decayed_epsilon": DECAYED_EPSILON}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "td_target": (
        Invariant(
            "gamma_zero",
            lambda answer: _target_of(answer, 1.0, [8.0, 2.0], False, False, 0.0) == 1.0,
            "with gamma = 0 only the reward counts; yours depends on what comes after it",
        ),
        Invariant(
            "terminated",
            lambda answer: (
                _target_of(answer, 1.0, [8.0, 2.0], True, False, 0.75)
                == _target_of(answer, 1.0, [-5.0, 3.0], True, False, 0.75)
            ),
            "nothing comes after the goal, but your target depends on the values there",
        ),
        Invariant(
            "time_limit",
            lambda answer: (
                _target_of(answer, 1.0, [8.0, 2.0], False, True, 0.75)
                == _target_of(answer, 1.0, [8.0, 2.0], False, False, 0.75)
            ),
            "the time limit must change nothing: your target depends on `truncated`",
        ),
        Invariant(
            "order_of_actions",
            lambda answer: (
                _target_of(answer, 1.0, [8.0, 2.0, -3.0], False, False, 0.75)
                == _target_of(answer, 1.0, [2.0, -3.0, 8.0], False, False, 0.75)
            ),
            "the order of the actions must not matter; your target depends on it",
        ),
    ),
    "q_update": (
        Invariant("unvisited", _unvisited, "only the entry (state, action) may change; yours changes others"),
        Invariant("alpha_one", _alpha_one, "with alpha = 1 the entry becomes the target; yours does not"),
        Invariant("between", _between, "the new value must lie between the old one and the target; yours does not"),
    ),
    "decayed_epsilon": (
        Invariant("never_below", _never_below, "epsilon must never fall below its minimum; yours does"),
        Invariant("no_decay", _no_decay, "with decay = 1 epsilon must stay as it is; yours changes"),
        Invariant("shrinks", _shrinks, "with a decay below 1 epsilon must shrink; yours does not"),
    ),
}
