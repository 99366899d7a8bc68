"""Careless answers: the right answer with a fault that shows only for some input, for any exercise. Imports no torch.

They are no mistakes of the idea, but of the handling: a `view` that needs contiguous memory, a dtype that is written
down, a `squeeze` that also takes an axis that happens to have the size 1, an `if not gamma` that takes 0 for missing.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any

from lab.exercises.probes import Answer, is_number

MANY = 1000  # elements
DECIMALS = 6
Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def careless_answers(right: Answer, tensors: bool = True) -> Iterator[tuple[str, Answer]]:
    """Yield (id, answer) for every way to be careless, in every function of an answer; with or without tensors."""
    for name, function in right.items():
        ways = {**WAYS, **(WAYS_WITH_TENSORS if tensors else {}), **_ways_with_numbers(function)}
        for id, wrap in ways.items():
            yield f"careless_{id}_{name}", {**right, name: _wrapped(function, wrap)}


def _ways_with_numbers(function: Callable[..., Any]) -> dict[str, Wrapper]:
    """Return ways to be careless with one argument that is a number: `if not gamma`, or a division by 1 - gamma."""
    ways = {}
    start = 1 if inspect.isclass(function) else 0  # methods have the instance as their first argument
    for place, name in enumerate(inspect.signature(function).parameters, start):
        ways[f"zero_{name}"] = _refusing_at(place, lambda value: is_number(value) and value == 0)
        ways[f"one_{name}"] = _refusing_at(place, lambda value: isinstance(value, float) and value == 1)
    return ways


def _wrapped(function: Any, wrap: Wrapper) -> Any:
    """Return a function that is careless, or a class whose methods are."""
    if not inspect.isclass(function):
        return wrap(function)
    methods = {name: wrap(each) for name, each in vars(function).items() if inspect.isfunction(each)}
    return type(function.__name__, (function,), methods)


def _on_result(change: Callable[[Any], Any]) -> Wrapper:
    """Return a wrapper that changes every tensor and array that a function returns."""

    def each(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(each(part) for part in value)
        return change(value) if hasattr(value, "squeeze") else value

    return lambda function: lambda *arguments, **named: each(function(*arguments, **named))


def _on_arguments(change: Callable[[Any], Any]) -> Wrapper:
    """Return a wrapper that changes every argument."""
    return lambda function: lambda *arguments, **named: function(*map(change, arguments), **named)


def _refusing_calls(are_bad: Callable[[Sequence[Any]], bool]) -> Wrapper:
    """Return a wrapper that raises for some kind of arguments."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def careless(*arguments: Any, **named: Any) -> Any:
            if are_bad(arguments):
                raise RuntimeError("careless")
            return function(*arguments, **named)

        return careless

    return wrap


def _refusing(is_bad: Callable[[Any], bool]) -> Wrapper:
    """Return a wrapper that raises for some kind of argument."""
    return _refusing_calls(lambda arguments: any(map(is_bad, arguments)))


def _refusing_at(place: int, is_bad: Callable[[Any], bool]) -> Wrapper:
    """Return a wrapper that raises for some kind of argument at one place."""
    return _refusing_calls(lambda arguments: any(map(is_bad, arguments[place : place + 1])))


def _refusing_tensors(is_bad: Callable[[Any], bool]) -> Wrapper:
    """Return a wrapper that raises for some kind of tensor among the arguments."""
    return _refusing(lambda value: _is_tensor(value) and is_bad(value))


def _unpacking(axes: int) -> Wrapper:
    """Return a wrapper that raises if the first tensor has other axes, as `rows, columns = x.shape` does."""
    return _refusing_calls(lambda arguments: any(each.ndim != axes for each in _tensors(arguments)[:1]))


def _tensors(arguments: Sequence[Any]) -> list[Any]:
    return [value for value in arguments if _is_tensor(value)]


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach")


def _count(value: Any) -> int | None:
    """Return the number of elements of a tensor, array, list or dictionary; None for anything else."""
    if hasattr(value, "shape"):
        return math.prod(value.shape) if value.shape else None
    return len(value) if isinstance(value, Sized) else None


def _is_many(value: Any) -> bool:
    """Return True for more elements, or a larger size, than a buffer holds that was made once."""
    size = value if isinstance(value, int) else _count(value)
    return size is not None and size > MANY


def _double(value: Any) -> Any:
    return value.double() if _is_tensor(value) and value.is_floating_point() else value


def _overflows(tensor: Any) -> bool:
    return tensor.is_floating_point() and bool(tensor.abs().exp().isinf().any())


def _part(value: Any, elements: slice) -> Any:
    """Return a part of a list if it holds anything, and everything else as it is."""
    return value[elements] or value if isinstance(value, list) else value


def _turned(value: Any) -> Any:
    """Return a square tensor or array with its last two axes swapped, and everything else as it is."""
    is_square = getattr(value, "ndim", 0) > 1 and value.shape[-1] == value.shape[-2]
    return value.mT if is_square else value


def _rounded(value: Any) -> Any:
    """Return a tensor, number or list rounded; itself if that changes nothing, so that it can be changed in place."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, list):
        rounded = [_rounded(each) for each in value]
        return value if rounded == value else rounded
    if not _is_tensor(value) or not value.is_floating_point():
        return value
    rounded = value.round(decimals=DECIMALS)
    return value if rounded.equal(value) else rounded


WAYS: Mapping[str, Wrapper] = {
    "few": _refusing(_is_many),
    "single": _refusing(lambda value: _count(value) == 1),  # divides by n - 1, or looks at the second element
    "empty": _refusing(lambda value: _count(value) == 0),  # looks at the first element
    "last": _on_arguments(lambda value: _part(value, slice(-1))),  # range(1, len(x) - 1)
    "first": _on_arguments(lambda value: _part(value, slice(1, None))),
    "rounded": _on_arguments(_rounded),  # compares with a tolerance
}
WAYS_WITH_TENSORS: Mapping[str, Wrapper] = {
    "view": _refusing_tensors(lambda tensor: not tensor.is_contiguous()),
    "float64": _on_result(_double),
    "squeeze": _on_result(lambda value: value.squeeze()),
    "squeezed": _on_arguments(lambda value: value.squeeze() if _is_tensor(value) else value),
    "layout": _on_arguments(_turned),  # tells the axes apart by their sizes
    "overflow": _refusing_tensors(_overflows),
    "minus": _refusing_tensors(lambda tensor: str(tensor.dtype) == "torch.bool"),  # `1 - mask`
    "vector": _refusing_tensors(lambda tensor: tensor.ndim == 1),  # `x.shape[-2]`
    "broadcast": _refusing_calls(lambda arguments: len({each.ndim for each in _tensors(arguments)}) > 1),
    **{f"unpack_{axes}": _unpacking(axes) for axes in (1, 2, 3, 4)},
}
