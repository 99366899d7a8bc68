"""Probes of the exercises on the parts of a block: layer norm, and the block itself.

Shapes: B batch, T time, E embedding.
"""

from typing import Any

import torch
from torch import Tensor

from lab.exercises.gradients import gradients_flow
from lab.exercises.probes import Answer, Invariant, Probe, call
from transformer_exercises.inputs import Formula, dyadic, not_contiguous


def _norm_arguments(x: Tensor, eps: float = 0.25) -> dict[str, Any]:
    """Return arguments whose weight and bias are neither 1 nor 0, nor equal to each other."""
    width = x.shape[-1]
    weight = (torch.arange(width) + 2).to(x.dtype) / 2
    bias = (3 - torch.arange(width)).to(x.dtype) / 4
    return {"x": x.clone(), "weight": weight, "bias": bias, "eps": eps}


def _norm(name: str, x: Tensor, eps: float = 0.25, relative: float = 1e-9) -> Probe:
    return call("layer_norm", name, lambda: _norm_arguments(x, eps), relative=relative)


NORM_GRADIENT = gradients_flow("layer_norm", lambda: _norm_arguments(dyadic(2, 4, seed=3)), "x", "weight", "bias")
LAYER_NORM = (
    _norm("one position", torch.tensor([1.0, 3.0, -2.0, 0.5], dtype=torch.float64)),
    _norm("B 2, T 3, E 4", dyadic(2, 3, 4, seed=0)),
    _norm("as many positions as numbers", dyadic(4, 4, seed=1)),
    _norm("a single number per position", dyadic(2, 3, 1, seed=5)),
    _norm("float32, a large eps", dyadic(2, 3, 4, seed=7, dtype=torch.float32), eps=4.0, relative=1e-4),
    _norm("not contiguous, four dimensions", not_contiguous(dyadic(2, 1, 3, 4, seed=8))),
)


def _positions_are_alone(answer: Answer) -> bool:
    """Return True if a change of one position changes no other."""
    x, ones = dyadic(2, 3, 4, seed=0), torch.ones(4, dtype=torch.float64)
    changed = x.clone()
    changed[0, 1] += torch.arange(4)
    before, after = (answer["layer_norm"](each, ones, 0 * ones, 0.25) for each in (x, changed))
    others = torch.ones(2, 3, dtype=torch.bool)
    others[0, 1] = False
    return torch.allclose(before[others], after[others])


def _mean_is_the_bias(answer: Answer) -> bool:
    ones = torch.ones(4, dtype=torch.float64)
    result = answer["layer_norm"](dyadic(2, 3, 4, seed=0), ones, 2 * ones, 0.25)
    return torch.allclose(result.mean(-1), 2 * torch.ones(2, 3, dtype=torch.float64))


def _standardized(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 0.25).sqrt()


SIMPLE = {
    "attention": Formula("x -> x * x / 2", lambda x: x * x / 2),
    "feed_forward": Formula("x -> |x| + 1", lambda x: x.abs() + 1),
    "norm1": Formula("x -> x / 2 + 1", lambda x: x / 2 + 1),
    "norm2": Formula("x -> 2 x - 3", lambda x: 2 * x - 3),
}
REAL = {
    "attention": Formula("x -> mean over time so far", lambda x: x.cumsum(1) / torch.arange(1, 4)[:, None]),
    "feed_forward": Formula("x -> relu(2 x) - x", lambda x: (2 * x).relu() - x),
    "norm1": Formula("x -> 2 * layer_norm(x) + 1", lambda x: 2 * _standardized(x) + 1),
    "norm2": Formula("x -> layer_norm(x) / 4 - 1", lambda x: _standardized(x) / 4 - 1),
}


def _block(name: str, x: Tensor, norm_first: bool, functions: dict[str, Any], relative: float = 1e-9) -> Probe:
    def arguments() -> dict[str, Any]:
        return {"x": x.clone(), **functions, "norm_first": norm_first}

    return call("transformer_block", name, arguments, relative=relative)


ONE = torch.tensor([[[2.0, -4.0]]], dtype=torch.float64)
BLOCK_GRADIENT = gradients_flow("transformer_block", lambda: {"x": ONE.clone(), **SIMPLE, "norm_first": True}, "x")
TRANSFORMER_BLOCK = (
    _block("pre-norm, one position", ONE, True, SIMPLE),
    _block("post-norm, one position", ONE, False, SIMPLE),
    _block("pre-norm, float32", dyadic(1, 3, 4, seed=1, dtype=torch.float32), True, REAL, relative=1e-4),
    _block("post-norm, not contiguous", not_contiguous(dyadic(2, 3, 4, seed=2)), False, REAL),
)


def _carries_x(answer: Answer) -> bool:
    """Return True if, with pre-norm, x passes unchanged where both sublayers give 0."""
    x, nothing = dyadic(2, 3, 4, seed=0), Formula("x -> 0", lambda x: 0 * x)
    result = answer["transformer_block"](x.clone(), nothing, nothing, REAL["norm1"], REAL["norm2"], True)
    return torch.allclose(result, x)


def _ends_with_a_norm(answer: Answer) -> bool:
    """Return True if, with post-norm, the second norm comes last."""
    fives = Formula("x -> 5", lambda x: 0 * x + 5)
    given = REAL | {"norm2": fives}
    return torch.allclose(answer["transformer_block"](ONE.expand(1, 3, 2).clone(), *given.values(), False), 5 + 0 * ONE)


PROBES = {
    "layer_norm": LAYER_NORM,
    "transformer_block": TRANSFORMER_BLOCK,
}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "layer_norm": (
        Invariant(
            "positions_are_alone", _positions_are_alone, "changing one position must change no other; yours changes"
        ),
        Invariant("mean_is_the_bias", _mean_is_the_bias, "with weight 1 the mean of a position must be the bias"),
    ),
    "transformer_block": (
        Invariant("carries_x", _carries_x, "with pre-norm, x must pass unchanged where both sublayers give 0"),
        Invariant("ends_with_a_norm", _ends_with_a_norm, "with post-norm, norm2 must be the last step"),
    ),
}
REMARKS: dict[str, tuple[Invariant, ...]] = {
    "layer_norm": (NORM_GRADIENT,),
    "transformer_block": (BLOCK_GRADIENT,),
}
