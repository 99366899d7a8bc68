"""Prove the graders: run every wrong and every right answer that is known, and write the figures.

`lab exercises prove` writes benchmarks/results/exercises.json. The rows are numbered as in docs/EXERCISES.md.
"""

import functools
import importlib
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.exercises.cards import hint_levels
from lab.exercises.catalog import Exercise, exercises
from lab.exercises.child import examine_file
from lab.exercises.diagnosis import Examiner, Outcomes, Verdict
from lab.exercises.grading import load_grading
from lab.exercises.mutations import mutants
from lab.exercises.probes import Answer
from lab.exercises.stubs import solution, stub

HINT_LINES = 3
HINT_WIDTH = 78


class Proof:
    """All that is measured about the grader of one exercise."""

    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise
        self.grading = load_grading(exercise)
        self.examiner = Examiner(exercise, self.grading)
        # A pair is looked up for many answers: compute its outcomes once.
        self.examiner.combined = functools.cache(self.examiner.combined)  # pyright: ignore[reportAttributeAccessIssue]

    def examine(self, answer: Answer) -> Verdict:
        """Return the verdict on an answer."""
        return self.examiner.examine(answer)

    def wrong_answers(self) -> dict[str, Verdict]:
        """Return the verdict on every wrong answer with one mistake."""
        return {id: self.examine(answer) for id, answer in self.grading.wrong_answers()}

    def misnamed(self) -> list[str]:
        """Return the single mistakes that get another name than their own."""
        verdicts = self.wrong_answers()
        return [
            f"{id}: {verdict.status} {verdict.mistake}" for id, verdict in verdicts.items() if verdict.mistake != id
        ]

    def pairs(self) -> dict[str, str]:
        """Return for every pair of mistakes that can be combined the name that it gets; "right" if it looks right."""
        named = {}
        for pair in itertools.combinations(self.grading.switches, 2):
            outcomes = self.examiner.combined(pair)
            if outcomes is not None:
                right = all(self.examiner.same(outcomes, self.examiner.right))
                named["+".join(pair)] = "right" if right else self.examiner.named(outcomes)
        return named

    def unrelated_pairs(self) -> list[str]:
        """Return the pairs that are named with neither of their two mistakes."""
        return [f"{pair}: {name}" for pair, name in self.pairs().items() if not {*pair.split("+")} & {*name.split("+")}]

    def right_answers(self) -> dict[str, str]:
        """Return the status of right answers in other styles, and of the lab's own."""
        group = importlib.import_module(f"{self.exercise.table.stem}_right_answers")
        answers = {"the lab's own": self.grading.right} | group.RIGHT[self.exercise.name]
        return {style: self.examine(answer).status for style, answer in answers.items()}

    def empty_answers(self) -> dict[str, Verdict]:
        """Return the verdicts on files that hold no answer."""
        return {label: self._file(code) for label, code in empty_answers(self.exercise)}

    def _file(self, code: str) -> Verdict:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "answer.py"
            path.write_text(code, encoding="utf-8")
            return examine_file(self.exercise, self.examiner, path)

    def surviving_mutants(self) -> tuple[int, list[str]]:
        """Return the number of automatic mutants of the solution, and those that pass."""
        survivors, count = [], 0
        for label, code in mutants(solution(self.exercise)):
            count += 1
            if self._file(code).status == "passed":
                survivors.append(label)
        return count, survivors

    def needed_probes(self) -> dict[str, list[str]]:
        """Return for every probe which wrong answers pass without it, or can no longer be told apart."""
        answers: dict[str, Outcomes] = dict(self.examiner.wrong)
        for pair in itertools.combinations(self.grading.switches, 2):
            outcomes = self.examiner.combined(pair)
            if outcomes is not None:
                answers["+".join(pair)] = outcomes
        agreement = {id: self.examiner.same(outcomes, self.examiner.right) for id, outcomes in answers.items()}
        found = {}
        for number, probe in enumerate(self.grading.probes):
            others = {id: agrees[:number] + agrees[number + 1 :] for id, agrees in agreement.items()}
            found[probe.name] = [id for id, agrees in others.items() if all(agrees)]
        return found

    def catches(self) -> dict[str, int]:
        """Return for every probe how many single mistakes it catches."""
        agreement = [self.examiner.same(outcomes, self.examiner.right) for outcomes in self.examiner.wrong.values()]
        return {
            probe.name: sum(not agrees[number] for agrees in agreement)
            for number, probe in enumerate(self.grading.probes)
        }

    def long_hints(self) -> list[str]:
        """Return the hints of more than three lines, and the first two levels that hold a line of the solution."""
        code = {line.strip() for line in solution(self.exercise).splitlines() if len(line.strip()) > 20}
        problems = []
        for id in ("", *self.exercise.mistakes):
            for number, hint in enumerate(hint_levels(self.exercise, id)[:4], 1):
                if len(hint) > HINT_LINES * HINT_WIDTH:
                    problems.append(f"{id or 'unknown'}, level {number}: {len(hint)} characters")
                if number <= 2 and any(line in hint for line in code):
                    problems.append(f"{id or 'unknown'}, level {number}: holds code of the solution")
        return problems

    def solution_passes(self) -> bool:
        """Return True if the solution's text passes and the stub's text is not started."""
        return (
            self._file(solution(self.exercise)).status == "passed"
            and self._file(stub(self.exercise)).status == "not_started"
        )


def empty_answers(exercise: Exercise) -> Iterator[tuple[str, str]]:
    """Yield (label, code) of files that hold no answer, or one that cannot be right."""
    names = exercise.functions
    yield "stub", stub(exercise)
    yield "empty file", ""
    yield "syntax error", f"def {names[0]}(\n"
    yield "wrong name", "def something_else(*arguments, **named):\n    return 0\n"
    bodies = {
        "return None": "return None",
        "zero": "return 0.0",
        "input returned": "return next(iter([*arguments, *named.values()]))",
        "NaN": "return float('nan')",
        "exception": "raise RuntimeError('not today')",
        "exit": "exit()",
    }
    for label, body in bodies.items():
        yield label, "\n".join(f"def {name}(*arguments, **named):\n    {body}\n" for name in names)


def figures(exercise: Exercise) -> dict[str, Any]:
    """Return the figures of one exercise."""
    proof = Proof(exercise)
    singles = proof.wrong_answers()
    pairs = proof.pairs()
    right = proof.right_answers()
    empty = proof.empty_answers()
    mutated, survivors = proof.surviving_mutants()
    return {
        "exercise": exercise.name,
        "number": exercise.number,
        "mistakes": len(singles),
        "mistakes_caught": sum(verdict.status != "passed" for verdict in singles.values()),
        "mistakes_named": len(singles) - len(proof.misnamed()),
        "pairs": len(pairs),
        "pairs_caught": sum(name != "right" for name in pairs.values()),
        "pairs_named": len(pairs) - len(proof.unrelated_pairs()),
        "right_answers": len(right),
        "right_answers_passed": sum(status == "passed" for status in right.values()),
        "empty_answers": len(empty),
        "empty_answers_caught": sum(verdict.status != "passed" for verdict in empty.values()),
        "mutants": mutated,
        "surviving_mutants": survivors,
        "probes": proof.catches(),
        "hints_too_long": proof.long_hints(),
    }


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the sums over all exercises."""
    names = [name for name, value in rows[0].items() if isinstance(value, int)]
    return {name: sum(row[name] for row in rows) for name in names}


def prove() -> None:
    """Print the figures of every exercise."""
    rows = []
    for exercise in exercises().values():
        rows.append(figures(exercise))
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps(totals(rows)))
