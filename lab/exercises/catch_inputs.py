"""Arguments that a learner writes as plain numbers and lists: read, checked, and turned into tensors.

Imports torch only where a tensor is made.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LARGEST = 1e6  # absolute value of a number
MAX_NUMBERS = 200  # in one argument, so that many wrong answers together take little time
MAX_DIMENSIONS = 6
NOUNS = {float: ("a number", "numbers"), int: ("an integer", "integers"), bool: ("True or False", "True or False")}

Sizes = Mapping[str, Any]  # the size of every letter of a shape, and of "..."; the value of every single integer
Shape = tuple[int, ...]


class InvalidInputError(ValueError):
    """Raised where an input does not fit the function; its text is one line for the learner."""


@dataclass(frozen=True)
class Numbers:
    """An argument that holds numbers: a single one, a tensor, or nested lists.

    Attributes:
        kind: float, int, or bool.
        shape: such as "(T, N)" or "(B,) or (B, 1)"; "" for a single number, "any" for any shape. The same letter has
            the same size in all arguments; "..." stands for any number of dimensions.
        low, high: the smallest and the largest number; a name is that of an argument, a single integer.
        below: a letter, whose size is more than every number.
        tensor: the function takes tensors, not lists.
        optional: None is allowed.
    """

    kind: type
    shape: str = ""
    low: float | str = -LARGEST
    high: float = LARGEST
    below: str = ""
    tensor: bool = True
    optional: bool = False

    def describe(self) -> str:
        """Return what to write, in a few words."""
        single, several = NOUNS[self.kind]
        if not self.shape:
            text = single
        else:
            shape = "of any shape" if self.shape == "any" else self.shape
            text = f"{'tensor' if self.tensor else 'list'} {shape} of {several}"
        return text + self._range() + (", or None" if self.optional else "")

    def _range(self) -> str:
        if self.below:
            return f" from 0 to {self.below} - 1"
        low, high = self.low != -LARGEST, self.high != LARGEST
        if self.kind is bool or not (low or high):
            return ""
        return f" from {_short(self.low)} to {_short(self.high)}" if high else f", at least {_short(self.low)}"

    def fit(self, name: str, value: Any, sizes: Sizes) -> Sizes:
        """Return the sizes together with those of this argument. Raises InvalidInputError if they do not agree."""
        if value is None and self.optional:
            return sizes
        shape = shape_of(name, value)
        if not self.shape:
            if shape:
                raise InvalidInputError(f"{name} is a list; expected {self.describe()}")
            return {**sizes, name: value}
        if self.shape == "any":
            return sizes
        for dimensions in _dimensions(self.shape):
            fitted = _bind(dimensions, shape, sizes)
            if fitted is not None:
                return fitted
        known = ", ".join(
            f"{letter} = {sizes[letter]}"
            for letter in itertools.chain(*_dimensions(self.shape))
            if letter in sizes and letter != "..."
        )
        where = f" with {known}" if known else ""
        raise InvalidInputError(f"{name} has the shape {shape}; expected {self.shape}{where}")

    def check(self, name: str, value: Any, sizes: Sizes) -> None:
        """Raise InvalidInputError if a number is not what the function takes."""
        if value is None and self.optional:
            return
        low = sizes[self.low] if isinstance(self.low, str) else self.low
        high = sizes[self.below] - 1 if self.below else self.high
        for place, number in _leaves(value):
            _check_type(f"{name}{place}", number, self.kind)
            if self.kind is not bool and not (0 if self.below else low) <= number <= high:
                raise InvalidInputError(f"{name}{place} is {_shown(number)}; expected {self.describe()}")

    def convert(self, value: Any) -> Any:
        """Return the argument that the function is called with."""
        if value is None:
            return None
        if self.shape and self.tensor:
            import torch

            return torch.tensor(value, dtype={float: torch.float64, int: torch.int64, bool: torch.bool}[self.kind])
        return _cast(value, self.kind)


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of one action: a list of (probability, next state, reward, terminated). `states` is a letter."""

    states: str

    def describe(self) -> str:
        """Return what to write, in a few words."""
        return (
            f"list of (probability, next_state, reward, terminated); next_state from 0 to {self.states} - 1, "
            "the probabilities sum to 1"
        )

    def fit(self, name: str, value: Any, sizes: Sizes) -> Sizes:
        """Return the sizes: outcomes add none. Raises InvalidInputError if an outcome does not have four entries."""
        if not isinstance(value, list) or not all(isinstance(row, list) and len(row) == 4 for row in value):
            raise InvalidInputError(f"{name} must be a {self.describe()}")
        if not 1 <= len(value) <= MAX_NUMBERS // 4:
            raise InvalidInputError(f"{name} has {len(value)} entries; expected 1 to {MAX_NUMBERS // 4}")
        return sizes

    def check(self, name: str, value: Any, sizes: Sizes) -> None:
        """Raise InvalidInputError if the outcomes are no probability distribution, or a state does not exist."""
        columns = (
            Numbers(float, low=0, high=1),
            Numbers(int, below=self.states),
            Numbers(float),
            Numbers(bool),
        )
        for number, row in enumerate(value):
            for place, (column, entry) in enumerate(zip(columns, row, strict=True)):
                column.check(f"{name}[{number}][{place}]", entry, sizes)
        total = sum(row[0] for row in value)
        if not math.isclose(total, 1.0, rel_tol=1e-9):
            raise InvalidInputError(f"the probabilities in {name} sum to {total:.6g}; expected 1")

    def convert(self, value: Any) -> Any:
        """Return a list of tuples."""
        return [(float(p), state, float(reward), bool(terminated)) for p, state, reward, terminated in value]


