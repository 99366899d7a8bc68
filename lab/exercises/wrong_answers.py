"""Wrong answers as one function with switches: `wrong` is the set of the mistakes that it makes. Imports no torch."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from lab.exercises.probes import Answer


@dataclass(frozen=True)
class Wrong:
    """The wrong answers of an exercise.

    Attributes:
        functions: by name; each takes a set `wrong` of ids as its last argument, and is right if that is empty.
        switches: all ids that `wrong` may hold.
        exclusive: sets of ids of which at most one can be switched on.
        plain: wrong answers that cannot be combined with others, by id.
        readings: the switches that are no mistakes but other readings of the task, such as B - 1 for B in a deviation.
    """

    functions: Mapping[str, Callable[..., Any]]
    switches: Sequence[str]
    exclusive: Sequence[Set[str]] = ()
    plain: Mapping[str, Answer] = field(default_factory=dict)
    readings: Sequence[str] = ()

    def build(self, ids: frozenset[str]) -> Answer:
        """Return the answer that makes these mistakes. Raises KeyError if they exclude each other."""
        for group in self.exclusive:
            if len(ids & group) > 1:
                raise KeyError(f"{sorted(ids & group)} cannot be combined")
        return {name: functools.partial(function, wrong=ids) for name, function in self.functions.items()}


def switches(*functions: Callable[..., Any]) -> tuple[str, ...]:
    """Return the ids that functions look for in `wrong`, in the order of their code."""
    code = "\n".join(inspect.getsource(function) for function in functions)
    return tuple(dict.fromkeys(re.findall(r'"(\w+)" (?:not )?in wrong', code)))
