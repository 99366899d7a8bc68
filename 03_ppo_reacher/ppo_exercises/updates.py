"""Probes of the exercises on advantages: inputs chosen so that every known mistake shows.

All numbers are halves and quarters in float64, so that no mistake hides in rounding.

# T steps of a rollout, N environments
"""

from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Invariant, Probe, call

REWARDS = torch.tensor(
    [[1, 2], [-2, 4], [0.5, -1], [3, 0], [-1, 1.5], [2, -3], [0.5, 2.5], [4, 1], [-0.5, 2], [2, 1], [0, 0], [1, -2]],
    dtype=torch.float64,
)  # (T, N) with T = 12, N = 2; most probes use nine of the steps
VALUES = torch.tensor(
    [[2, -1], [4, 0.5], [-3, 2], [1, 6], [0.5, -2], [-4, 3], [5, 1], [1.5, -0.5], [3, 4], [0, 0], [-3, 2], [2, 5]],
    dtype=torch.float64,
)  # (T, N)
NEXT_VALUES = torch.tensor(
    [[4, 0.5], [7, 2], [1, 6], [0.5, 9], [-8, -2], [5, 3], [1.5, 1], [3, -6], [2.5, -1.5], [4, -2], [3, 8], [0, 0]],
    dtype=torch.float64,
)  # (T, N) where an episode ends, not the value of the next row


def gae_arguments(
    steps: slice,
    terminated: tuple[tuple[int, int], ...] = (),
    truncated: tuple[tuple[int, int], ...] = (),
    discount: float = 0.5,
    gae_lambda: float = 0.25,
    envs: int = 2,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Any]:
    """Return arguments of `compute_gae`: some rows of the rollout, and the places where episodes end."""
    rewards, values, next_values = (
        table[steps, :envs].to(dtype, copy=True) for table in (REWARDS, VALUES, NEXT_VALUES)
    )  # (T, N) each
    flags = torch.zeros(2, *rewards.shape, dtype=torch.bool)  # (2, T, N)
    for flag, places in zip(flags, (terminated, truncated), strict=True):
        for t, env in places:
            flag[t, env] = True
    return {
        "rewards": rewards,
        "values": values,
        "next_values": next_values,
        "terminated": flags[0],
        "truncated": flags[1],
        "discount": discount,
        "gae_lambda": gae_lambda,
    }


def _gae(name: str, relative: float = 1e-9, **settings: Any) -> Probe:
    return call("compute_gae", name, lambda: gae_arguments(**settings), relative=relative)


def _not_contiguous() -> dict[str, Any]:
    arguments = gae_arguments(slice(0, 9), terminated=((2, 0),), truncated=((5, 1),))
    return {
        name: value.t().contiguous().t() if isinstance(value, Tensor) else value for name, value in arguments.items()
    }


COMPUTE_GAE = (
    _gae("three steps within an episode", steps=slice(0, 3), envs=1),
    _gae("an episode terminates", steps=slice(0, 4), terminated=((1, 0),), envs=1),
    _gae("a time limit truncates an episode", steps=slice(0, 4), truncated=((1, 0),), envs=1),
    _gae("both flags are set", steps=slice(0, 4), terminated=((1, 0),), truncated=((1, 0),), envs=1),
    _gae("a rollout of one step", steps=slice(0, 1)),
    _gae(
        "two environments with ends of both kinds",
        steps=slice(0, 9),
        terminated=((1, 0), (6, 0), (3, 1)),
        truncated=((4, 0), (3, 1), (7, 1)),
    ),
    _gae(
        "episodes of one step",
        steps=slice(1, 4),
        terminated=((0, 0), (1, 1), (2, 1)),
        truncated=((0, 1), (1, 0), (2, 0), (2, 1)),
    ),
    _gae("lambda is 1", steps=slice(2, 7), truncated=((2, 1),), gae_lambda=1.0),
    _gae("lambda is 0", steps=slice(2, 7), truncated=((2, 1),), gae_lambda=0.0),
    _gae(
        "float32",
        steps=slice(0, 9),
        terminated=((1, 0),),
        truncated=((4, 1),),
        dtype=torch.float32,
        relative=1e-4,
    ),
    call("compute_gae", "tensors that are not contiguous", _not_contiguous),
)


