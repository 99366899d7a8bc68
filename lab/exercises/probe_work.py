"""The use of every probe: each is dropped in turn, and what is lost is counted."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from lab.exercises.careless import careless_answers
from lab.exercises.diagnosis import Examiner
from lab.exercises.mutations import mutants
from lab.exercises.time_limit import OutOfTime, time_limit
from lab.exercises.verdicts import Outcomes

MUTANT_SECONDS = 5.0


@dataclass
class Work:
    """Counts of what is lost without a probe."""

    survive: int = 0  # wrong answers that no other probe catches
    alike: int = 0  # pairs of known mistakes that no other probe tells apart
    counterexamples: int = 0  # known mistakes that it is the first to catch, so that the card shows its small input
    kinds: int = 0  # mistakes whose kind is told right, if they are not known; counted only where nothing else is lost

    @property
    def is_idle(self) -> bool:
        """Return True if nothing is lost."""
        return not any(asdict(self).values())


def work_of_probes(examiner: Examiner, solution: str) -> dict[str, Work]:
    """Return for every probe what is lost without it.

    The wrong answers are the known mistakes, their pairs, the careless answers, and the mutants of the solution.
    """
    work = [Work() for _ in examiner.grading.probes]
    for number, kind in _pieces_of_work(examiner, solution):
        setattr(work[number], kind, getattr(work[number], kind) + 1)
    for number, each in enumerate(work):
        each.kinds = _kinds_lost(examiner, number) if each.is_idle else 0
    return {probe.name: each for probe, each in zip(examiner.grading.probes, work, strict=True)}


def idle_probes(examiner: Examiner, solution: str) -> list[str]:
    """Return the probes without which nothing is lost; wrong answers are tried only until every probe has work."""
    names = [probe.name for probe in examiner.grading.probes]
    idle = set(range(len(names)))
    for number, _ in _pieces_of_work(examiner, solution):
        idle.discard(number)
        if not idle:
            break
    return [names[number] for number in sorted(idle) if not _kinds_lost(examiner, number)]


def _pieces_of_work(examiner: Examiner, solution: str) -> Iterator[tuple[int, str]]:
    """Yield (number of a probe, field of `Work`) for everything that is lost without a probe."""
    for outcomes in examiner.wrong.values():
        yield _catching(examiner, outcomes)[0], "counterexamples"
    for one, other in itertools.combinations(examiner.wrong.values(), 2):
        different = [number for number, same in enumerate(examiner.agreement(one, other)) if not same]
        if len(different) == 1:
            yield different[0], "alike"
    for outcomes in wrong_outcomes(examiner, solution):
        catching = _catching(examiner, outcomes)
        if len(catching) == 1:
            yield catching[0], "survive"


def _kinds_lost(examiner: Examiner, number: int) -> int:
    """Return how many kinds of mistakes are told right only with a probe, less those told wrong with it; at least 0."""
    probes = [probe for other, probe in enumerate(examiner.grading.probes) if other != number]
    without = Examiner(examiner.exercise, replace(examiner.grading, probes=probes))
    return max(_kinds_told(examiner) - _kinds_told(without), 0)


def _kinds_told(examiner: Examiner) -> int:
    """Return how many mistakes would get their own kind if they were not known, less those that would get another."""
    known, mistakes = examiner.wrong, examiner.exercise.mistakes
    told = 0
    for id, outcomes in known.items():
        examiner.wrong = {other: each for other, each in known.items() if other != id}
        like = examiner.like(outcomes)
        if like is not None:
            told += 1 if like.family == mistakes[id].family else -1
    examiner.wrong = known
    return told


def _catching(examiner: Examiner, outcomes: Outcomes) -> list[int]:
    """Return the numbers of the probes that catch an answer."""
    return [number for number, right in enumerate(examiner.agreement(outcomes, examiner.right)) if not right]


def wrong_outcomes(examiner: Examiner, solution: str) -> Iterator[Outcomes]:
    """Yield what every wrong answer does with the probes; mutants that do not end are left out."""
    yield from examiner.wrong.values()
    for _, answer in careless_answers(examiner.grading.right, tensors=examiner.exercise.needs_torch):
        yield examiner.outcomes(answer)
    for pair in itertools.combinations(examiner.grading.switches, 2):
        outcomes = examiner.combined(pair)
        if outcomes is not None:
            yield outcomes
    for _, code in mutants(solution):
        outcomes = _outcomes_of_code(examiner, code)
        if outcomes:
            yield outcomes


def _outcomes_of_code(examiner: Examiner, code: str) -> Sequence:
    """Return what the functions in `code` do with the probes; nothing if it does not run or does not end."""
    names: dict = {}
    try:
        with time_limit(MUTANT_SECONDS):
            exec(compile(code, "mutant", "exec"), names)
            return examiner.outcomes({name: names[name] for name in examiner.exercise.functions})
    except (OutOfTime, Exception):
        return ()
