"""Outcomes in words: exceptions with their line and shapes, types, places of numbers, differences. Imports no torch."""

import itertools
import linecache
import math
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from lab.exercises.probes import Array, Outcome, is_number, plain


def described(error: BaseException) -> str:
    """Return an exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def where(error: BaseException, file: str) -> Iterator[str]:
    """Yield the learner's line that raised an exception, and the shape of every tensor in it."""
    frames = [frame for frame in traceback.walk_tb(error.__traceback__) if frame[0].f_code.co_filename == file]
    if not frames:
        return
    frame, number = frames[-1]
    line = linecache.getline(file, number).strip()
    yield f"line {number}: {line}"
    for name, value in frame.f_locals.items():
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and _is_word_of(name, line):
            yield f"  {name}: shape {tuple(shape)}"


def _is_word_of(name: str, line: str) -> bool:
    return name in "".join(letter if letter.isalnum() or letter == "_" else " " for letter in line).split()


def structure_problem(mine: Any, expected: Any, name: str = "the result") -> str:
    """Return what is wrong with type, dtype, shape or length of a value, in one line; "" if nothing is."""
    if isinstance(expected, Array):
        if not isinstance(mine, Array) or mine.kind != expected.kind:
            return f"{name} must be {shown_type(expected)}, not {shown_type(mine)}"
        if mine.shape != expected.shape:
            return f"{name} has the shape {mine.shape}; expected {expected.shape}"
        if mine.dtype != expected.dtype:
            return f"{name} is of type {mine.dtype}; expected {expected.dtype}"
        return ""
    if isinstance(expected, list):
        if not isinstance(mine, list) or len(mine) != len(expected):
            return f"{name} must have {len(expected)} entries, not {shown_type(mine)}"
        problems = (
            structure_problem(a, b, f"entry {i} of {name}") for i, (a, b) in enumerate(zip(mine, expected, strict=True))
        )
        return next(filter(None, problems), "")
    if isinstance(expected, dict):
        if not isinstance(mine, dict) or mine.keys() != expected.keys():
            return f"{name} does not have the expected entries"
        problems = (structure_problem(mine[key], expected[key], f"the {key}") for key in expected)
        return next(filter(None, problems), "")
    if is_number(expected):
        return "" if is_number(mine) else f"{name} must be a number, not {shown_type(mine)}"
    return "" if type(mine) is type(expected) else f"{name} must be {shown_type(expected)}, not {shown_type(mine)}"


def shown_type(value: Any) -> str:
    """Return the type of a plain value in words."""
    if isinstance(value, Array):
        return f"{'an' if value.kind == 'array' else 'a'} {value.kind} of shape {value.shape}"
    if isinstance(value, list):
        return f"{len(value)} entries"
    return value if isinstance(value, str) and value.startswith("<") else type(value).__name__


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a plain value, and its place in it, such as "[0, 2]"."""
    if isinstance(value, Array):
        for index, each in zip(itertools.product(*map(range, value.shape)), value.values, strict=True):
            yield place + (str(list(index)) if index else ""), each
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from numbers(each, f"{place}[{index}]")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from numbers(each, f"{place}[{key!r}]")
    elif is_number(value):
        yield place, value


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, float | str]]:
    """Yield every number and every text of a plain value, and its place in it."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from leaves(each, f"{place}[{index}]")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from leaves(each, f"{place}[{key!r}]")
    else:
        yield from numbers(value, place)


def first_difference(mine: Any, expected: Any, relative: float = 1e-9, absolute: float = 0.0) -> str:
    """Return a line that names the first number or text that differs by more than the tolerances; "" if none does.

    Where the structures differ, too, there is no such line.
    """
    pairs = list(zip(leaves(mine), leaves(expected), strict=False))
    for (place, value), (other_place, other) in pairs:
        if place == other_place and place and not is_close(value, other, relative, absolute):
            if isinstance(value, str) and isinstance(other, str):
                value, other = _from_the_difference(value, other)
                return f"  yours {value!r}, expected {other!r}"
            write = repr if shown(value) == shown(other) else shown
            return f"  first difference at {place}: {write(value)}, expected {write(other)}"
    return ""


def _from_the_difference(one: str, other: str) -> tuple[str, str]:
    """Return two texts from the first part, of those separated by semicolons, that differs."""
    parts, other_parts = one.split("; "), other.split("; ")
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(parts, other_parts, strict=False)))
    return "; ".join(parts[same : same + 1]) or "nothing more", "; ".join(
        other_parts[same : same + 1]
    ) or "nothing more"


def is_close(one: Any, other: Any, relative: float = 1e-9, absolute: float = 0.0) -> bool:
    """Return True if two numbers, or two other values, cannot be told apart but for rounding; NaN equals NaN."""
    if not (isinstance(one, (int, float)) and isinstance(other, (int, float))):
        return one == other
    close = math.isclose(one, other, rel_tol=relative, abs_tol=absolute)
    return close or (one != one and other != other)


def shown_outcome(each: Outcome) -> str:
    """Return an outcome for the card."""
    if each.error:
        return described(each.exception) if each.exception else each.error
    return shown(each.value)


def shown(value: Any) -> str:
    """Return a value in at most one line, numbers with four digits."""
    if hasattr(value, "detach") or hasattr(value, "__array__"):
        value = plain(value)
    if isinstance(value, Array):
        text = _nested(list(value.values), value.shape)
    elif isinstance(value, float):
        text = f"{value:.4g}"
    elif isinstance(value, dict):
        text = ", ".join(f"{key}: {shown(each)}" for key, each in value.items())
    elif isinstance(value, list):
        text = "[" + ", ".join(shown(each) for each in value) + "]"
    else:
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _nested(values: list[Any], shape: tuple[int, ...]) -> str:
    if not shape:
        return shown(values[0])
    size = len(values) // shape[0] if shape[0] else 0
    rows = [values[i * size : (i + 1) * size] for i in range(shape[0])]
    return "[" + ", ".join(_nested(row, shape[1:]) for row in rows) + "]"