Argument = Numbers | Outcomes


def read_inputs(given: Any, arguments: Mapping[str, Argument]) -> dict[str, Any]:
    """Return a learner's input by name, as plain lists and numbers. Raises InvalidInputError, one line."""
    values = {name: as_lists(name, value) for name, value in _by_name(given, list(arguments)).items()}
    sizes: Sizes = {}
    for name, argument in arguments.items():
        sizes = argument.fit(name, values[name], sizes)
    for name, argument in arguments.items():
        argument.check(name, values[name], sizes)
    return values


def _by_name(given: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the arguments by name, in the order of the function."""
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise InvalidInputError(f"`inputs` returns {len(given)} arguments; expected {len(names)}")
        return dict(zip(names, given, strict=True))
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"`inputs` must return a dictionary of the arguments, not {type(given).__name__}")
    missing = [name for name in names if name not in given]
    if missing:
        raise InvalidInputError(f"`inputs` returns no `{missing[0]}`")
    others = [str(name)[:40] for name in given if name not in names]
    if others:
        raise InvalidInputError(f"`inputs` returns `{others[0]}`, which is no argument of the function")
    return {name: given[name] for name in names}


def as_lists(name: str, value: Any, depth: int = 0) -> Any:
    """Return numbers as nested lists; tensors, arrays and tuples become lists. Raises InvalidInputError if too many."""
    if hasattr(value, "tolist"):  # of PyTorch or NumPy
        if math.prod(value.shape) > MAX_NUMBERS:
            raise InvalidInputError(f"{name} holds more than {MAX_NUMBERS} numbers")
        return value.tolist()
    if not isinstance(value, (list, tuple, range)):
        return value
    if len(value) > MAX_NUMBERS:
        raise InvalidInputError(f"{name} holds more than {MAX_NUMBERS} numbers")
    if depth == MAX_DIMENSIONS:
        raise InvalidInputError(f"{name} has more than {MAX_DIMENSIONS} dimensions")
    return [as_lists(name, each, depth + 1) for each in value]


def shape_of(name: str, value: Any) -> Shape:
    """Return the shape of nested lists. Raises InvalidInputError if their lengths differ, or if they are too long."""
    shape: list[int] = []
    inner = value
    while isinstance(inner, list):
        if not inner:
            raise InvalidInputError(f"{name} is empty: every dimension needs at least one entry")
        shape.append(len(inner))
        inner = inner[0]
    if math.prod(shape) > MAX_NUMBERS:
        raise InvalidInputError(f"{name} holds more than {MAX_NUMBERS} numbers")
    if not _is_rectangular(value, shape):
        raise InvalidInputError(f"the rows of {name} do not all have the same length")
    return tuple(shape)


def _is_rectangular(value: Any, shape: Sequence[int]) -> bool:
    if not shape:
        return not isinstance(value, list)
    return (
        isinstance(value, list) and len(value) == shape[0] and all(_is_rectangular(each, shape[1:]) for each in value)
    )


def _dimensions(text: str) -> list[list[str]]:
    """Return the letters of each shape in a text such as "(B,) or (B, 1)"."""
    return [
        [letter.strip() for letter in part.strip("() ").split(",") if letter.strip()] for part in text.split(" or ")
    ]


def _bind(dimensions: Sequence[str], shape: Shape, sizes: Sizes) -> Sizes | None:
    """Return the sizes with those of a shape added; None if they do not agree."""
    bound = dict(sizes)
    if dimensions[0] == "...":
        dimensions = dimensions[1:]
        leading = shape[: max(0, len(shape) - len(dimensions))]
        if bound.setdefault("...", leading) != leading:
            return None
        shape = shape[len(leading) :]
    if len(dimensions) != len(shape):
        return None
    for letter, size in zip(dimensions, shape, strict=True):
        expected = int(letter) if letter.isdigit() else bound.setdefault(letter, size)
        if size != expected:
            return None
    return bound


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, list):
        yield place, value
        return
    for number, each in enumerate(value):
        yield from _leaves(each, f"{place}[{number}]")


def _check_type(place: str, number: Any, kind: type) -> None:
    """Raise InvalidInputError if a number is of another type, or not finite; 0 and 1 can stand for False and True."""
    is_bool, is_whole = isinstance(number, bool), isinstance(number, int)
    good = {
        bool: is_bool or (is_whole and number in (0, 1)),
        int: is_whole and not is_bool,
        float: (is_whole and not is_bool) or isinstance(number, float),
    }[kind]
    if not good:
        raise InvalidInputError(f"{place} is {_shown(number)}; expected {NOUNS[kind][0]}")
    if isinstance(number, float) and not math.isfinite(number):
        raise InvalidInputError(f"{place} is {number}; only finite numbers can be compared")


def _cast(value: Any, kind: type) -> Any:
    return [_cast(each, kind) for each in value] if isinstance(value, list) else kind(value)


def _shown(value: Any) -> str:
    """Return a single value for a message; of what is no number, the type."""
    if value is None or isinstance(value, (bool, float)):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) <= 10**20 else "a very large number"
    return f"of type {type(value).__name__}"


def _short(number: float | str) -> str:
    return number if isinstance(number, str) else f"{number:g}"
