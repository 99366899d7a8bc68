"""Probes of the exercises on masked attention and on heads: inputs chosen so that every known mistake shows.

Shapes: B batch, H heads, T time, Tq queries, Tk keys, D head size, Dv size of a value, E = H * D.
"""

from typing import Any

import torch
from torch import Tensor

from lab.exercises.gradients import gradients_flow
from lab.exercises.probes import Answer, Invariant, Probe, call
from transformer_exercises.attention import SIZES, SMALL, huge, tensors
from transformer_exercises.inputs import not_contiguous, numbered

MASKS = {  # (Tq, Tk) and larger
    "each query sees some keys": torch.tensor([[1, 1, 0], [1, 0, 1]]).bool(),
    "one query sees nothing": torch.tensor([[0, 0, 0], [1, 1, 0]]).bool(),
}


def _masked(name: str, mask: Tensor, *batch: int, relative: float = 1e-9, **settings: Any) -> Probe:
    def arguments() -> dict[str, Tensor]:
        return tensors(*batch, **settings) | {"mask": mask.clone()}

    return call("masked_attention", name, arguments, relative=relative)


def random_mask(*shape: int, seed: int) -> Tensor:
    """Return a random mask, in which one query of the first sequence sees nothing."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[(0,) * (len(shape) - 1)] = False
    return mask


MASKED_GRADIENT = gradients_flow(
    "masked_attention",
    lambda: tensors(**SMALL) | {"mask": MASKS["each query sees some keys"].clone()},
    "query",
    "key",
    "value",
)
MASKED_ATTENTION = (
    *(_masked(name, mask, **SMALL) for name, mask in MASKS.items()),
    call(
        "masked_attention",
        "not contiguous, a mask (B, 1, Tq, Tk)",
        lambda: (
            {name: not_contiguous(x) for name, x in tensors(2, 3, **SIZES).items()}
            | {"mask": random_mask(2, 1, 4, 5, seed=6)}
        ),
    ),
    _masked("a mask (Tk,)", torch.tensor([1, 0, 1, 1, 0]).bool(), 2, 3, **SIZES),
    _masked(
        "float32, one mask (H, Tq, Tk) for each head",
        random_mask(3, 4, 5, seed=5),
        2,
        3,
        **SIZES,
        dtype=torch.float32,
        relative=1e-4,
    ),
    call(
        "masked_attention",
        "scores of thousands",
        lambda: huge() | {"mask": MASKS["each query sees some keys"].clone()},
    ),
)


def _hidden_is_zero(answer: Answer) -> bool:
    mask = random_mask(2, 1, 4, 5, seed=3)
    weights = answer["masked_attention"](*tensors(2, 3, **SIZES).values(), mask)[1]
    return bool((weights.masked_fill(mask, 0.0) == 0).all())


def _visible_sum_to_1(answer: Answer) -> bool:
    mask = torch.ones(4, 5).bool().tril(1)
    weights = answer["masked_attention"](*tensors(2, 3, **SIZES).values(), mask)[1]
    return torch.allclose(weights.sum(-1), torch.ones(2, 3, 4, dtype=torch.float64))


def _split(name: str, *shape: int, heads: int) -> Probe:
    return call("split_heads", name, lambda: {"x": numbered(*shape), "num_heads": heads})


def _merge(name: str, *shape: int) -> Probe:
    return call("merge_heads", name, lambda: {"x": numbered(*shape)})


HEADS_GRADIENTS = (
    gradients_flow("split_heads", lambda: {"x": numbered(1, 2, 4), "num_heads": 2}, "x"),
    gradients_flow("merge_heads", lambda: {"x": numbered(1, 2, 3, 2)}, "x"),
)
SPLIT_HEADS = (
    _split("split: B 1, T 2, E 4, two heads; 13 is position 1, column 3", 1, 2, 4, heads=2),
    _split("split: B 2, T 3, E 8, two heads", 2, 3, 8, heads=2),
    _merge("merge: B 1, H 2, T 3, D 2; 121 is head 1, position 2, number 1", 1, 2, 3, 2),
    _merge("merge: B 2, H 2, T 2, D 2", 2, 2, 2, 2),
    call("split_heads", "split: not contiguous", lambda: {"x": not_contiguous(numbered(2, 3, 8)), "num_heads": 4}),
    call("merge_heads", "merge: not contiguous", lambda: {"x": not_contiguous(numbered(2, 3, 4, 5))}),
)


def _inverse(answer: Answer) -> bool:
    x = numbered(2, 3, 8)
    return torch.equal(answer["merge_heads"](answer["split_heads"](x, 4)), x)


PROBES = {
    "masked_attention": MASKED_ATTENTION,
    "split_heads": SPLIT_HEADS,
}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "masked_attention": (
        Invariant("hidden_is_zero", _hidden_is_zero, "a hidden key must get the weight 0; yours gets more"),
        Invariant("rows_sum_to_1", _visible_sum_to_1, "the weights of a query must sum to 1; yours do not"),
    ),
    "split_heads": (Invariant("inverse", _inverse, "merge_heads(split_heads(x)) must be x again; yours is not"),),
}
REMARKS: dict[str, tuple[Invariant, ...]] = {
    "masked_attention": (MASKED_GRADIENT,),
    "split_heads": HEADS_GRADIENTS,
}