def _advantages(answer: Answer, **settings: Any) -> Tensor:
    return answer["compute_gae"](*gae_arguments(slice(0, 9), **settings).values())[0]


def _no_leak(answer: Answer) -> bool:
    """Return True if nothing after the end of an episode changes the advantages before it."""
    arguments = gae_arguments(slice(0, 9), truncated=((4, 0), (4, 1)))
    before = answer["compute_gae"](*arguments.values())[0]
    arguments["rewards"][5:] += 8.0
    return torch.equal(before[:5], answer["compute_gae"](*arguments.values())[0][:5])


def _last_row(answer: Answer) -> bool:
    """Return True if the last row has the advantage that it has as a rollout of its own."""
    given = gae_arguments(slice(0, 9))
    alone = answer["compute_gae"](*gae_arguments(slice(8, 9)).values())[0]
    return torch.allclose(answer["compute_gae"](*given.values())[0][-1:], alone)


def _in_proportion(answer: Answer) -> bool:
    """Return True if rewards and values that are twice as large give advantages twice as large."""
    given = gae_arguments(slice(0, 9))
    before = answer["compute_gae"](*given.values())[0]
    for name in ("rewards", "values", "next_values"):
        given[name] = 2 * given[name]
    return torch.allclose(2 * before, answer["compute_gae"](*given.values())[0])


def _lambda_counts(answer: Answer) -> bool:
    """Return True if another lambda gives other advantages."""
    return not torch.allclose(_advantages(answer, gae_lambda=0.0), _advantages(answer, gae_lambda=1.0))


def _lambda_zero(answer: Answer) -> bool:
    deltas = (REWARDS + 0.5 * NEXT_VALUES - VALUES)[:9]
    return torch.allclose(_advantages(answer, gae_lambda=0.0), deltas)


def _gamma_zero(answer: Answer) -> bool:
    return torch.allclose(_advantages(answer, discount=0.0), (REWARDS - VALUES)[:9])


def _without_lambda(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "gae_lambda"}


def _td(name: str, relative: float = 1e-9, **settings: Any) -> Probe:
    return call("td_errors", name, lambda: _without_lambda(gae_arguments(**settings)), relative=relative)


TD_ERRORS = (
    _td("one step within an episode", steps=slice(0, 1), envs=1),
    _td("the step terminates the episode", steps=slice(1, 2), terminated=((0, 0),), envs=1),
    _td("the time limit truncates the episode", steps=slice(1, 2), truncated=((0, 0),), envs=1),
    _td("both flags are set", steps=slice(1, 2), terminated=((0, 0),), truncated=((0, 0),), envs=1),
    _td("three steps within an episode", steps=slice(2, 5), envs=1),
    _td("gamma is 1", steps=slice(2, 5), terminated=((1, 0),), discount=1.0),
    _td("gamma is 0", steps=slice(2, 5), truncated=((1, 0),), discount=0.0),
    _td("as many steps as environments", steps=slice(4, 6), terminated=((1, 0),), truncated=((0, 1),)),
    _td("float32", steps=slice(0, 9), terminated=((1, 0),), truncated=((4, 1),), dtype=torch.float32, relative=1e-4),
    call("td_errors", "tensors that are not contiguous", lambda: _without_lambda(_not_contiguous())),
)


def _td_gamma_zero(answer: Answer) -> bool:
    given = _without_lambda(gae_arguments(slice(0, 9), discount=0.0))
    return torch.allclose(answer["td_errors"](*given.values()), (REWARDS - VALUES)[:9])


def _td_own_row(answer: Answer) -> bool:
    """Return True if the TD error of a row depends on no other row."""
    given = _without_lambda(gae_arguments(slice(0, 9), terminated=((2, 0),), truncated=((5, 1),)))
    rows = {name: value[4:6] if isinstance(value, Tensor) else value for name, value in given.items()}
    whole = answer["td_errors"](*given.values())[4:6]
    return torch.allclose(whole, answer["td_errors"](*rows.values()))


