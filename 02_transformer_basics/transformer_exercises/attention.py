"""Probes of the exercises on attention: inputs chosen so that every known mistake shows.

All sizes differ, so that a wrong axis shows; one probe is square, where a wrong axis keeps the shape.

Shapes: B batch, H heads, Tq queries, Tk keys, D head size, Dv size of a value, E = H * D.
"""

from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Invariant, Probe, call


def dyadic(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a tensor of quarters between -2 and 2."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, shape, generator=generator).to(dtype) / 4


def _tensors(*batch: int, queries: int, keys: int, size: int, value_size: int, **settings: Any) -> dict[str, Tensor]:
    """Return query (..., Tq, D), key (..., Tk, D) and value (..., Tk, Dv)."""
    return {
        "query": dyadic(*batch, queries, size, seed=0, **settings),
        "key": dyadic(*batch, keys, size, seed=1, **settings),
        "value": dyadic(*batch, keys, value_size, seed=2, **settings),
    }


def _attention(name: str, *batch: int, relative: float = 1e-9, **settings: Any) -> Probe:
    return call("attention", name, lambda: _tensors(*batch, **settings), relative=relative)


SMALL = {"queries": 2, "keys": 3, "size": 4, "value_size": 2}
SIZES = {"queries": 4, "keys": 5, "size": 4, "value_size": 6}
ATTENTION = (
    _attention("one head of one sequence", **SMALL),
    _attention("B 2, H 3, Tq 4, Tk 5, D 4, Dv 6", 2, 3, **SIZES),
    _attention("as many queries as keys, heads and numbers", 3, 3, queries=3, keys=3, size=3, value_size=3),
    _attention("a single key", 2, 1, queries=2, keys=1, size=4, value_size=3),
    _attention("float32", 2, 3, **SIZES, dtype=torch.float32, relative=1e-4),
    call(
        "attention",
        "tensors that are not contiguous",
        lambda: {name: x.mT.contiguous().mT for name, x in _tensors(2, 3, **SIZES).items()},
    ),
)


def _rows_sum_to_1(answer: Answer) -> bool:
    weights = answer["attention"](**_tensors(2, 3, **SIZES))[1]
    return torch.allclose(weights.sum(-1), torch.ones(2, 3, 4, dtype=torch.float64))


def _order_of_keys(answer: Answer) -> bool:
    """Return True if the output stays the same when keys and values are reordered together."""
    given = _tensors(2, 3, **SIZES)
    order = torch.tensor([3, 0, 4, 1, 2])
    before = answer["attention"](**given)[0]
    reordered = {"key": given["key"][..., order, :], "value": given["value"][..., order, :]}
    return torch.allclose(before, answer["attention"](**given | reordered)[0])


MASKS = {  # (Tq, Tk) and larger
    "each query sees some keys": torch.tensor([[1, 1, 0], [1, 0, 1]]).bool(),
    "one query sees nothing": torch.tensor([[0, 0, 0], [1, 1, 0]]).bool(),
    "every query sees everything": torch.ones(2, 3).bool(),
}


def _masked(name: str, mask: Tensor, *batch: int, relative: float = 1e-9, **settings: Any) -> Probe:
    def arguments() -> dict[str, Tensor]:
        return _tensors(*batch, **settings) | {"mask": mask.clone()}

    return call("masked_attention", name, arguments, relative=relative)


def _masks(*shape: int, seed: int) -> Tensor:
    """Return a random mask, in which one query of the first sequence sees nothing."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[(0,) * (len(shape) - 1)] = False
    return mask


MASKED_ATTENTION = (
    *(_masked(name, mask, **SMALL) for name, mask in MASKS.items()),
    _masked("a mask (B, 1, Tq, Tk)", _masks(2, 1, 4, 5, seed=3), 2, 3, **SIZES),
    _masked(
        "a mask (B, 1, 1, Tk)", torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]).bool()[:, None, None], 2, 3, **SIZES
    ),
    _masked("a causal mask, square", torch.ones(3, 3).bool().tril(), 3, 3, queries=3, keys=3, size=3, value_size=3),
    _masked("float32", _masks(2, 3, 4, 5, seed=4), 2, 3, **SIZES, dtype=torch.float32, relative=1e-4),
    call(
        "masked_attention",
        "scores of thousands",
        lambda: {
            "query": torch.tensor([[64.0], [-64.0]], dtype=torch.float64),
            "key": torch.tensor([[64.0], [-64.0], [32.0]], dtype=torch.float64),
            "value": torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64),
            "mask": MASKS["each query sees some keys"].clone(),
        },
    ),
)


def _hidden_is_zero(answer: Answer) -> bool:
    mask = _masks(2, 1, 4, 5, seed=3)
    weights = answer["masked_attention"](**_tensors(2, 3, **SIZES), mask=mask)[1]
    return bool((weights.masked_fill(mask, 0.0) == 0).all())


def _visible_sum_to_1(answer: Answer) -> bool:
    mask = torch.ones(4, 5).bool().tril(1)
    weights = answer["masked_attention"](**_tensors(2, 3, **SIZES), mask=mask)[1]
    return torch.allclose(weights.sum(-1), torch.ones(2, 3, 4, dtype=torch.float64))


def numbered(*shape: int) -> Tensor:
    """Return a tensor whose numbers spell their indices: 123 is at [1, 2, 3]."""
    places = torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij")
    return sum(place * 10 ** (len(shape) - 1 - i) for i, place in enumerate(places)).double()  # pyright: ignore


def _split(name: str, *shape: int, heads: int) -> Probe:
    return call("split_heads", name, lambda: {"x": numbered(*shape), "num_heads": heads})


def _merge(name: str, *shape: int) -> Probe:
    return call("merge_heads", name, lambda: {"x": numbered(*shape)})


SPLIT_HEADS = (
    _split("split: B 1, T 2, E 4, two heads; 13 is position 1, column 3", 1, 2, 4, heads=2),
    _split("split: B 2, T 3, E 8, two heads", 2, 3, 8, heads=2),
    _split("split: B 2, T 4, E 8, four heads", 2, 4, 8, heads=4),
    _split("split: a single head", 2, 3, 4, heads=1),
    _split("split: one head for each column", 2, 3, 4, heads=4),
    _merge("merge: B 1, H 2, T 3, D 2; 121 is head 1, position 2, number 1", 1, 2, 3, 2),
    _merge("merge: B 2, H 3, T 4, D 5", 2, 3, 4, 5),
    _merge("merge: B 2, H 2, T 2, D 2", 2, 2, 2, 2),
    _merge("merge: a single head", 2, 1, 3, 4),
)


def _inverse(answer: Answer) -> bool:
    x = numbered(2, 3, 8)
    return torch.equal(answer["merge_heads"](answer["split_heads"](x, 4)), x)


PROBES = {"attention": ATTENTION, "masked_attention": MASKED_ATTENTION, "split_heads": SPLIT_HEADS}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "attention": (
        Invariant("rows_sum_to_1", _rows_sum_to_1, "the weights of a query must sum to 1; yours do not"),
        Invariant(
            "order_of_keys", _order_of_keys, "reordering keys and values together must change nothing; yours changes"
        ),
    ),
    "masked_attention": (
        Invariant("hidden_is_zero", _hidden_is_zero, "a hidden key must get the weight 0; yours gets more"),
        Invariant("rows_sum_to_1", _visible_sum_to_1, "the weights of a query must sum to 1; yours do not"),
    ),
    "split_heads": (Invariant("inverse", _inverse, "merge_heads(split_heads(x)) must be x again; yours is not"),),
}
