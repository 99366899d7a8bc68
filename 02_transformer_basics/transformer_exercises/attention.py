"""Probes of the exercises on attention: inputs chosen so that every known mistake shows.

All sizes differ, so that a wrong axis shows; one probe is square, where a wrong axis keeps the shape.

Shapes: B batch, H heads, Tq queries, Tk keys, D head size, Dv size of a value.
"""

from typing import Any

import torch
from torch import Tensor

from lab.exercises.gradients import gradients_flow
from lab.exercises.probes import Answer, Invariant, Probe, call
from transformer_exercises.inputs import dyadic, not_contiguous


def _softmax(name: str, x: Tensor, dim: int, relative: float = 1e-9) -> Probe:
    return call("softmax", name, lambda: {"x": x.clone(), "dim": dim}, relative=relative)


def _rows(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


SOFTMAX_GRADIENT = gradients_flow("softmax", lambda: {"x": dyadic(2, 3, seed=9), "dim": 1}, "x")
SOFTMAX = (
    _softmax("rows of a matrix", _rows([0, 1, 0.5], [2, 0, -1]), -1),
    _softmax("columns of a matrix", _rows([0, 1, 0.5], [2, 0, -1]), 0),
    _softmax("numbers around 1000 and around -1000", _rows([1000, 999], [0, 1], [-1000, -1000]), -1),
    _softmax("1000 and 0 in one row", _rows([1000, 0, 998], [-1000, 0, 1], [1000, -1000, -999]), 1),
    _softmax("the second of four dimensions, counted from the end", dyadic(2, 3, 1, 2, seed=6), -3),
    _softmax("a vector", dyadic(4, seed=7), 0),
    _softmax("float32", dyadic(2, 4, seed=8, dtype=torch.float32) - 100, 1, relative=1e-4),
    call(
        "softmax", "a tensor that is not contiguous", lambda: {"x": not_contiguous(dyadic(2, 3, 4, seed=6)), "dim": 2}
    ),
)


def _sums_to_1(answer: Answer) -> bool:
    x = dyadic(2, 3, 4, seed=6)
    return all(torch.allclose(answer["softmax"](x.clone(), dim).sum(dim), x.sum(dim) * 0 + 1) for dim in (0, 1, 2))


def _shift_changes_nothing(answer: Answer) -> bool:
    x = dyadic(2, 3, 4, seed=6)
    return torch.allclose(answer["softmax"](x.clone(), 1), answer["softmax"](x + 4, 1))


def _causal(name: str, queries: int, keys: int) -> Probe:
    return call("causal_mask", name, lambda: {"queries": queries, "keys": keys})


CAUSAL_MASK = (
    _causal("as many queries as keys", 4, 4),
    _causal("three keys are in the cache: the first query is position 3", 2, 5),
    _causal("one new query", 1, 4),
    _causal("more queries than keys in the cache", 5, 7),
    _causal("1500 keys: no fixed size is enough", 2, 1500),
)


def _no_future(answer: Answer) -> bool:
    mask = answer["causal_mask"](3, 5)
    return not any(mask[query, key] for query in range(3) for key in range(5) if key > query + 2)


def _own_position(answer: Answer) -> bool:
    mask = answer["causal_mask"](3, 5)
    return all(mask[query, query + 2] for query in range(3))


def tensors(*batch: int, queries: int, keys: int, size: int, value_size: int, **settings: Any) -> dict[str, Tensor]:
    """Return query (..., Tq, D), key (..., Tk, D) and value (..., Tk, Dv)."""
    return {
        "query": dyadic(*batch, queries, size, seed=0, **settings),
        "key": dyadic(*batch, keys, size, seed=1, **settings),
        "value": dyadic(*batch, keys, value_size, seed=2, **settings),
    }


def huge() -> dict[str, Tensor]:
    """Return a query, a key and a value whose scores are up to 65536 or down to -65536."""
    return {
        "query": torch.tensor([[256.0], [-256.0]], dtype=torch.float64),
        "key": torch.tensor([[256.0], [-256.0], [128.0]], dtype=torch.float64),
        "value": torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64),
    }


def _attention(name: str, *batch: int, relative: float = 1e-9, **settings: Any) -> Probe:
    return call("attention", name, lambda: tensors(*batch, **settings), relative=relative)


SMALL = {"queries": 2, "keys": 3, "size": 4, "value_size": 2}
SIZES = {"queries": 4, "keys": 5, "size": 4, "value_size": 6}
ATTENTION_GRADIENT = gradients_flow("attention", lambda: tensors(**SMALL), "query", "key", "value")
ATTENTION = (
    _attention("one head of one sequence", **SMALL),
    _attention("B 2, H 3, Tq 4, Tk 5, D 4, Dv 6", 2, 3, **SIZES),
    _attention("as many queries as keys, heads and numbers", 3, 3, queries=3, keys=3, size=3, value_size=3),
    _attention("a batch without heads, heads of size 1", 2, queries=3, keys=2, size=1, value_size=2),
    call("attention", "scores of thousands", huge),
    _attention("float32", 2, 3, **SIZES, dtype=torch.float32, relative=1e-4),
    call(
        "attention",
        "tensors that are not contiguous",
        lambda: {name: not_contiguous(x) for name, x in tensors(2, 3, **SIZES).items()},
    ),
)


def _weights(answer: Answer) -> Tensor:
    return answer["attention"](*tensors(2, 3, **SIZES).values())[1]


def _rows_sum_to_1(answer: Answer) -> bool:
    weights = _weights(answer)
    return torch.allclose(weights.sum(-1), torch.ones(2, 3, 4, dtype=torch.float64))


def _order_of_keys(answer: Answer) -> bool:
    """Return True if the output stays the same when keys and values are reordered together."""
    given = tensors(2, 3, **SIZES)
    order = torch.tensor([3, 0, 4, 1, 2])
    before = answer["attention"](*given.values())[0]
    reordered = given["key"][..., order, :], given["value"][..., order, :]
    return torch.allclose(before, answer["attention"](given["query"], *reordered)[0])


PROBES = {
    "softmax": SOFTMAX,
    "attention": ATTENTION,
    "causal_mask": CAUSAL_MASK,
}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "softmax": (
        Invariant("sums_to_1", _sums_to_1, "the numbers along `dim` must sum to 1; yours do not"),
        Invariant(
            "shift_changes_nothing",
            _shift_changes_nothing,
            "adding one number to all of x must change nothing; yours changes",
        ),
    ),
    "causal_mask": (
        Invariant("no_future", _no_future, "no query may attend to a later position; in yours one may"),
        Invariant("own_position", _own_position, "every query may attend to its own position; in yours one may not"),
    ),
    "attention": (
        Invariant("rows_sum_to_1", _rows_sum_to_1, "the weights of a query must sum to 1; yours do not"),
        Invariant(
            "order_of_keys", _order_of_keys, "reordering keys and values together must change nothing; yours changes"
        ),
    ),
}
REMARKS: dict[str, tuple[Invariant, ...]] = {
    "softmax": (SOFTMAX_GRADIENT,),
    "attention": (ATTENTION_GRADIENT,),
}
