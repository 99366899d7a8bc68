"""The diagnosis: which known mistake does an answer make? Imports no torch.

The order: right; one known mistake with the same outcomes on all probes; a pair of them; then an exception, changed
arguments, type and shape, NaN; a broken invariant; the kind of mistake; the plain difference.
"""

import itertools
import linecache
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.exercises.catalog import Exercise, Mistake
from lab.exercises.probes import Answer, Array, Grading, Outcome, Probe, is_number, outcome, same_outcome

Outcomes = Sequence[Outcome]  # one per probe


class LazyOutcomes(Sequence[Outcome]):
    """The outcomes of an answer with every probe; a probe is run when its outcome is first asked for.

    Most wrong answers are told apart from the learner's by the first probes, and the others need not run.
    """

    def __init__(self, probes: Sequence[Probe], answer: Answer) -> None:
        self.probes = probes
        self.answer = answer
        self.known: dict[int, Outcome] = {}

    def __len__(self) -> int:
        return len(self.probes)

    def __getitem__(self, number: Any) -> Any:
        if number not in self.known:
            self.known[number] = outcome(self.probes[number], self.answer)
        return self.known[number]


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


class Examiner:
    """Knows the outcomes of the right and of all wrong answers of an exercise; `examine` judges one more answer."""

    def __init__(self, exercise: Exercise, grading: Grading) -> None:
        self.exercise = exercise
        self.grading = grading
        self.right = self.outcomes(grading.right)
        self.readings = [self.right, *(self.outcomes(grading.build(frozenset([id]))) for id in grading.readings)]
        self.wrong = {id: LazyOutcomes(grading.probes, answer) for id, answer in grading.wrong_answers()}

    def outcomes(self, answer: Answer) -> Outcomes:
        """Return what an answer does with every probe."""
        return tuple(outcome(probe, answer) for probe in self.grading.probes)

    def same(self, one: Outcomes, other: Outcomes) -> list[bool]:
        """Return for every probe whether two answers agree on it."""
        return list(self.agreement(one, other))

    def agreement(self, one: Outcomes, other: Outcomes) -> Iterator[bool]:
        """Yield for every probe whether two answers agree on it; a probe that is not asked for need not run."""
        for a, b, probe in zip(one, other, self.grading.probes, strict=True):
            yield same_outcome(a, b, probe)

    def examine(self, answer: Answer, file: str = "") -> Verdict:
        """Return the verdict on an answer, whose code is in `file`."""
        found = self.outcomes(answer)
        expected = max(self.readings, key=lambda reading: sum(self.agreement(found, reading)))  # the nearest reading
        agrees = self.same(found, expected)
        if all(agrees):
            return self._passed(answer)
        if any(isinstance(each.exception, NotImplementedError) for each in found):
            return Verdict("not_started", f"`{self.exercise.name}` still holds the line NotImplementedError")
        counterexample = self.counterexample(found, expected, agrees)
        named = self.named(found)
        if named:
            return self._mistake(named, counterexample)
        partly = self.partly(found, agrees)
        if partly is not None:
            return Verdict(
                "wrong", f"not right everywhere: {partly.question}", f"family:{partly.family}", counterexample
            )
        for verdict in (
            _exception(found, file),
            _returns_none(found, self.right),
            _changed_arguments(found, self.right),
            _type_or_shape(found, self.right),
            _not_a_number(found, self.right),
        ):
            if verdict is not None:
                return _with_details(verdict, counterexample)
        return self._unknown(answer, found, agrees, counterexample)

    def _passed(self, answer: Answer) -> Verdict:
        for invariant in self.grading.invariants:
            if not _holds(invariant.holds, answer):
                return Verdict("wrong", invariant.sentence, f"invariant:{invariant.name}")
        return Verdict("passed", f"{self.exercise.name} is right")

    def named(self, found: Outcomes) -> str:
        """Return the id of the mistake, or of the pair, whose outcomes equal these; "" if there is none."""
        for id, outcomes in self.wrong.items():
            if all(self.agreement(found, outcomes)):
                return id
        for ids in self.combinations():
            outcomes = self.combined(ids)
            if outcomes is not None and all(self.agreement(found, outcomes)):
                return "+".join(id for id in ids if id not in self.grading.readings)
        return ""

    def combinations(self) -> Iterator[tuple[str, ...]]:
        """Yield the mistakes with another reading of the task, the pairs, and the pairs with a reading if it is one."""
        pairs = list(itertools.combinations(self.grading.switches, 2))
        yield from itertools.product(self.grading.switches, self.grading.readings)
        yield from pairs
        if len(self.grading.readings) == 1:
            yield from ((*pair, *self.grading.readings) for pair in pairs)

    def combined(self, ids: Sequence[str]) -> Outcomes | None:
        """Return the outcomes of several mistakes at once; None if they cannot be combined."""
        try:
            answer = self.grading.build(frozenset(ids))
        except KeyError:
            return None
        return LazyOutcomes(self.grading.probes, answer)

    def _mistake(self, ids: str, counterexample: tuple[str, ...]) -> Verdict:
        mistakes = [self.exercise.mistakes[id] for id in ids.split("+")]
        status = "convention" if all(each.convention for each in mistakes) else "mistake"
        return Verdict(status, " ".join(each.hint for each in mistakes), ids, counterexample)

    def _unknown(self, answer: Answer, found: Outcomes, agrees: list[bool], counterexample: tuple[str, ...]) -> Verdict:
        for invariant in self.grading.invariants:
            if not _holds(invariant.holds, answer):
                return Verdict("wrong", invariant.sentence, f"invariant:{invariant.name}", counterexample)
        failing = [probe.name for probe, good in zip(self.grading.probes, agrees, strict=True) if not good]
        message = f"wrong, but none of the known mistakes; look at: {failing[0]}"
        family = self.family(found)
        return Verdict("wrong", message, f"family:{family}" if family else None, counterexample)

    def family(self, found: Outcomes) -> str:
        """Return the kind of the known mistakes that make the same numbers wrong, or else the same probes; or ""."""
        count = len(self.grading.probes)
        for pattern in (self.differences, self.agrees_on):
            mine = [pattern(found, number) for number in range(count)]
            families = {
                self.exercise.mistakes[id].family
                for id, outcomes in self.wrong.items()
                if all(pattern(outcomes, number) == mine[number] for number in range(count))
            }
            if len(families) == 1:
                return families.pop()
        return ""

    def agrees_on(self, found: Outcomes, number: int) -> bool:
        """Return True if an answer is right on a probe."""
        return same_outcome(found[number], self.right[number], self.grading.probes[number])

    def partly(self, found: Outcomes, agrees: Sequence[bool]) -> Mistake | None:
        """Return a known mistake that equals an answer wherever it is wrong; None if there is none, or two kinds."""
        failing = [number for number, good in enumerate(agrees) if not good]
        known = [
            self.exercise.mistakes[id]
            for id, outcomes in self.wrong.items()
            if all(same_outcome(found[number], outcomes[number], self.grading.probes[number]) for number in failing)
        ]
        return known[0] if len({each.family for each in known}) == 1 else None

    def differences(self, found: Outcomes, number: int) -> list[bool]:
        """Return which numbers and texts of an answer's result on a probe differ from the right ones."""
        pairs = zip(leaves(found[number].value), leaves(self.right[number].value), strict=False)
        return [not _close(mine, right) for (_, mine), (_, right) in pairs]

    def counterexample(self, found: Outcomes, expected: Outcomes, agrees: list[bool]) -> tuple[str, ...]:
        """Return lines with the first probe on which an answer is wrong: input, expected, found."""
        number = agrees.index(False)
        probe = self.grading.probes[number]
        lines = [f"Input: {probe.name}"]
        lines += [f"  {name} = {shown(value)}" for name, value in probe.arguments().items()]
        lines.append(f"  expected  {shown_outcome(expected[number])}")
        lines.append(f"  yours     {shown_outcome(found[number])}")
        difference = first_difference(found[number].value, expected[number].value)
        return (*lines, difference) if difference else tuple(lines)


