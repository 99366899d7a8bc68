"""Probes of the exercises on running statistics: inputs chosen so that every known mistake shows.

Some probes leave one term alone: batches with equal means, batches of equal rows, a discount of 0.

# B batch, T steps of a rollout, N environments
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.exercises.probes import Answer, Changed, Invariant, Probe, noting_changes

Rows = Sequence[Sequence[float]]
FAR = 2.0**20  # far from 0, where float32 has a resolution of 1/8


def _statistics(answer: Answer, dim: int, batches: Sequence[Tensor]) -> Any:
    """Return an instance that has seen the batches."""
    statistics = answer["RunningMeanStd"](dim)
    for batch in batches:
        statistics.update(batch)
    return statistics


def _value(statistics: Any, name: str) -> Any:
    """Return `mean` or `std`, an attribute, a property or a method, as a tensor if it is an array or a list."""
    value = getattr(statistics, name)
    value = value() if callable(value) else value
    return value.clone() if torch.is_tensor(value) else torch.from_numpy(np.array(value))


def _running(name: str, *batches: Rows, offset: float = 0.0, dtype: torch.dtype = torch.float64) -> Probe:
    dim = len(batches[0][0])

    def arguments() -> dict[str, Any]:
        return {f"batch {n + 1}": torch.tensor(rows, dtype=dtype) + offset for n, rows in enumerate(batches)}

    def run(answer: Answer) -> Changed:
        given = arguments()

        def seen() -> list[Any]:
            statistics = answer["RunningMeanStd"](dim)
            found = []
            for batch in given.values():
                statistics.update(batch)
                found.append({"mean": _value(statistics, "mean") - offset, "std": _value(statistics, "std")})
            return found

        return noting_changes(given, seen)

    return Probe(name, run, arguments, relative=1e-4, absolute=1.5e-4)


ONE = [[3.0, -1.0, 0.5]]
TWO = [[1.0, 2.0, -4.0], [-2.0, 5.0, 1.5]]
THREE = [[0.5, -3.0, 2.0], [4.0, 1.0, -1.0], [2.5, -0.5, 6.0]]
FIVE = [[2.0, 1.0, 0.0], [-1.0, 4.0, 3.0], [0.5, -2.0, 1.0], [6.0, 0.0, -5.0], [-3.5, 2.5, 2.0]]
RUNNING_MEAN_STD = (
    _running("one batch of one row", ONE),
    _running("one batch of five rows", FIVE),
    _running("one feature", [[1.0], [4.0]], [[-2.0]], [[3.0], [0.5], [7.0]]),
    _running("two batches with the mean 0", [[1.0, -2.0], [-1.0, 2.0]], [[3.0, 1.0], [0.0, -4.0], [-3.0, 3.0]]),
    _running(
        "numbers around 2 ** 20, one that never changes",
        [[64.0625, 0.0], [-64.0, 0.0]],
        [[16.0625, 0.0]],
        [[96.0, 0.0], [-32.0625, 0.0], [-80.0, 0.0]],
        offset=FAR,
    ),
    _running("float32", ONE, TWO, FIVE, dtype=torch.float32),
)


def _any_batches(answer: Answer) -> bool:
    """Return True if the same rows in one batch, or one by one, give the same statistics."""
    rows = torch.tensor([*THREE, *FIVE], dtype=torch.float64)
    together, single = _statistics(answer, 3, [rows]), _statistics(answer, 3, rows.split(1))
    return all(
        torch.allclose(_value(together, name), _value(single, name), rtol=1e-4, atol=1.5e-4) for name in ("mean", "std")
    )


def _shift_free(answer: Answer) -> bool:
    """Return True if a number added to all rows changes the mean by it, and the deviation not at all."""
    batches = [torch.tensor(rows, dtype=torch.float64) for rows in (ONE, TWO, FIVE)]
    before, after = _statistics(answer, 3, batches), _statistics(answer, 3, [batch + 8 for batch in batches])
    shifted = torch.allclose(_value(before, "mean") + 8, _value(after, "mean"), rtol=1e-4)
    return shifted and torch.allclose(_value(before, "std"), _value(after, "std"), rtol=1e-4, atol=1.5e-4)


Ends = Sequence[tuple[int, int]]  # places (t, env) where episodes end


def rollout_tensors(rewards: Rows, ends: Ends) -> tuple[Tensor, Tensor]:
    """Return the rewards and the ends of episodes of a rollout, (T, N) each."""
    table = torch.tensor(rewards, dtype=torch.float64)
    ended = torch.zeros(table.shape, dtype=torch.bool)
    for t, env in ends:
        ended[t, env] = True
    return table, ended


def _numbers(value: Any) -> Any:
    """Return a tensor or an array as a tensor of float64; float32 is as good for rewards."""
    return (
        torch.tensor(value, dtype=torch.float64)
        if isinstance(value, np.ndarray)
        else (value.to(torch.float64, copy=True) if torch.is_tensor(value) else value)
    )


def _scaler(
    name: str,
    *rollouts: tuple[Rows, Ends],
    discount: float = 0.5,
) -> Probe:
    """Return a probe that updates with every rollout, and scales its rewards."""

    def arguments() -> dict[str, Any]:
        given: dict[str, Any] = {"discount": discount}
        for number, (rewards, ends) in enumerate(rollouts, 1):
            given[f"rewards {number}"], given[f"ended {number}"] = rollout_tensors(rewards, ends)
            given[f"to scale {number}"] = torch.tensor(rewards, dtype=torch.float64)
        return given

    def run(answer: Answer) -> Changed:
        given = arguments()

        def results() -> list[Any]:
            scaler = answer["RewardScaler"](len(rollouts[0][0][0]), discount)
            found = []
            for number in range(1, len(rollouts) + 1):
                scaler.update(given[f"rewards {number}"], given[f"ended {number}"])
                found += [scaler(given[f"to scale {number}"]) for _ in range(2)]
            return [_numbers(each) for each in found]

        return noting_changes(given, results)

    return Probe(name, run, arguments, relative=1e-3, absolute=1e-6)


COLUMN = [[1.0], [-2.0], [0.5], [-1.0], [3.0]]
PAIRS = [[1.0, -2.0], [-2.0, 0.5], [3.0, -1.0], [-0.5, 2.0]]
REWARD_SCALER = (
    _scaler("one environment, no end", (COLUMN, ())),
    _scaler("one environment, an end in the middle", (COLUMN, ((1, 0),))),
    _scaler("two environments, no end", (PAIRS, ())),
    _scaler("two environments, one ends", (PAIRS, ((1, 1),))),
    _scaler("gamma is 0", (PAIRS, ((2, 0),)), discount=0.0),
    _scaler("gamma is 1", (PAIRS, ((1, 1), (2, 0))), discount=1.0),
    _scaler("two rollouts, an episode goes on", (PAIRS[:2], ((0, 0),)), (PAIRS[2:], ((0, 1),))),
    _scaler("rewards of thousands", ([[1024.0, -2048.0], [512.0, 4096.0], [-3072.0, 256.0]], ((0, 1),))),
)


def _scaled(answer: Answer, factor: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return rewards and the scaled ones."""
    rewards, ended = rollout_tensors(PAIRS, ((1, 1),))
    scaler = answer["RewardScaler"](2, 0.5)
    scaler.update(factor * rewards, ended)
    return rewards, scaler(factor * rewards).double()


