"""Relations of a wrong result to the right one, whatever the exercise: the right numbers times a constant, in another
order, with other axes, of another type. Imports no torch.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lab.exercises.describing import is_close, leaves, numbers, structure_problem
from lab.exercises.probes import Array, Outcome

Pair = tuple[Outcome, Outcome]  # what was found, and what was expected
NEAR = 1e-3  # a factor as near to 1 as this explains nothing
DISTINCT = 3  # different numbers that show a relation; fewer may be a coincidence


def relation(wrong: Sequence[Pair], right: Sequence[Pair]) -> tuple[str, str] | None:
    """Return the kind of mistake and a sentence, for the outcomes of the probes that are wrong and of those that are
    right; None if no relation holds on all of the wrong ones.
    """
    if any(found.error or found.changed != expected.changed for found, expected in wrong):
        return None
    wrong = [pair for pair in wrong if any(numbers(pair[1].value))]  # words are in no relation
    for rule in (_other_type, _added_or_lost_dimension, _other_axes, _turned_or_moved, _other_order):
        result = rule(wrong)
        if result is not None:
            return result
    return _scaled_or_shifted([*wrong, *right])


def _arrays(found: Any, expected: Any) -> Iterator[tuple[Any, Array]]:
    """Yield what stands in the place of each array of the expected value."""
    if isinstance(expected, Array):
        yield found, expected
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        for mine, other in zip(found, expected, strict=True):
            yield from _arrays(mine, other)
    elif isinstance(expected, dict) and isinstance(found, dict):
        for key in expected.keys() & found.keys():
            yield from _arrays(found[key], expected[key])


def _wrong_arrays(wrong: Sequence[Pair]) -> list[tuple[Array, Array]] | None:
    """Return the arrays that differ from the expected ones; None if something else is wrong too."""
    arrays: list[tuple[Array, Array]] = []
    for found, expected in wrong:
        pairs = list(_arrays(found.value, expected.value))
        if not pairs or not all(isinstance(mine, Array) and mine.kind == other.kind for mine, other in pairs):
            return None
        differ = [(mine, other) for mine, other in pairs if mine.shape != other.shape or not _equal(mine, other.values)]
        if not differ:
            return None
        arrays += differ
    return arrays


def _equal(mine: Array, values: Sequence[Any]) -> bool:
    return len(mine.values) == len(values) and all(map(is_close, mine.values, values))


def _tells(arrays: Sequence[tuple[Array, Array]]) -> bool:
    """Return True if some array holds enough different numbers."""
    return any(len(set(other.values)) >= DISTINCT for _, other in arrays)


def _other_type(wrong: Sequence[Pair]) -> tuple[str, str] | None:
    arrays = [pair for found, expected in wrong for pair in _arrays(found.value, expected.value)]
    if not any(isinstance(mine, list) or _type_of(mine) != _type_of(other) for mine, other in arrays):
        return None
    if any(isinstance(mine, Array) and mine.shape != other.shape for mine, other in arrays):
        return None
    pairs = [[list(leaves(each.value)) for each in pair] for pair in wrong]
    if all(len(mine) == len(other) and all(map(_same_leaf, mine, other)) for mine, other in pairs):
        return "type", "the numbers are right, but not their type"
    return None


def _type_of(value: Any) -> tuple[str, str]:
    return (value.kind, value.dtype) if isinstance(value, Array) else ("", "")


def _same_leaf(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    return is_close(one[1], other[1])


def _added_or_lost_dimension(wrong: Sequence[Pair]) -> tuple[str, str] | None:
    arrays = _wrong_arrays(wrong)
    if not arrays or not all(mine.shape != other.shape and _equal(mine, other.values) for mine, other in arrays):
        return None
    mine, other = arrays[0]
    if [size for size in mine.shape if size != 1] != [size for size in other.shape if size != 1]:
        return "shape", "the numbers are right and in the right order, but cut into other rows"
    return "shape", f"the numbers are right, but a dimension of size 1 is {_too_many_or_missing(mine, other)}"


def _too_many_or_missing(mine: Array, other: Array) -> str:
    return "too many" if len(mine.shape) > len(other.shape) else "missing"


def _other_axes(wrong: Sequence[Pair]) -> tuple[str, str] | None:
    arrays = _wrong_arrays(wrong)
    if not arrays or not _tells(arrays):
        return None
    count = len(arrays[0][1].shape)
    if count < 2 or any(len(mine.shape) != count or len(other.shape) != count for mine, other in arrays):
        return None
    for axes in itertools.permutations(range(count)):
        if all(_has_axes(mine, other, axes) for mine, other in arrays):
            *first, last = [str(axis) for axis, place in enumerate(axes) if axis != place]
            moved = f"{', '.join(first)} and {last}"
            return "axis", f"the numbers are right, but the dimensions {moved} have changed places"
    return None


def _has_axes(mine: Array, other: Array, axes: Sequence[int]) -> bool:
    if mine.shape != tuple(other.shape[axis] for axis in axes):
        return False
    return _equal(mine, _picked(other, [range(size) for size in mine.shape], axes))


def _picked(array: Array, indices: Sequence[Sequence[int]], axes: Sequence[int]) -> list[Any]:
    """Return the numbers at all combinations of indices; `axes` tells which dimension each belongs to."""
    steps = [math.prod(array.shape[axis + 1 :]) for axis in axes]
    return [
        array.values[sum(i * step for i, step in zip(index, steps, strict=True))]
        for index in itertools.product(*indices)
    ]


def _turned_or_moved(wrong: Sequence[Pair]) -> tuple[str, str] | None:
    arrays = _wrong_arrays(wrong)
    if not arrays or not _tells(arrays) or any(mine.shape != other.shape for mine, other in arrays):
        return None
    changes: tuple[tuple[str, Callable[[int], list[int]]], ...] = (
        ("the wrong way round", lambda size: list(range(size))[::-1]),
        ("one place too late", lambda size: [(i - 1) % size for i in range(size)]),
        ("one place too early", lambda size: [(i + 1) % size for i in range(size)]),
    )
    for axis in range(min(len(other.shape) for _, other in arrays)):
        for words, change in changes:
            if all(_equal(mine, _along(other, axis, change)) for mine, other in arrays):
                return "order", f"the numbers are right, but along dimension {axis} they stand {words}"
    return None


def _along(array: Array, axis: int, change: Callable[[int], list[int]]) -> list[Any]:
    indices: list[Sequence[int]] = [range(size) for size in array.shape]
    indices[axis] = change(array.shape[axis])
    return _picked(array, indices, range(len(array.shape)))


def _other_order(wrong: Sequence[Pair]) -> tuple[str, str] | None:
    arrays = _wrong_arrays(wrong)
    if not arrays or not _tells(arrays) or any(mine.shape != other.shape for mine, other in arrays):
        return None
    if all(all(map(is_close, sorted(mine.values), sorted(other.values))) for mine, other in arrays):
        return "order", "the numbers are right, but they stand in other places"
    return None


def _scaled_or_shifted(outcomes: Sequence[Pair]) -> tuple[str, str] | None:
    pairs = []
    for found, expected in outcomes:
        mine, other = list(numbers(found.value)), list(numbers(expected.value))
        if structure_problem(found.value, expected.value) or [place for place, _ in mine] != [
            place for place, _ in other
        ]:
            return None
        pairs += [(a, b) for (_, a), (_, b) in zip(mine, other, strict=True)]
    if len({abs(b) for _, b in pairs if b}) < DISTINCT or not all(
        math.isfinite(a) and math.isfinite(b) for a, b in pairs
    ):
        return None
    largest = max(pairs, key=lambda pair: abs(pair[1]))
    factor, shift = largest[0] / largest[1], largest[0] - largest[1]
    is_factor = not math.isclose(factor, 0, abs_tol=NEAR) and not math.isclose(factor, 1, rel_tol=NEAR)
    if is_factor and all(math.isclose(a, factor * b, rel_tol=1e-6, abs_tol=1e-9) for a, b in pairs):
        if math.isclose(factor, -1):
            return "sign", "every number has the wrong sign"
        return "scale", f"every number is {factor:.4g} times the right one"
    if shift and all(math.isclose(a, b + shift, rel_tol=1e-6, abs_tol=1e-9) for a, b in pairs):
        return "shift", f"every number is {abs(shift):.4g} too {'large' if shift > 0 else 'small'}"
    return None