def _holds(property: Any, answer: Answer) -> bool:
    try:
        return bool(property(answer))
    except Exception:  # an answer that raises has been judged by its exception
        return True


def _with_details(verdict: Verdict, details: tuple[str, ...]) -> Verdict:
    return Verdict(verdict.status, verdict.message, verdict.mistake, (*verdict.details, *details))


def _exception(found: Outcomes, file: str) -> Verdict | None:
    error = next((each.exception for each in found if each.exception is not None), None)
    if error is None:
        return None
    if isinstance(error, SystemExit):
        return Verdict("error", "your code ends the program: take out exit()")
    return Verdict("error", described(error), details=tuple(where(error, file)))


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


def _returns_none(found: Outcomes, right: Outcomes) -> Verdict | None:
    if any(mine.value is None and expected.value is not None for mine, expected in zip(found, right, strict=True)):
        return Verdict("error", "it returns None: is there a `return`?")
    return None


def _changed_arguments(found: Outcomes, right: Outcomes) -> Verdict | None:
    for mine, expected in zip(found, right, strict=True):
        names = [name for name in mine.changed if name not in expected.changed]
        if names:
            return Verdict("wrong", f"you changed `{names[0]}` in place; work on a copy")
    return None


def _type_or_shape(found: Outcomes, right: Outcomes) -> Verdict | None:
    for mine, expected in zip(found, right, strict=True):
        problem = structure_problem(mine.value, expected.value)
        if problem:
            return Verdict("error", problem)
    return None


