"""The diagnosis: which known mistake does an answer make? Imports no torch.

The order: right; one known mistake with the same outcomes on all probes; a pair of them; then an exception, changed
arguments, type and shape, NaN; a broken invariant; the kind of mistake; the plain difference.
"""

import itertools
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lab.exercises.catalog import Exercise, Mistake
from lab.exercises.describing import (
    described,
    first_difference,
    is_close,
    leaves,
    numbers,
    shown,
    shown_outcome,
    structure_problem,
    where,
)
from lab.exercises.probes import Answer, Grading, Outcome, Probe, outcome, same_outcome
from lab.exercises.stubs import PLACEHOLDER

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
        unwritten = _unwritten(found)
        if unwritten:
            return Verdict("not_started", f"`{unwritten}` still holds the line NotImplementedError")
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
        return [not is_close(mine, right) for (_, mine), (_, right) in pairs]

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


def _unwritten(found: Outcomes) -> str:
    """Return the name of the first function that is still as in the stub; "" if there is none.

    PyTorch raises NotImplementedError, too, for example for a softmax of whole numbers.
    """
    for each in found:
        if isinstance(each.exception, NotImplementedError) and str(each.exception) in PLACEHOLDER:
            return traceback.extract_tb(each.exception.__traceback__)[-1].name
    return ""


def _exception(found: Outcomes, file: str) -> Verdict | None:
    error = next((each.exception for each in found if each.exception is not None), None)
    if error is None:
        return None
    if isinstance(error, SystemExit):
        return Verdict("error", "your code ends the program: take out exit()")
    return Verdict("error", described(error), details=tuple(where(error, file)))


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


def _not_a_number(found: Outcomes, right: Outcomes) -> Verdict | None:
    for mine, expected in zip(found, right, strict=True):
        for place, value in numbers(mine.value):
            if value != value and all(each == each for _, each in numbers(expected.value)):
                return Verdict("wrong", f"the result is NaN at {place or 'its only number'}")
    return None
