"""Checks of what a learner's functions return, so that the lab's code gets nothing that it cannot use.

A check takes a result and the arguments of the call, and returns what is wrong with it, "" if nothing. Only kind, shape
and finiteness are checked: whether the result is right is for the learner to see. Imports no torch.
"""

import math
import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Any

from lab.exercises.probes import as_number

Check = Callable[[Any, Sequence[Any]], str]


def anything(result: Any, arguments: Sequence[Any]) -> str:
    """Accept every result."""
    return ""


def number(result: Any, arguments: Sequence[Any]) -> str:
    """Accept a finite number."""
    if isinstance(result, numbers.Real) and math.isfinite(result):
        return ""
    return f"returns {shown(result)}; it must be a finite number"


def number_like(result: Any, arguments: Sequence[Any]) -> str:
    """Accept a finite number, also as a tensor or array without dimensions, a fraction or a decimal, as checks do."""
    return number(as_number(result), arguments)


def index(result: Any, arguments: Sequence[Any]) -> str:
    """Accept an index of the first argument."""
    size = len(arguments[0])
    try:
        if 0 <= operator.index(result) < size:
            return ""
    except TypeError:  # no integer
        pass
    return f"returns {shown(result)}; it must be an index, 0 to {size - 1}"


def like(position: int) -> Check:
    """Return a check for a finite array or tensor of the shape and kind of the argument at `position`."""

    def check(result: Any, arguments: Sequence[Any]) -> str:
        return _compare(result, arguments[position].shape, arguments[position].dtype)

    return check


def shaped(shape: Callable[[Sequence[Any]], tuple[int, ...]], dtype: Callable[[Sequence[Any]], Any]) -> Check:
    """Return a check for a finite tensor whose shape and dtype follow from the arguments."""
    return lambda result, arguments: _compare(result, shape(arguments), dtype(arguments))


def scalar(result: Any, arguments: Sequence[Any]) -> str:
    """Accept a tensor of one finite number, of the dtype of the first argument."""
    return _compare(result, (), arguments[0].dtype)


def with_gradient(check: Check) -> Check:
    """Return a check for a tensor that also has a gradient where the first argument has one."""

    def check_both(result: Any, arguments: Sequence[Any]) -> str:
        problem = check(result, arguments)
        if not problem and arguments[0].requires_grad and not result.requires_grad:
            return "returns a tensor without a gradient, so that nothing is learned (is it detached?)"
        return problem

    return check_both


def pair(first: Check, second: Check) -> Check:
    """Return a check for two results."""

    def check(result: Any, arguments: Sequence[Any]) -> str:
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            return f"returns {shown(result)}; it must be two values"
        problems = (first(result[0], arguments), second(result[1], arguments))
        return " and ".join(
            problem.replace("returns", f"returns as number {place}", 1)
            for place, problem in enumerate(problems, 1)
            if problem
        )

    return check


def _compare(result: Any, shape: Sequence[int], dtype: Any) -> str:
    """Return what is wrong with an array or tensor that must be finite and have this shape and dtype."""
    expected = f"{tuple(shape)} of {_name(dtype)}"
    if getattr(result, "shape", None) != tuple(shape) or getattr(result, "dtype", None) != dtype:
        return f"returns {shown(result)}; it must be {expected}"
    if hasattr(result, "isfinite") and getattr(dtype, "is_floating_point", False) and not bool(result.isfinite().all()):
        return "returns NaN or infinity"
    return ""


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def shown(value: Any) -> str:
    """Return a result in a few words."""
    if value is None:
        return "None (is there a `return`?)"
    if getattr(value, "shape", None) is not None and hasattr(value, "dtype"):
        return f"{tuple(value.shape)} of {_name(value.dtype)}"
    if isinstance(value, (int, float)):
        return repr(value)
    return f"a {type(value).__name__}"