def structure_problem(mine: Any, expected: Any, name: str = "the result") -> str:
    """Return what is wrong with type, dtype, shape or length of a value, in one line; "" if nothing is."""
    if isinstance(expected, Array):
        if not isinstance(mine, Array) or mine.kind != expected.kind:
            return f"{name} must be a {expected.kind} of shape {expected.shape}, not {shown_type(mine)}"
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


def _not_a_number(found: Outcomes, right: Outcomes) -> Verdict | None:
    for mine, expected in zip(found, right, strict=True):
        for place, value in numbers(mine.value):
            if value != value and all(each == each for _, each in numbers(expected.value)):
                return Verdict("wrong", f"the result is NaN at {place or 'its only number'}")
    return None


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


def first_difference(mine: Any, expected: Any) -> str:
    """Return a line that names the first number or text that differs; "" where the structures differ."""
    pairs = list(zip(leaves(mine), leaves(expected), strict=False))
    for (place, value), (other_place, other) in pairs:
        if place == other_place and place and not _close(value, other):
            if isinstance(value, str) and isinstance(other, str):
                value, other = _from_the_difference(value, other)
                return f"  yours {value!r}, expected {other!r}"
            return f"  first difference at {place}: {shown(value)}, expected {shown(other)}"
    return ""


def _from_the_difference(one: str, other: str) -> tuple[str, str]:
    """Return two texts from the first part, of those separated by semicolons, that differs."""
    parts, other_parts = one.split("; "), other.split("; ")
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(parts, other_parts, strict=False)))
    return "; ".join(parts[same : same + 1]) or "nothing more", "; ".join(
        other_parts[same : same + 1]
    ) or "nothing more"


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one == other or abs(one - other) <= 1e-9 * max(abs(one), abs(other)) or (one != one and other != other)


def shown_outcome(each: Outcome) -> str:
    """Return an outcome for the card."""
    if each.error:
        return described(each.exception) if each.exception else each.error
    return shown(each.value)


def shown(value: Any) -> str:
    """Return a value in at most one line, numbers with four digits."""
    if hasattr(value, "detach") or hasattr(value, "__array__"):
        from lab.exercises.probes import plain

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
