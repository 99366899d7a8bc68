"""Prove the graders: run every wrong and every right answer that is known, and write the figures.

`lab exercises prove` writes benchmarks/results/exercises.json.
"""

import functools
import inspect
import itertools
import random
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.exercises.cards import hint_levels
from lab.exercises.catalog import Exercise, exercises
from lab.exercises.checking import checker
from lab.exercises.child import examine_file
from lab.exercises.diagnosis import Examiner
from lab.exercises.grading import load_grading, load_right_answers
from lab.exercises.mutations import EQUIVALENT, mutants
from lab.exercises.probe_work import MUTANT_SECONDS, Work, work_of_probes
from lab.exercises.probes import Answer
from lab.exercises.stubs import solution, stub
from lab.exercises.time_limit import OutOfTime, time_limit
from lab.exercises.verdicts import Verdict
from lab.files import ROOT, display_path

RESULTS = ROOT / "benchmarks/results"
GOALS = (
    ("mistakes", "caught"),
    ("mistakes", "named"),
    ("pairs", "caught"),
    ("right_answers", "passed"),
    ("empty_answers", "caught"),
)
HINT_LINES = 3
HINT_WIDTH = 78


def _file_of(answer: Answer) -> str:
    """Return the file in which the first function of an answer is written; "" for one that is put together."""
    try:
        return inspect.getsourcefile(next(iter(answer.values()))) or ""
    except TypeError:
        return ""


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
        return self.examiner.examine(answer, _file_of(answer))

    def wrong_answers(self) -> dict[str, Verdict]:
        """Return the verdict on every wrong answer with one mistake."""
        return {id: self.examine(answer) for id, answer in self.grading.wrong_answers()}

    def misnamed(self) -> list[str]:
        """Return the single mistakes that get another name than their own."""
        verdicts = self.wrong_answers()
        return [
            f"{id}: {verdict.status} {verdict.mistake}" for id, verdict in verdicts.items() if verdict.mistake != id
        ]

    def pairs(self, at_most: int | None = None) -> dict[str, str]:
        """Return for every pair of mistakes that can be combined the name that it gets; "right" if it looks right.

        With `at_most`, only that many pairs are drawn at random.
        """
        named = {}
        pairs = list(itertools.combinations(self.grading.switches, 2))
        if at_most is not None and at_most < len(pairs):
            pairs = random.Random(0).sample(pairs, at_most)
        for pair in pairs:
            outcomes = self.examiner.combined(pair)
            if outcomes is not None:
                right = all(self.examiner.agreement(outcomes, self.examiner.right))
                named["+".join(pair)] = "right" if right else self.examiner.named(outcomes)
        return named

    def unrelated_pairs(self, pairs: Mapping[str, str]) -> list[str]:
        """Return the pairs, of those with their names, that are named with neither of their two mistakes."""
        return [f"{pair}: {name}" for pair, name in pairs.items() if not {*pair.split("+")} & {*name.split("+")}]

    def right_answers(self) -> dict[str, str]:
        """Return the status of right answers in other styles, and of the lab's own."""
        answers = load_right_answers(self.exercise, self.grading)
        return {style: self.examine(answer).status for style, answer in answers.items()}

    def empty_answers(self) -> dict[str, Verdict]:
        """Return the verdicts on files that hold no answer."""
        return {label: self._file(code) for label, code in empty_answers(self.exercise)}

    def _file(self, code: str) -> Verdict:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "answer.py"
            path.write_text(code, encoding="utf-8")
            return examine_file(self.exercise, self.examiner, path)

    def unseen_answers(self) -> list[tuple[str, bool, bool]]:
        """Return what is wrong in every answer by somebody who had not seen the known ones, and whether it fails and
        gets a right name or family.
        """
        path = self.exercise.project / "tests/unseen_answers.toml"
        answers = tomllib.loads(path.read_text(encoding="utf-8"))["answers"] if path.exists() else []
        found = []
        for answer in answers:
            if answer["exercise"] == self.exercise.name:
                verdict = self._file_in_time(answer["code"])
                name = verdict.mistake or verdict.status
                found.append((answer["kind"], verdict.status != "passed", name in answer["accepted"]))
        return found

    def _file_in_time(self, code: str) -> Verdict:
        try:
            with time_limit(MUTANT_SECONDS):
                return self._file(code)
        except OutOfTime:
            return Verdict("timeout", "it does not end")

    def surviving_mutants(self) -> tuple[int, list[str]]:
        """Return the number of automatic mutants of the solution, and those that pass: "exercise: line: change"."""
        survivors, count = [], 0
        for label, code in mutants(solution(self.exercise)):
            count += 1
            if self._file_in_time(code).status == "passed":
                survivors.append(f"{self.exercise.name}: {label}")
        return count, survivors

    def work_of_probes(self) -> dict[str, Work]:
        """Return for every probe what is lost without it."""
        return work_of_probes(self.examiner, solution(self.exercise))

    def kill_matrix(self) -> dict[str, str]:
        """Return for every single mistake a letter per probe: x where the probe catches it, else a dot."""
        right = self.examiner.right
        return {
            id: "".join(".x"[not agrees] for agrees in self.examiner.agreement(outcomes, right))
            for id, outcomes in self.examiner.wrong.items()
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
    unseen = proof.unseen_answers()
    work = proof.work_of_probes()
    mutated, survivors = proof.surviving_mutants()
    return {
        "exercise": exercise.name,
        "number": exercise.number,
        "imports": "torch" if exercise.needs_torch else "",
        "mistakes": len(singles),
        "mistakes_caught": sum(verdict.status != "passed" for verdict in singles.values()),
        "mistakes_named": len(singles) - len(proof.misnamed()),
        "pairs": len(pairs),
        "pairs_caught": sum(name != "right" for name in pairs.values()),
        "pairs_named": len(pairs) - len(proof.unrelated_pairs(pairs)),
        "right_answers": len(right),
        "right_answers_passed": sum(status == "passed" for status in right.values()),
        "empty_answers": len(empty),
        "empty_answers_caught": sum(verdict.status != "passed" for verdict in empty.values()),
        "unseen": len(unseen),
        "unseen_caught": sum(fails for _, fails, _ in unseen),
        "unseen_named": sum(is_named for _, _, is_named in unseen),
        "mutants": mutated,
        "mutants_caught": mutated - len(survivors),
        "mutants_equivalent": sum(label in EQUIVALENT for label in survivors),
        "surviving_mutants": survivors,
        "reasons": [EQUIVALENT.get(label, "") for label in survivors],
        "num_probes": len(work),
        "num_idle_probes": sum(each.is_idle for each in work.values()),
        "probes": [probe.name for probe in proof.grading.probes],
        "kill_matrix": [f"{caught} {id}" for id, caught in proof.kill_matrix().items()],  # a letter for each probe
        "work_of_probes": [
            " ".join(f"{name} {count}" for name, count in asdict(each).items()) for each in work.values()
        ],
        "idle_probes": [name for name, each in work.items() if each.is_idle],
        "hints_too_long": proof.long_hints(),
    }


def timings(exercise: Exercise, folder: Path) -> dict[str, float]:
    """Return seconds: of the numbers alone, of a check in a new process, and of one in a process that waits."""
    started = time.perf_counter()
    examiner = Examiner(exercise, load_grading(exercise))
    examiner.examine(examiner.grading.right)
    numbers = time.perf_counter() - started
    file = folder / f"{exercise.name}.py"
    file.write_text(solution(exercise), encoding="utf-8")
    started = time.perf_counter()
    command = [sys.executable, "-m", "lab", "check", exercise.name, "--file", str(file), "--json"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    cold = time.perf_counter() - started
    with checker(exercise) as waiting:
        waiting.ready.wait()
        started = time.perf_counter()
        waiting.check(file)
        warm = time.perf_counter() - started
    return {"seconds_numbers": round(numbers, 3), "seconds_cold": round(cold, 3), "seconds_warm": round(warm, 3)}


def endless_loop(folder: Path) -> float:
    """Return the seconds until an endless loop is reported."""
    exercise = next(iter(exercises().values()))
    file = folder / "endless.py"
    bodies = (f"def {name}(*arguments, **named):\n    while True:\n        pass\n" for name in exercise.functions)
    file.write_text("\n".join(bodies), encoding="utf-8")
    with checker(exercise) as waiting:
        waiting.ready.wait()
        started = time.perf_counter()
        assert waiting.check(file).verdict.status == "timeout"
        return round(time.perf_counter() - started, 3)


def repeated_checks(count: int) -> list[str]:
    """Check right answers `count` times with other global seeds and numbers of threads; return those that fail."""
    import torch

    failed = []
    proofs = [Proof(exercise) for exercise in exercises().values()]
    for number in range(count):
        proof = proofs[number % len(proofs)]
        random.seed(number)
        torch.manual_seed(number)
        torch.set_num_threads(1 + number % 2)
        failed += [
            f"{proof.exercise.name}: {style}" for style, status in proof.right_answers().items() if status != "passed"
        ]
    return failed


def prove(path: Path = RESULTS / "exercises.json", checks: int = 200) -> int:
    """Measure all graders, print and write the figures; return 0 if every answer was judged rightly."""
    from lab.record import environment_info
    from lab.results import new_record, write_results

    environment = environment_info()
    records = []
    with tempfile.TemporaryDirectory() as scratch:
        for exercise in exercises().values():
            values = figures(exercise) | timings(exercise, Path(scratch))
            records.append(new_record(exercise.name, "grader", environment, **values))
            print(f"{exercise.number:>5} {exercise.name}: {summary(values)}", flush=True)
        summed: dict[str, Any] = {"side": "all exercises", **totals(records)}
        summed["seconds_endless_loop"] = endless_loop(Path(scratch))
        summed["repeated_checks"] = checks
        summed["repeated_checks_failed"] = repeated_checks(checks)
    write_results(path, "exercises", records, settings={"checks": checks}, environment=environment, summary=[summed])
    print(f"all: {summary(summed)}; wrote {display_path(path)}")
    return int(
        any(summed[name] != summed[f"{name}_{goal}"] for name, goal in GOALS) or bool(summed["repeated_checks_failed"])
    )


def summary(values: Mapping[str, Any]) -> str:
    """Return the figures of a grader in words."""
    named = f"{values['mistakes_named']} named"
    return (
        f"{values['mistakes_caught']} of {values['mistakes']} mistakes caught, {named}; "
        f"{values['pairs_caught']} of {values['pairs']} pairs caught, {values['pairs_named']} named; "
        f"{values['right_answers_passed']} of {values['right_answers']} right answers passed"
    )


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the sums over all exercises."""
    names = [name for name, value in rows[0].items() if isinstance(value, int)]
    return {name: sum(row[name] for row in rows) for name in names}
