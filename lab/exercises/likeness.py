"""Likeness of two wrong answers: wrong in the same places, in the same direction, by as much. Imports no torch."""

import math
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.exercises.describing import is_close, leaves, structure_problem
from lab.exercises.probes import Outcome, Probe, same_number, same_outcome

HUGE = 1000.0  # stands for the distance of NaN and of infinity from a number
PLACES, DIRECTION, EQUAL = 0.3, 0.4, 0.3  # weights: where it is wrong, in which direction, how often equal


@dataclass(frozen=True)
class Deviation:
    """The difference of the outcome of a probe from the right one."""

    kind: str  # exception, changed arguments or structure in words; "" where only numbers or texts differ
    values: tuple[Any, ...] = ()
    differences: tuple[float, ...] = ()  # from the right values; 0 where they agree


def deviation(found: Outcome, expected: Outcome, probe: Probe) -> Deviation | None:
    """Return what is wrong with an outcome; None if nothing is."""
    if same_outcome(found, expected, probe):
        return None
    kind = _kind(found, expected)
    if kind:
        return Deviation(kind)
    values = tuple(value for _, value in leaves(found.value))
    right = [value for _, value in leaves(expected.value)]
    return Deviation("", values, tuple(_difference(*pair, probe) for pair in zip(values, right, strict=True)))


def same_exception(one: Outcome, other: Outcome) -> bool:
    """Return True if two outcomes with exceptions of the same class have the same reason, as far as they tell."""
    texts = {_text(each) for each in (one, other)} - {""}
    return len(texts) < 2 or one.error == "KeyError"


def _text(each: Outcome) -> str:
    """Return what an exception says, without its numbers."""
    return re.sub(r"[0-9.]+", "#", str(each.exception or ""))


def _kind(found: Outcome, expected: Outcome) -> str:
    if found.error:
        return f"{found.error}: {_text(found)}"
    if found.changed != expected.changed:
        return f"changed: {found.changed}"
    return structure_problem(found.value, expected.value)


def _difference(mine: Any, right: Any, probe: Probe) -> float:
    if not (isinstance(mine, (int, float)) and isinstance(right, (int, float))):
        return 0.0 if mine == right else HUGE
    if same_number(mine, right, probe.relative, probe.absolute):
        return 0.0
    if math.isnan(mine - right):
        return HUGE
    return max(-HUGE, min(mine - right, HUGE))


def likeness(one: Sequence[Deviation | None], other: Iterable[Deviation | None], least: float = 0.0) -> float:
    """Return from 0 to 1 how alike two answers are, over the probes on which one of them is wrong.

    As soon as they cannot be alike by `least` any more, return 0; the rest of `other` is then not asked for.
    """
    score, count, left = 0.0, 0, len(one)
    for a, b in zip(one, other, strict=True):
        left -= 1
        if a is not None or b is not None:
            count += 1
            score += 0.0 if a is None or b is None else _alike(a, b)
        if score + left < least * (count + left):
            return 0.0
    return score / max(count, 1)


def _alike(one: Deviation, other: Deviation) -> float:
    if one.kind or other.kind:
        return float(one.kind == other.kind)
    places = [i for i, both in enumerate(zip(one.differences, other.differences, strict=True)) if any(both)]
    shared = [i for i in places if one.differences[i] and other.differences[i]]
    equal = [i for i in shared if is_close(one.values[i], other.values[i])]
    return (PLACES * len(shared) + EQUAL * len(equal)) / max(len(places), 1) + DIRECTION * max(
        _cosine(one.differences, other.differences), 0.0
    )


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(map(operator.mul, one, other)) / lengths if lengths else 0.0
