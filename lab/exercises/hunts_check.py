"""The process that runs a mended file of a bug hunt: python -m lab.exercises.hunts_check HUNT RESULT

As in `lab.exercises.child`: it loads the hunt, prints READY, waits for the name of the file, and writes the verdict.
The file's function is checked by what it does, as an answer to exercises, or by probes of the hunt's own.
"""

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab.projects  # noqa: F401 - puts the projects on the search path
from lab.exercises.catalog import Exercise, find
from lab.exercises.checking import Checked, Checker
from lab.exercises.child import examine_file, serve
from lab.exercises.diagnosis import Examiner
from lab.exercises.grading import load_grading
from lab.exercises.hunts import MOST_CHANGED_LINES, Hunt, changed_lines, find_hunt, mended, starter
from lab.exercises.probes import Answer, Grading
from lab.exercises.verdicts import Verdict
from lab.files import read_text


class HuntExaminer:
    """Examines the function of a hunt, with the graders of all exercises that it answers."""

    def __init__(self, hunt: Hunt) -> None:
        self.hunt = hunt
        self.module = importlib.import_module(f"{hunt.table.parent.name}.hunts")
        self.examiners = list(self._examiners())

    def _examiners(self) -> Iterator[Examiner]:
        for name in self.hunt.exercises:
            yield Examiner(find(name), load_grading(find(name)))
        if not self.hunt.exercises:
            yield Examiner(as_exercise(self.hunt), own_grading(self.hunt, self.module.PROBES[self.hunt.name]))

    def examine(self, answer: Answer, file: str = "") -> Verdict:
        """Return the first verdict that is not "passed", or the last one."""
        if self.hunt.exercises:
            answer = self.module.ANSWERS[self.hunt.name](answer[self.hunt.defined])
        verdict = Verdict("error", "nothing was checked")
        for examiner in self.examiners:
            functions = examiner.exercise.functions
            verdict = examiner.examine({name: answer[name] for name in functions}, file)
            if verdict.mistake == self.hunt.mistake:  # in the words of the hunt, not of the exercise
                return dataclasses.replace(verdict, message=self.hunt.as_mistake().hint)
            if verdict.status != "passed":
                return verdict
        return Verdict("passed", f"`{self.hunt.function}` is right again")


def as_exercise(hunt: Hunt) -> Exercise:
    """Return a hunt as an exercise with one known mistake."""
    mistake = hunt.as_mistake()
    return Exercise(
        name=hunt.defined,
        number="",
        table=hunt.table,
        functions=(hunt.defined,),
        task=hunt.setting,
        minutes=hunt.minutes,
        lines=MOST_CHANGED_LINES,
        lesson=hunt.lesson,
        equation="",
        source=hunt.source,
        hints=(),
        blank="",
        mistakes={mistake.id: mistake},
        short_path=False,
    )


def own_grading(hunt: Hunt, probes: Any) -> Grading:
    """Return the grading of a hunt with probes of its own: the lab's function, and the one with the wrong line."""
    right = {hunt.defined: run_code(mended(hunt), hunt.defined)}
    wrong = {hunt.mistake: {hunt.defined: run_code(starter(hunt), hunt.defined)}}
    return Grading(probes, right, build=lambda ids: right, switches=(), plain=wrong)


def run_code(code: str, name: str) -> Any:
    """Run the text of a file and return what it defines under a name."""
    namespace: dict[str, Any] = {"__name__": "answer"}
    exec(compile(code, "<hunt>", "exec"), namespace)
    return namespace[name]


class HuntChecker(Checker):
    """A process that has loaded a bug hunt and waits for a mended file."""

    module = "lab.exercises.hunts_check"


def check_hunt(hunt: Hunt, file: Path) -> Checked:
    """Return the verdict on a mended file; too many changed lines do not pass."""
    checker = HuntChecker(hunt)
    try:
        checked = checker.check(file)
    finally:
        checker.close()
    changed = changed_lines(hunt, read_text(file))
    if checked.verdict.status == "passed" and changed > MOST_CHANGED_LINES:
        message = f"it is right, but {changed} lines differ from the start; change at most {MOST_CHANGED_LINES}"
        return Checked(Verdict("wrong", message), checked.output)
    return checked


def main(name: str, result: Path) -> None:
    """Load the hunt, wait for the name of a file, and write the verdict on it."""
    hunt = find_hunt(name)
    examiner = HuntExaminer(hunt)
    run_code(mended(hunt), hunt.defined)  # now, so that the learner's file need not wait for its imports
    serve(result, lambda file: examine_file(as_exercise(hunt), examiner, file))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