def _flagged(answer: Answer, flag: str) -> Tensor:
    """Return the TD errors of steps that all have one flag, minus reward and value."""
    given = _without_lambda(gae_arguments(slice(0, 9)))
    given[flag] = torch.ones_like(given[flag])
    return answer["td_errors"](*given.values()) - (REWARDS - VALUES)[:9]


def _terminal_is_nothing(answer: Answer) -> bool:
    return bool((_flagged(answer, "terminated").abs() < 1e-9).all())


def _time_limit_goes_on(answer: Answer) -> bool:
    return torch.allclose(_flagged(answer, "truncated"), 0.5 * NEXT_VALUES[:9])


def _targets(name: str, steps: slice, envs: int = 2, dtype: torch.dtype = torch.float64) -> Probe:
    def arguments() -> dict[str, Tensor]:
        tables = {"advantages": REWARDS, "values": VALUES}
        return {name: table[steps, :envs].to(dtype, copy=True) for name, table in tables.items()}

    return call("value_targets", name, arguments, relative=1e-9 if dtype == torch.float64 else 1e-4)


VALUE_TARGETS = (
    _targets("one step of one environment", slice(1, 2), envs=1),
    _targets("three steps of one environment", slice(2, 5), envs=1),
    _targets("as many steps as environments", slice(4, 6)),
    _targets("float32", slice(0, 9), dtype=torch.float32),
    call(
        "value_targets",
        "tensors that are not contiguous",
        lambda: {"advantages": REWARDS.t().contiguous().t(), "values": VALUES.t().contiguous().t()},
    ),
)


def _target_of(answer: Answer, advantages: Tensor, values: Tensor) -> Tensor:
    return answer["value_targets"](advantages.clone(), values.clone())


def _no_surprise(answer: Answer) -> bool:
    """Return True if the target is the value where the advantage is 0."""
    return torch.allclose(_target_of(answer, torch.zeros_like(VALUES), VALUES), VALUES)


def _nothing_expected(answer: Answer) -> bool:
    """Return True if the target is the advantage where the value is 0."""
    return torch.allclose(_target_of(answer, REWARDS, torch.zeros_like(VALUES)), REWARDS)


def _target_of_own_step(answer: Answer) -> bool:
    """Return True if a target depends on no other row."""
    return torch.allclose(_target_of(answer, REWARDS, VALUES)[3:5], _target_of(answer, REWARDS[3:5], VALUES[3:5]))


PROBES = {"td_errors": TD_ERRORS, "compute_gae": COMPUTE_GAE, "value_targets": VALUE_TARGETS}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "td_errors": (
        Invariant("own_row", _td_own_row, "a TD error must not depend on the other rows; yours does"),
        Invariant("gamma_zero", _td_gamma_zero, "with gamma = 0 a TD error is r - V; yours is not"),
        Invariant("terminal_is_nothing", _terminal_is_nothing, "at a terminal state a TD error is r - V; yours is not"),
        Invariant(
            "time_limit_goes_on", _time_limit_goes_on, "at a time limit a TD error is r + gamma V' - V; yours is not"
        ),
    ),
    "compute_gae": (
        Invariant(
            "in_proportion",
            _in_proportion,
            "rewards and values twice as large must give advantages twice as large; yours do not: are they normalized?",
        ),
        Invariant("lambda_counts", _lambda_counts, "another lambda must give other advantages; yours stay the same"),
        Invariant("last_row", _last_row, "the last row's advantage must not depend on the rows before it; yours does"),
        Invariant("lambda_zero", _lambda_zero, "with lambda = 0 an advantage is its TD error alone; yours is not"),
        Invariant("gamma_zero", _gamma_zero, "with gamma = 0 an advantage is r - V; yours is not"),
        Invariant("no_leak", _no_leak, "a reward after the end of an episode changes your advantages before it"),
    ),
    "value_targets": (
        Invariant("own_step", _target_of_own_step, "a target must not depend on the other rows; yours does"),
        Invariant("no_surprise", _no_surprise, "where the advantage is 0 the target is the value; yours is not"),
        Invariant(
            "nothing_expected", _nothing_expected, "where the value is 0 the target is the advantage; yours is not"
        ),
    ),
}
