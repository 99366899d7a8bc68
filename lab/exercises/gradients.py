"""Remarks on gradients: does a gradient flow from the result of a function back to its arguments?

An answer with the right numbers is right without one, for example in plain Python; but nothing learns with it.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Invariant

AWAY = 0.125  # by which an argument is moved first, so that no two of its numbers are equal and none is 0
STEP = 1e-3  # half the distance of the two points between which the slope is measured
TOLERANCE = 1e-2


def gradients_flow(function: str, arguments: Callable[[], Mapping[str, Any]], *names: str) -> Invariant:
    """Return the property that a gradient reaches the named arguments, tensors of float64, from the first result."""

    def holds(answer: Answer) -> bool:
        return all(_has_gradient(answer[function], arguments, name) for name in names)

    sentence = f"but no gradient, or a wrong one, flows back through {function}, so that a model may not learn with it"
    return Invariant(f"gradient of {function}", holds, sentence)


def _has_gradient(function: Callable[..., Any], arguments: Callable[[], Mapping[str, Any]], name: str) -> bool:
    """Return True if the gradient of an argument is the slope of the result."""
    direction = _numbers(arguments()[name])

    def moved(distance: Tensor) -> Tensor:
        """Return a number made of the result for a moved argument."""
        given = dict(arguments())
        given[name] = given[name] + (AWAY + distance) * direction
        result = function(*given.values())
        first = torch.as_tensor(result[0] if isinstance(result, (list, tuple)) else result)
        return (first * _numbers(first)).sum()

    origin = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with warnings.catch_warnings(action="ignore"):  # PyTorch warns of tensors that are made into numbers
        moved(origin).backward()  # raises if the result requires no gradient, or is made by NumPy
        above, below = (moved(torch.tensor(distance, dtype=torch.float64)) for distance in (STEP, -STEP))
    slope = (above - below).item() / (2 * STEP)
    gradient = 0.0 if origin.grad is None else origin.grad.item()
    return math.isclose(gradient, slope, rel_tol=TOLERANCE, abs_tol=TOLERANCE * STEP)


def _numbers(tensor: Tensor) -> Tensor:
    """Return different numbers between 1 and 2 in the shape of a tensor."""
    return (1 + torch.rand(tensor.numel(), generator=torch.Generator().manual_seed(0))).reshape(tensor.shape).double()
