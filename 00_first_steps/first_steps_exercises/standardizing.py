"""Probes of the exercise on standardization: inputs chosen so that every known mistake shows.

A small number added to the deviation is fine, so results are compared with a tolerance of 1e-4.

# N examples, F features of an example
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Invariant, Probe, call

Rows = Sequence[Sequence[float]]


def _standardize(name: str, rows: Rows, dtype: torch.dtype = torch.float64, transposed: bool = False) -> Probe:
    def arguments() -> dict[str, Tensor]:
        x = torch.tensor(rows, dtype=dtype)
        return {"x": x.t() if transposed else x}

    return call("standardize", name, arguments, relative=1e-4, absolute=1e-4)


FIVE = [[1.0, 40.0, -3.0], [2.0, -8.0, 0.5], [6.0, 16.0, 1.0], [-1.0, 0.0, 2.5], [3.0, -24.0, -6.0]]
SQUARE = [[1.0, 8.0, -2.0], [4.0, -2.0, 0.5], [-3.0, 1.0, 6.0]]
STANDARDIZE = (
    _standardize("two examples, one feature", [[3.0], [-1.0]]),
    _standardize("one feature", [[3.0], [-1.0], [0.5], [4.0]]),
    _standardize("the means are 0 already", [[4.0, 1.0], [-4.0, -3.0], [2.0, 5.0], [-2.0, -3.0]]),
    _standardize("the deviations are 1 already", [[4.0, -7.0], [2.0, -9.0], [4.0, -9.0], [2.0, -7.0]]),
    _standardize("far from 0", [[each + 1024 for each in row] for row in SQUARE]),
    _standardize("float32", FIVE, dtype=torch.float32),
    _standardize("a tensor that is not contiguous", FIVE[:2], transposed=True),
)


def _standardized(answer: Answer, x: Tensor) -> Tensor:
    return answer["standardize"](x.clone())


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-3)


def _table() -> Tensor:
    return torch.tensor(FIVE, dtype=torch.float64)


def _mean_zero(answer: Answer) -> bool:
    return _close(_standardized(answer, _table()).mean(0), torch.zeros(3).double())


def _deviation_one(answer: Answer) -> bool:
    """Return True if all deviations are 1, whether they are divided by N or by N - 1."""
    result = _standardized(answer, _table())
    return any(_close(result.std(0, correction=correction), torch.ones(3).double()) for correction in (0, 1))


def _own_column(answer: Answer) -> bool:
    """Return True if a feature's result depends on nothing of the others."""
    table, other = _table(), _table()
    other[:, 1:] *= 8
    return _close(_standardized(answer, table)[:, 0], _standardized(answer, other)[:, 0])


def _units_do_not_matter(answer: Answer) -> bool:
    table, factors = _table(), torch.tensor([8.0, 0.5, 2.0]).double()
    return _close(_standardized(answer, table), _standardized(answer, table * factors + 4))


def _order_of_examples(answer: Answer) -> bool:
    table, order = _table(), torch.tensor([2, 0, 4, 3, 1])
    return _close(_standardized(answer, table)[order], _standardized(answer, table[order]))


PROBES = {"standardize": STANDARDIZE}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "standardize": (
        Invariant("mean_zero", _mean_zero, "the mean of every feature must be 0; yours is not"),
        Invariant("own_column", _own_column, "a feature must not depend on the other features; yours does"),
        Invariant("deviation_one", _deviation_one, "the deviation of every feature must be 1; yours is not"),
        Invariant("order_of_examples", _order_of_examples, "permuted examples must permute the result; yours differs"),
        Invariant("units", _units_do_not_matter, "a feature in other units must give the same result; yours differs"),
    ),
}
