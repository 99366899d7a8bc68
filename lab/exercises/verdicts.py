"""The verdict on an answer, and those that need no known mistake: what its outcomes alone show. Imports no torch."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from lab.exercises.advice import advice
from lab.exercises.catalog import Exercise
from lab.exercises.describing import described, numbers, structure_problem, where
from lab.exercises.probes import Outcome
from lab.exercises.stubs import PLACEHOLDER

Outcomes = Sequence[Outcome]  # one per probe


@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    `status` is one of passed, convention, mistake, wrong, not_started, error, timeout; `mistake` is the id of the known
    mistake, two joined by "+", `invariant:NAME`, `family:NAME`, or None.
    """

    status: str
    message: str  # one line
    mistake: str | None = None
    details: tuple[str, ...] = ()  # lines of the card: the counter-example


def not_started(exercise: Exercise, function: str = "") -> Verdict:
    """Return the verdict on a function, by default the first, that is as in the stub."""
    return Verdict("not_started", f"`{function or exercise.name}` still holds the line NotImplementedError")


def unwritten_function(found: Outcomes) -> str:
    """Return the name of the first function that is still as in the stub; "" if there is none.

    PyTorch raises NotImplementedError, too, for example for a softmax of whole numbers.
    """
    for each in found:
        if isinstance(each.exception, NotImplementedError) and str(each.exception) in PLACEHOLDER:
            return traceback.extract_tb(each.exception.__traceback__)[-1].name
    return ""


def exception(found: Outcomes, file: str) -> Verdict | None:
    """Return the verdict on the first exception of an answer, whose code is in `file`; None if there is none."""
    error = next((each.exception for each in found if each.exception is not None), None)
    if error is None:
        return None
    if isinstance(error, SystemExit):
        return Verdict("error", "your code ends the program: take out exit()")
    text = described(error)
    meaning = advice(text)
    return Verdict("error", f"{text} ({meaning})" if meaning else text, details=tuple(where(error, file)))


def returns_none(found: Outcomes, right: Outcomes) -> Verdict | None:
    """Return the verdict on a result of None where there should be one; None if there is none."""
    if any(mine.value is None and expected.value is not None for mine, expected in zip(found, right, strict=True)):
        return Verdict("error", "it returns None: is there a `return`?")
    return None


def changed_arguments(found: Outcomes, right: Outcomes) -> Verdict | None:
    """Return the verdict on an argument that was changed in place; None if there is none."""
    for mine, expected in zip(found, right, strict=True):
        names = [name for name in mine.changed if name not in expected.changed]
        if names:
            return Verdict("wrong", f"you changed `{names[0]}` in place; work on a copy", "family:in place")
    return None


def type_or_shape(found: Outcomes, right: Outcomes) -> Verdict | None:
    """Return the verdict on a result of another type, length or shape; None if there is none."""
    for mine, expected in zip(found, right, strict=True):
        problem = structure_problem(mine.value, expected.value)
        if problem:
            return Verdict("error", problem)
    return None


def not_a_number(found: Outcomes, right: Outcomes) -> Verdict | None:
    """Return the verdict on a result of NaN where there should be numbers; None if there is none."""
    for mine, expected in zip(found, right, strict=True):
        for place, value in numbers(mine.value):
            if value != value and all(each == each for _, each in numbers(expected.value)):
                return Verdict("wrong", f"the result is NaN at {place or 'its only number'}")
    return None
