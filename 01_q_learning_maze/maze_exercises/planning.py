"""Probes of the exercises on dynamic programming and on the training loop (lesson 1). Imports no torch.

The tables of dynamics count how often they are read, and the environment counts its steps: a loop that never ends is
stopped after many more calls than any right answer makes.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from lab.exercises.probes import Answer, Changed, EndlessLoopError, Invariant, Probe, as_number, call, copied, plain
from maze_exercises.episodes import ENDS, MOST_STEPS, played, played_to_the_end, recorded

Outcomes = list[tuple[float, int, float, bool]]  # (probability, next_state, reward, terminated)
Table = list[list[Outcomes]]  # by state and action

# --- one backup -------------------------------------------------------------------------------------------------------

VALUES = [4.0, -8.0, 16.0, 2.0]


def _backup(name: str, outcomes: Outcomes, values: list[float] = VALUES, gamma: float = 0.75) -> Probe:
    return call("backup", name, copied(outcomes=outcomes, values=values, gamma=gamma), result=as_number)


def _backup_of(answer: Answer, outcomes: Outcomes, values: list[float] = VALUES, gamma: float = 0.75) -> float:
    return as_number(answer["backup"](list(outcomes), list(values), gamma))


SLIP = [(0.5, 1, 2.0, False), (0.125, 2, -4.0, False), (0.25, 3, 10.0, True), (0.125, 1, 6.0, False)]
BACKUP = (
    _backup("one step in four slips", [(0.75, 1, -1.0, False), (0.25, 2, 3.0, False)], gamma=0.25),
    _backup("the goal is one of two outcomes", [(0.125, 2, 10.0, True), (0.875, 0, -1.0, False)]),
    _backup("a single outcome", [(1.0, 3, -5.0, False)], gamma=0.25),
    _backup("gamma is 0", SLIP, gamma=0.0),
    _backup("gamma is 1", SLIP[::-1], gamma=1.0),
)


def _terminated_is_reward(answer: Answer) -> bool:
    return math.isclose(_backup_of(answer, [(0.25, 0, 3.0, True), (0.75, 2, 5.0, True)]), 4.5)


def _certain_outcome(answer: Answer) -> bool:
    return math.isclose(_backup_of(answer, [(1.0, 2, 3.0, False)]), 15.0)


def _order_of_outcomes(answer: Answer) -> bool:
    return math.isclose(_backup_of(answer, SLIP), _backup_of(answer, SLIP[::-1]))


def _split_outcome(answer: Answer) -> bool:
    """Return True if an outcome may be written as two, each half as probable."""
    halves = [(p / 2, state, reward, ended) for p, state, reward, ended in SLIP for _ in range(2)]
    return math.isclose(_backup_of(answer, SLIP), _backup_of(answer, halves))


# --- value iteration --------------------------------------------------------------------------------------------------


class Budget:
    """Counts how often lists of outcomes are read, and raises EndlessLoopError after `reads`."""

    def __init__(self, reads: int) -> None:
        self.left = reads

    def spend(self) -> None:
        """Count one read."""
        self.left -= 1
        if self.left < 0:
            raise EndlessLoopError("the sweeps go on and on: does the largest change ever pass your test?")


class CountedList(list[Any]):
    """A list of outcomes that counts how often it is read."""

    budget: Budget

    def __getitem__(self, index: Any) -> Any:
        self.budget.spend()
        return super().__getitem__(index)

    def __iter__(self) -> Any:
        self.budget.spend()
        return super().__iter__()


def counted(table: Table, reads: int, as_dict: bool = False) -> Any:
    """Return a copy of a table whose lists of outcomes may be read `reads` times in all."""
    budget = Budget(reads)

    def wrap(outcomes: Outcomes) -> CountedList:
        wrapped = CountedList(outcomes)
        wrapped.budget = budget
        return wrapped

    rows = [[wrap(outcomes) for outcomes in row] for row in table]
    return dict(enumerate(rows)) if as_dict else rows


def corridor(cells: int, cheese: int) -> Table:
    """Return a row of cells with the cheese at one end; the actions are left and right."""

    def step(cell: int, move: int) -> Outcomes:
        if cell == cheese:
            return [(1.0, cell, 0.0, True)]
        target = min(max(cell + move, 0), cells - 1)
        return [(1.0, target, 10.0 if target == cheese else -1.0, target == cheese)]

    return [[step(cell, move) for move in (-1, 1)] for cell in range(cells)]


# The cheese ends the episode; the numbers in its own row must not count.
THREE_CELLS: Table = [
    [[(1.0, 0, -1.0, False)], [(0.75, 1, -1.0, False), (0.25, 0, -2.0, False)]],
    [[(1.0, 0, -1.0, False)], [(0.5, 2, 10.0, True), (0.5, 1, -1.0, False)]],
    [[(1.0, 2, 4.0, False)], [(1.0, 0, 2.0, False)]],
]
# Three states, three actions, costs only, and no end.
TOLLS: Table = [
    [[(1.0, 1, -2.0, False)], [(0.5, 0, -3.0, False), (0.5, 2, -1.0, False)], [(1.0, 2, -4.0, False)]],
    [[(1.0, 1, -1.5, False)], [(1.0, 0, -0.5, False)], [(0.25, 2, -1.0, False), (0.75, 0, -2.0, False)]],
    [[(0.5, 2, -1.0, False), (0.5, 1, -2.5, False)], [(1.0, 2, -2.0, False)], [(1.0, 0, -3.0, False)]],
]
STICKY: Table = [[[(1023 / 1024, 0, -1.0, False), (1 / 1024, 0, -1.0, True)]]]  # the way out is rarely found
SAVINGS: Table = [[[(1.0, 0, 1.0, False)], [(1.0, 0, 0.5, False)]]]  # 1 in every step, for ever
READS = 10  # of the outcomes of one action in one sweep, at most


def _sweeps(
    name: str, table: Table, gamma: float, tolerance: float, sweeps: int, as_dict: bool = False, **settings: Any
) -> Probe:
    """Return a probe of value iteration that is stopped after about `sweeps` sweeps."""
    reads = sweeps * len(table) * len(table[0]) * READS

    def run(answer: Answer) -> Any:
        dynamics = counted(table, reads, as_dict)
        q = answer["value_iteration"](dynamics, gamma, tolerance)
        rows = list(dynamics.values()) if as_dict else dynamics
        return Changed(plain(q), () if rows == table else ("dynamics",))

    def shown() -> Mapping[str, Any]:
        return {"dynamics": table, "gamma": gamma, "tolerance": tolerance}

    return Probe(name, run, shown, **settings)


ENOUGH = 3500  # reads per action in SAVINGS with a tolerance of 1/2: about 180 sweeps, while 1e-10 takes 5,900


def _large_tolerance(answer: Answer) -> Any:
    """Return a result for a large tolerance, and whether the sweeps end in time."""
    dynamics = counted(SAVINGS, 20 * ENOUGH)
    q = plain(answer["value_iteration"](dynamics, 1 - 1 / 256, 0.5))
    spent = 20 * ENOUGH - dynamics[0][0].budget.left
    return {"q": q, "sweeps": "enough" if spent <= 2 * ENOUGH else "too many"}


VALUE_ITERATION = (
    _sweeps("two cells and the cheese", THREE_CELLS, 0.5, 2**-36, sweeps=200, as_dict=True, absolute=1e-8),
    _sweeps("a corridor of 30 cells, cheese at the end", corridor(30, 29), 1.0, 0.0, sweeps=120),
    _sweeps("costs only, gamma near 1", TOLLS, 0.9375, 1e-12, sweeps=900, absolute=1e-9),
    _sweeps("a way out that is rarely found", STICKY, 1.0, 2**-20, sweeps=14_000, absolute=4e-3),
    Probe(
        "a large tolerance",
        _large_tolerance,
        lambda: {"dynamics": SAVINGS, "gamma": 1 - 1 / 256, "tolerance": 0.5},
        absolute=600.0,  # of values up to 256, from any start
    ),
)


def _tolerance_counts(answer: Answer) -> bool:
    return _large_tolerance(answer)["sweeps"] == "enough"


def _q_of(answer: Answer, table: Table, gamma: float, tolerance: float = 1e-10) -> list[list[float]]:
    dynamics = counted(table, 150_000)
    return plain(answer["value_iteration"](dynamics, gamma, tolerance))


def _alike(one: list[list[float]], other: list[list[float]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        math.isclose(a, b, abs_tol=1e-6) for row, other_row in pairs for a, b in zip(row, other_row, strict=True)
    )


def _bellman(answer: Answer) -> bool:
    """Return True if the result satisfies Q(s,a) = Σ p [r + γ max Q(s')]."""
    q = _q_of(answer, TOLLS, 0.875)
    return all(
        math.isclose(q[s][a], sum(p * (r + 0.875 * max(q[next_s])) for p, next_s, r, _ in outcomes), abs_tol=1e-6)
        for s, row in enumerate(TOLLS)
        for a, outcomes in enumerate(row)
    )


def _gamma_zero(answer: Answer) -> bool:
    q = _q_of(answer, THREE_CELLS, 0.0)
    rewards = [[sum(p * r for p, _, r, _ in outcomes) for outcomes in row] for row in THREE_CELLS]
    return _alike(q, rewards)


def _behind_the_cheese(answer: Answer) -> bool:
    other = [*THREE_CELLS[:2], [[(1.0, 2, -7.0, False)], [(1.0, 2, 9.0, False)]]]
    return _alike(_q_of(answer, THREE_CELLS, 0.5)[:2], _q_of(answer, other, 0.5)[:2])


def _enough_sweeps(answer: Answer) -> bool:
    return math.isclose(_q_of(answer, corridor(60, 59), 1.0)[0][1], 10.0 - 58.0)


# --- one episode ------------------------------------------------------------------------------------------------------


def _episode(name: str, *episodes: str) -> Probe:
    """Return a probe that plays episodes, one after another with the same environment and agent."""

    def run(answer: Answer) -> Any:
        return played(answer["play_and_learn"], episodes)

    return Probe(name, run, copied(**{"steps (next state, reward, terminated, truncated)": ENDS[episodes[0]]}))


def _whole_episode(answer: Answer) -> Any:
    return played_to_the_end(answer["play_and_learn"], "long")


PLAY_AND_LEARN = (
    _episode("three steps to the cheese", "cheese"),
    _episode("the time limit ends the episode", "time"),
    _episode("the cheese in the last step before the time limit", "both"),
    Probe(f"an episode of {MOST_STEPS:,} steps", _whole_episode),
)


def _property(holds: Callable[[Any], bool]) -> Callable[[Answer], bool]:
    """Return a property of the recorded calls, of an episode of every kind."""
    return lambda answer: all(holds(recorded(answer["play_and_learn"], kind)) for kind in ENDS)


PROBES = {"backup": BACKUP, "value_iteration": VALUE_ITERATION, "play_and_learn": PLAY_AND_LEARN}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "backup": (
        Invariant("certain", _certain_outcome, "a certain outcome is worth r + gamma V(s'); yours is not"),
        Invariant(
            "terminated", _terminated_is_reward, "if all outcomes are terminated, only the rewards count; yours differs"
        ),
        Invariant("order", _order_of_outcomes, "the order of the outcomes must not matter; yours depends on it"),
        Invariant(
            "split", _split_outcome, "an outcome written as two halves must count the same; is each weighted by p?"
        ),
    ),
    "value_iteration": (
        Invariant("tolerance", _tolerance_counts, "with a larger tolerance fewer sweeps are enough; is yours used?"),
        Invariant("gamma_zero", _gamma_zero, "with gamma = 0 Q is the expected reward; yours is not"),
        Invariant(
            "behind_the_cheese", _behind_the_cheese, "the row of the cheese must not change the values before it"
        ),
        Invariant("enough_sweeps", _enough_sweeps, "the value of the cheese does not get through a long corridor"),
        Invariant(
            "bellman", _bellman, "your Q does not satisfy its equation: is it the max, and are the sweeps enough?"
        ),
    ),
    "play_and_learn": (
        Invariant(
            "one_update",
            _property(lambda log: log.count("update") == log.count("step")),
            "the agent must learn from every step exactly once",
        ),
        Invariant(
            "one_action",
            _property(lambda log: log.count("act") == log.count("step")),
            "the agent must choose exactly one action for every step",
        ),
        Invariant(
            "one_end",
            _property(lambda log: log.count("end_episode") == 1 and log.names[-1] == "end_episode"),
            "`end_episode` must be called once, after the last step",
        ),
        Invariant(
            "order",
            _property(lambda log: log.in_order()),
            "in every step: choose an action, take it, learn from it, and only then choose the next one",
        ),
        Invariant(
            "what_was_learned",
            _property(lambda log: log.told_the_truth()),
            "`update` must be told what happened: the state acted in, the action, reward, next state and terminated",
        ),
    ),
}