def _one_factor(answer: Answer) -> bool:
    """Return True if all rewards are divided by the same number."""
    rewards, scaled = _scaled(answer)
    factors = scaled / rewards
    return torch.allclose(factors, factors[0, 0].expand_as(factors), rtol=1e-4)


def _scale_free(answer: Answer) -> bool:
    """Return True if rewards that are all 8 times as large give the same result."""
    return torch.allclose(_scaled(answer)[1], _scaled(answer, 8.0)[1], rtol=1e-3)


def _end_of_episode(answer: Answer) -> bool:
    """Return True if two rollouts whose episodes all end in between give the same whichever comes first."""
    results = []
    for order in ((0, 1), (1, 0)):
        rollouts = [rollout_tensors(PAIRS[:2], ((1, 0), (1, 1))), rollout_tensors(PAIRS[2:], ((1, 0), (1, 1)))]
        scaler = answer["RewardScaler"](2, 0.5)
        for number in order:
            scaler.update(*rollouts[number])
        results.append(scaler(torch.ones(1, 2, dtype=torch.float64)).double())
    return torch.allclose(*results, rtol=1e-3)


PROBES = {"RunningMeanStd": RUNNING_MEAN_STD, "RewardScaler": REWARD_SCALER}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "RunningMeanStd": (
        Invariant("any_batches", _any_batches, "the same rows one by one, or as one batch, must give the same result"),
        Invariant("shift_free", _shift_free, "8 added to all rows must add 8 to the mean and change no deviation"),
    ),
    "RewardScaler": (
        Invariant("one_factor", _one_factor, "all rewards must be divided by the same number; yours are not"),
        Invariant("scale_free", _scale_free, "rewards that are all 8 times as large must give the same result"),
        Invariant(
            "end_of_episode", _end_of_episode, "what was before the end of an episode changes what comes after it"
        ),
    ),
}
