"""Careless answers: the right answer with a fault that shows only for some input, for any exercise on tensors.

They are no mistakes of the idea, but of the handling: a `view` that needs contiguous memory, a dtype that is written
down, a `squeeze` that also takes an axis that happens to have the size 1.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.exercises.probes import Answer

MANY = 1000  # elements


def careless_answers(right: Answer) -> Iterator[tuple[str, Answer]]:
    """Yield (id, answer) for every way to be careless that changes what the functions of an answer return.

    Classes are left as they are: they keep a state of their own.
    """
    functions = {name: function for name, function in right.items() if not isinstance(function, type)}
    if not functions:
        return
    for id, wrap in WAYS.items():
        yield f"careless_{id}", {**right, **{name: wrap(function) for name, function in functions.items()}}


def _on_result(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a wrapper that changes every tensor that a function returns."""

    def each(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(each(part) for part in value)
        return change(value) if hasattr(value, "detach") else value

    return lambda function: lambda *arguments, **named: each(function(*arguments, **named))


def _refusing(is_bad: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """Return a wrapper that raises for tensors of some kind among the arguments."""

    def wrap(function: Any) -> Any:
        def careless(*arguments: Any, **named: Any) -> Any:
            if any(hasattr(value, "detach") and is_bad(value) for value in (*arguments, *named.values())):
                raise RuntimeError("careless")
            return function(*arguments, **named)

        return careless

    return wrap


WAYS: Mapping[str, Callable[[Any], Any]] = {
    "view": _refusing(lambda tensor: not tensor.is_contiguous()),
    "float64": _on_result(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor),
    "squeeze": _on_result(lambda tensor: tensor.squeeze()),
    "few": _refusing(lambda tensor: tensor.numel() > MANY),
}
