"""Probes: run a function on chosen input, and note all that can be compared of what it does. Imports no torch.

An answer is a namespace: the names of functions (or classes) and the functions. A probe runs an answer and returns an
`Outcome` of plain data, so that outcomes can be compared, printed and sent from process to process.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeGuard

Answer = Mapping[str, Any]  # name -> function
RELATIVE = 1e-9  # tolerance of float64; halves and quarters leave no rounding to hide in


class EndlessLoopError(Exception):
    """Raised by the environments and tables of a probe after more calls than any right answer makes."""


@dataclass(frozen=True)
class Array:
    """A tensor or array as plain data."""

    kind: str  # "tensor" or "array"
    dtype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...]  # flattened


@dataclass(frozen=True)
class Outcome:
    """All that can be compared of one call: its result, or its exception, and the arguments that it changed."""

    value: Any = None  # plain data: numbers, text, lists, dictionaries, Array
    error: str = ""  # class of the exception
    changed: tuple[str, ...] = ()  # arguments that are not what they were
    exception: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Probe:
    """One input, and how an answer is run on it.

    Attributes:
        name: what is special about the input, in a few words, for the card.
        run: runs an answer and returns what is compared; the arguments are made again for each run.
        arguments: returns the arguments to show on the card.
        relative, absolute: tolerances of the comparison.
    """

    name: str
    run: Callable[[Answer], Any]
    arguments: Callable[[], Mapping[str, Any]] = dict
    relative: float = RELATIVE
    absolute: float = 1e-12


@dataclass(frozen=True)
class Invariant:
    """A property that every right answer has, or should have, and a sentence for an answer that lacks it."""

    name: str
    holds: Callable[[Answer], bool]
    sentence: str


@dataclass(frozen=True)
class Changed:
    """A result together with the names of the arguments that were changed in place."""

    value: Any
    names: tuple[str, ...]


@dataclass(frozen=True)
class Grading:
    """The probes and answers of an exercise. The right answer and the wrong ones are run on every probe.

    Attributes:
        right: the right answer.
        build: returns the answer with the given mistakes, as a set of ids; raises KeyError if they cannot be combined.
        plain: wrong answers that cannot be combined, by id.
        readings: ids for `build` that are no mistakes: another reading of the task, which passes.
        remarks: properties of a good answer; one that lacks them is right all the same, and is told so.
    """

    probes: Sequence[Probe]
    right: Answer
    build: Callable[[frozenset[str]], Answer]
    switches: Sequence[str]
    plain: Mapping[str, Answer] = field(default_factory=dict)
    invariants: Sequence[Invariant] = ()
    readings: Sequence[str] = ()
    remarks: Sequence[Invariant] = ()

    def wrong_answers(self) -> Iterator[tuple[str, Answer]]:
        """Yield every wrong answer with one mistake, and the mistake's id."""
        for id in self.switches:
            yield id, self.build(frozenset([id]))
        yield from self.plain.items()


def call(
    function: str,
    name: str,
    arguments: Callable[[], Mapping[str, Any]],
    result: Callable[[Any], Any] = lambda value: value,
    **settings: Any,
) -> Probe:
    """Return the probe that calls a function once, with its arguments by position; those that it changes are noted.

    `result` turns what the function returns into what is compared, such as `as_number`.
    """

    def run(answer: Answer) -> Changed:
        given = arguments()
        return noting_changes(given, lambda: result(answer[function](*given.values())))

    return Probe(name, run, arguments, **settings)


def noting_changes(given: Mapping[str, Any], run: Callable[[], Any]) -> Changed:
    """Return the result of `run`, with the names of the given arguments that are not what they were before."""
    before = {key: state(value) for key, value in given.items()}
    value = plain(run())
    changed = tuple(key for key, value in given.items() if not same(state(value), before[key]))
    return Changed(value, changed)


def state(value: Any) -> Any:
    """Return all of an argument that a call may not change, as plain data.

    Of a tensor also whether it requires a gradient and is a leaf, of a module its attributes and parameters.
    """
    if isinstance(value, Mapping):
        return {key: state(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [state(item) for item in value]
    if hasattr(value, "named_parameters"):
        hidden = ("_", "training")  # `eval` and `train` change no results of the modules here
        attributes = {name: each for name, each in vars(value).items() if not name.startswith(hidden)}
        return {"attributes": plain(attributes), "parameters": state(dict(value.named_parameters()))}
    if hasattr(value, "requires_grad"):
        return [plain(value), value.requires_grad, value.is_leaf]
    return plain(value)


def outcome(probe: Probe, answer: Answer) -> Outcome:
    """Return what an answer does with a probe; an exception is part of the outcome, but for MemoryError."""
    try:
        result = probe.run(answer)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # whatever a learner's code raises
        return Outcome(error=type(error).__name__, exception=error)
    if isinstance(result, Changed):
        return Outcome(result.value, changed=result.names)
    return Outcome(plain(result))


def plain(value: Any) -> Any:
    """Return a value as plain data: tensors and arrays as `Array`, the rest by type."""
    if hasattr(value, "detach"):
        value = value.detach()
        dtype = str(value.dtype).removeprefix("torch.")
        return Array("tensor", dtype, tuple(value.shape), tuple(value.flatten().tolist()))
    if hasattr(value, "__array__") and hasattr(value, "dtype"):
        if value.shape == ():
            return value.item()
        values = value.flatten().tolist()
        if value.dtype == object:  # such as rows of which some are None
            values = [plain(each) for each in values]
        return Array("array", str(value.dtype), tuple(value.shape), tuple(values))
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return f"<{type(value).__name__}>"


def as_number(value: Any) -> Any:
    """Return a tensor or array without dimensions, a fraction or a decimal as a number; everything else as it is."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    return float(value) if isinstance(value, (Fraction, Decimal)) else value


def same_outcome(one: Outcome, other: Outcome, probe: Probe) -> bool:
    """Return True if two outcomes of a probe cannot be told apart."""
    return (
        one.error == other.error
        and one.changed == other.changed
        and same(one.value, other.value, probe.relative, probe.absolute)
    )


def same(one: Any, other: Any, relative: float = 0.0, absolute: float = 0.0) -> bool:
    """Return True if two plain values are equal within the tolerances; NaN equals NaN."""
    if isinstance(one, Array) and isinstance(other, Array):
        alike = (one.kind, one.dtype, one.shape) == (other.kind, other.dtype, other.shape)
        return alike and same(list(one.values), list(other.values), relative, absolute)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], relative, absolute) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b, relative, absolute) for a, b in zip(one, other, strict=True))
    if is_number(one) and is_number(other):
        return same_number(one, other, relative, absolute)
    return type(one) is type(other) and one == other


def is_number(value: Any) -> TypeGuard[float]:
    """Return True for a number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same_number(one: float, other: float, relative: float, absolute: float) -> bool:
    """Return True if two numbers are equal within the tolerances; NaN equals NaN."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other or math.isclose(one, other, rel_tol=relative, abs_tol=absolute)


def copied(**values: Any) -> Callable[[], Mapping[str, Any]]:
    """Return a function that returns new copies of the given arguments."""
    return lambda: {name: copy.deepcopy(value) for name, value in values.items()}
