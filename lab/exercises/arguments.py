"""A changed argument that explains a wrong result: with it, the right answer gives the same. Imports no torch."""

import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lab.exercises.probes import Answer, Outcome, Probe, outcome, same_outcome

Change = Callable[[Any], Any]
CHANGES: tuple[tuple[str, Change], ...] = (
    ("1 too small", lambda x: _each(x, lambda n: n - 1)),
    ("1 too large", lambda x: _each(x, lambda n: n + 1)),
    ("twice as large", lambda x: _each(x, lambda n: n * 2)),
    ("half as large", lambda x: _each(x, lambda n: n / 2)),
    ("with the other sign", lambda x: _each(x, lambda n: -n)),
    ("without its sign", lambda x: _each(x, abs)),
    ("squared", lambda x: _each(x, lambda n: n * n)),
    ("its square root", lambda x: _each(x, lambda n: n**0.5)),
    ("0 instead", lambda x: _each(x, lambda n: n * 0)),
    ("1 instead", lambda x: _each(x, lambda n: n * 0 + 1)),
    ("1 minus it instead", lambda x: _each(x, lambda n: 1 - n)),
    ("without its first entry", lambda x: x[1:]),
    ("without its last entry", lambda x: x[:-1]),
    ("the wrong way round", lambda x: x[::-1]),
    ("inverted", lambda x: not x if isinstance(x, bool) else ~x),
    ("only its mean", lambda x: x * 0 + x.mean()),
    ("only its first row", lambda x: x[:1].expand_as(x)),
    ("only its last row", lambda x: x[-1:].expand_as(x)),
    ("the wrong way round along dimension 0", lambda x: x.flip(0)),
    ("the wrong way round along the last dimension", lambda x: x.flip(-1)),
    ("one place later along dimension 0", lambda x: x.roll(1, 0)),
    ("one place earlier along dimension 0", lambda x: x.roll(-1, 0)),
    ("one place later along the last dimension", lambda x: x.roll(1, -1)),
    ("one place earlier along the last dimension", lambda x: x.roll(-1, -1)),
    ("with its last two dimensions exchanged", lambda x: x.transpose(-2, -1)),
)
SECONDS = 1.0  # for the search: the verdict must come within the limit of a check
LEAST_PROBES = 2  # that are wrong; a single one may be a coincidence


def explanation(right: Answer, found: Sequence[Outcome], agrees: Sequence[bool], probes: Sequence[Probe]) -> str:
    """Return a sentence with the argument that explains all outcomes of an answer; "" if none does."""
    failing = [number for number, good in enumerate(agrees) if not good]
    if len(right) > 1 or len(failing) < LEAST_PROBES or any(each.error for each in found):
        return ""
    order = sorted(range(len(probes)), key=lambda number: agrees[number])  # those that are wrong come first
    end = time.perf_counter() + SECONDS
    for sentence, answer in _variants(right):
        if time.perf_counter() > end:
            break
        if all(same_outcome(outcome(probes[number], answer), found[number], probes[number]) for number in order):
            return sentence
    return ""


def _variants(right: Answer) -> Iterator[tuple[str, Answer]]:
    """Yield the right answer with one argument changed, or two exchanged."""
    for name, function in right.items():
        if inspect.isclass(function):
            continue
        names = list(inspect.signature(function).parameters)
        for (place, argument), (words, change) in itertools.product(enumerate(names), CHANGES):
            sentence = f"yours is the right result for another `{argument}`: {words}"
            yield sentence, {name: _with_changed(function, place, change)}
        for one, other in itertools.combinations(range(len(names)), 2):
            sentence = f"yours is the right result with `{names[one]}` and `{names[other]}` exchanged"
            yield sentence, {name: _with_exchanged(function, one, other)}


def _with_changed(function: Callable[..., Any], place: int, change: Change) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        return function(*given[:place], change(given[place]), *given[place + 1 :])

    return call


def _with_exchanged(function: Callable[..., Any], one: int, other: int) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        changed = list(given)
        changed[one], changed[other] = given[other], given[one]
        return function(*changed)

    return call


def _each(value: Any, change: Change) -> Any:
    """Return a number, a tensor or every number of a list, changed. Raises TypeError for masks and anything else."""
    if isinstance(value, list):
        return [_each(each, change) for each in value]
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "torch.bool":
        raise TypeError("not a number")
    return change(value)
