"""The diagnosis: which known mistake does an answer make? Imports no torch.

The order: right; one known mistake with the same outcomes on all probes; a pair of them; of several functions the first
wrong one; a known mistake that fits wherever the answer is wrong; then a relation to the right result; an exception,
changed arguments, type and shape; an argument that explains the result; NaN; a broken invariant; the kind of the known
mistakes that it is like; the plain difference.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from lab.exercises.arguments import explanation
from lab.exercises.catalog import Exercise, Mistake
from lab.exercises.describing import (
    described,
    first_difference,
    is_close,
    leaves,
    shown,
    shown_outcome,
    where,
)
from lab.exercises.likeness import Deviation, deviation, likeness, same_exception
from lab.exercises.probes import Answer, Grading, Outcome, Probe, outcome, same_outcome
from lab.exercises.relations import relation
from lab.exercises.verdicts import (
    Outcomes,
    Verdict,
    changed_arguments,
    exception,
    not_a_number,
    not_started,
    returns_none,
    type_or_shape,
    unwritten_function,
)

ALIKE = 0.6  # likeness from which an answer counts as a relative of a known mistake
LEAD = 0.25  # by which the mistakes of every other family must be less like it
LEAST_ALIKE, SMALL_LEAD = 0.5, 0.15  # enough where all mistakes that are wrong in the same places are of one family


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


class Examiner:
    """Knows the outcomes of the right and of all wrong answers of an exercise; `examine` judges one more answer."""

    def __init__(self, exercise: Exercise, grading: Grading) -> None:
        self.exercise = exercise
        self.grading = grading
        self.on_outcomes: Callable[[], None] = lambda: None  # called when an answer has run, before the diagnosis
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

    def _nearness(self, found: Outcomes, reading: Outcomes) -> tuple[int, int]:
        """Return on how many probes an answer agrees with a reading of the task, and on how many its results do."""
        results = [replace(mine, changed=other.changed) for mine, other in zip(found, reading, strict=True)]
        return sum(self.agreement(found, reading)), sum(self.agreement(results, reading))

    def examine(self, answer: Answer, file: str = "") -> Verdict:
        """Return the verdict on an answer, whose code is in `file`."""
        found = self.outcomes(answer)
        self.on_outcomes()
        expected = self._reading(found)
        agrees = self.same(found, expected)
        if all(agrees):
            return self._passed(answer, file)
        named = self.named(found)
        if named:
            return self._mistake(named, self.counterexample(found, expected, agrees))
        first_wrong = self._first_wrong_function(answer, file)
        if first_wrong is not None:
            return first_wrong
        unwritten = unwritten_function(found)
        if unwritten:
            return not_started(self.exercise, unwritten)
        return self._not_named(answer, found, expected, file)

    def _first_wrong_function(self, answer: Answer, file: str) -> Verdict | None:
        """Return the verdict on the first function, of several, that is written and wrong; None if there is none.

        Each function is tried with the right ones in place of the others.
        """
        functions = self.exercise.functions if len(self.exercise.functions) > 1 else ()
        for name in functions:
            alone = {**self.grading.right, name: answer[name]}
            found = self.outcomes(alone)
            expected = self._reading(found)
            agrees = self.same(found, expected)
            if all(agrees) or unwritten_function(found):
                continue
            named = self.named(found)
            if named:
                return self._mistake(named, self.counterexample(found, expected, agrees))
            verdict = self._not_named(alone, found, expected, file)
            if (verdict.mistake or "").startswith("invariant:"):  # a property of the functions together
                return verdict
            return replace(verdict, message=f"{name}: {verdict.message}")
        return None

    def _reading(self, found: Outcomes) -> Outcomes:
        """Return the reading of the task that an answer is nearest to."""
        return max(self.readings, key=lambda reading: self._nearness(found, reading))

    def _not_named(self, answer: Answer, found: Outcomes, expected: Outcomes, file: str) -> Verdict:
        """Return the verdict on a wrong answer that equals none of the known mistakes, nor a pair of them."""
        agrees = self.same(found, expected)
        counterexample = self.counterexample(found, expected, agrees)
        partly = self.partly(found, agrees)
        if partly is not None:
            message = f"not right everywhere: {partly.question}"
            return Verdict("wrong", message, f"family:{partly.family}", counterexample)
        verdict = self._unknown(answer, found, agrees, file)
        return replace(verdict, details=(*verdict.details, *counterexample))

    def _passed(self, answer: Answer, file: str) -> Verdict:
        """Return the verdict on an answer that is right on all probes: it must have the invariants, too.

        An exception counts if it comes from the learner's code.
        """
        for invariant in self.grading.invariants:
            id = f"invariant:{invariant.name}"
            try:
                if not invariant.holds(answer):
                    return Verdict("wrong", invariant.sentence, id)
            except Exception as error:  # whatever a learner's code raises
                lines = tuple(where(error, file))
                if lines:
                    return Verdict("wrong", f"{invariant.sentence}: {described(error)}", id, lines)
        remarks = [remark.sentence for remark in self.grading.remarks if not _holds(remark.holds, answer, False)]
        return Verdict("passed", "; ".join([f"{self.exercise.name} is right", *remarks]))

    def named(self, found: Outcomes) -> str:
        """Return the id of the mistake, or of the pair, whose outcomes equal these; "" if there is none."""
        every = range(len(self.grading.probes))
        for id, outcomes in self.wrong.items():
            if self.equals(found, outcomes, every):
                return id
        for ids in self.combinations():
            outcomes = self.combined(ids)
            if outcomes is not None and self.equals(found, outcomes, every):
                return "+".join(id for id in ids if id not in self.grading.readings)
        return ""

    def equals(self, found: Outcomes, outcomes: Outcomes, numbers: Iterable[int]) -> bool:
        """Return True if an answer equals a mistake on these probes, with exceptions for the same reason."""
        return all(
            same_outcome(found[number], outcomes[number], self.grading.probes[number])
            and same_exception(found[number], outcomes[number])
            for number in numbers
        )

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

    def _unknown(self, answer: Answer, found: Outcomes, agrees: list[bool], file: str) -> Verdict:
        """Return the verdict on an answer that is none of the known mistakes."""
        pairs = list(zip(found, self.right, strict=True))
        related = relation(
            *([pair for pair, good in zip(pairs, agrees, strict=True) if good is one] for one in (False, True))
        )
        verdict = (
            exception(found, file)
            or returns_none(found, self.right)
            or changed_arguments(found, self.right)
            or type_or_shape(found, self.right)
        )
        if related is not None:
            family, sentence = related
            status = verdict.status if verdict else "wrong"
            message = f"{verdict.message}: {sentence}" if verdict else sentence
            return Verdict(status, message, f"family:{family}")
        if verdict is None:
            sentence = explanation(self.grading.right, found, agrees, self.grading.probes)
            if sentence:
                return Verdict("wrong", sentence, "family:argument")
        verdict = verdict or not_a_number(found, self.right) or self._broken(answer)
        if verdict is None:
            failing = [probe.name for probe, good in zip(self.grading.probes, agrees, strict=True) if not good]
            verdict = Verdict("wrong", f"wrong, but none of the known mistakes; look at: {failing[0]}")
        return self._with_family(verdict, found)

    def _broken(self, answer: Answer) -> Verdict | None:
        for invariant in self.grading.invariants:
            if not _holds(invariant.holds, answer, True):  # its exceptions have been judged
                return Verdict("wrong", invariant.sentence, f"invariant:{invariant.name}")
        return None

    def _with_family(self, verdict: Verdict, found: Outcomes) -> Verdict:
        """Return the verdict with the kind of mistake, and the question that it raises, if the kind can be told."""
        like = None if verdict.mistake else self.like(found)
        if like is None:
            return verdict
        return Verdict(verdict.status, f"{verdict.message}; {like.question}", f"family:{like.family}", verdict.details)

    def like(self, found: Outcomes) -> Mistake | None:
        """Return the known mistake that an answer is like; None if there is none, or if its kind is in doubt."""
        mine = list(self.deviations(found))
        least = LEAST_ALIKE - SMALL_LEAD  # less does not put the lead in doubt
        likenesses = {
            id: likeness(mine, self.deviations(outcomes), least)
            for id, outcomes in self.wrong.items()
            if self._starts_alike(mine, outcomes)
        }
        if not likenesses:
            return None
        nearest = self.exercise.mistakes[max(likenesses, key=lambda id: likenesses[id])]
        others = [value for id, value in likenesses.items() if self.exercise.mistakes[id].family != nearest.family]
        largest = likenesses[nearest.id]
        lead = largest - max(others, default=0.0)
        if largest >= ALIKE and lead >= LEAD:
            return nearest
        alone = largest >= LEAST_ALIKE and lead >= SMALL_LEAD and self.family(found) == nearest.family
        return nearest if alone else None

    def _starts_alike(self, mine: Sequence[Deviation | None], outcomes: Outcomes) -> bool:
        """Return True if a mistake is wrong in the same way on the first probe on which an answer is wrong."""
        number, first = next((number, each) for number, each in enumerate(mine) if each is not None)
        other = deviation(outcomes[number], self.right[number], self.grading.probes[number])
        return other is not None and other.kind == first.kind

    def deviations(self, found: Outcomes) -> Iterator[Deviation | None]:
        """Yield for every probe what is wrong with the outcome; a probe that is not asked for need not run."""
        return (deviation(*each) for each in zip(found, self.right, self.grading.probes, strict=True))

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
        """Return a known mistake that equals an answer wherever it is wrong; None if there is none, or two kinds.

        Where an answer does nothing but raise exceptions, these say more.
        """
        failing = [number for number, good in enumerate(agrees) if not good]
        if all(found[number].error for number in failing):
            return None
        known = [self.exercise.mistakes[id] for id, each in self.wrong.items() if self.equals(found, each, failing)]
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
        changed = [name for name in found[number].changed if name not in expected[number].changed]
        lines += [f"  changed   {name}, an argument" for name in changed]
        difference = first_difference(found[number].value, expected[number].value, probe.relative, probe.absolute)
        return (*lines, difference) if difference else tuple(lines)


def _holds(property: Any, answer: Answer, if_it_raises: bool) -> bool:
    """Return whether an answer has a property; `if_it_raises` for one that raises an exception."""
    try:
        return bool(property(answer))
    except Exception:  # whatever a learner's code raises
        return if_it_raises
