"""Write the test: one input of a function on which its known wrong answers show. Imports no torch.

After *Examplar* (Brown University), where students write examples before they write the function: an example is judged
by the right implementations that agree with it, and by the wrong ones that it catches.

A task is one entry of `CATCH` in catch.py, in a project's package of exercises. The wrong answers are the exercise's.
"""

import functools
import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lab.projects  # noqa: F401 - puts the projects on the search path
from lab.errors import UserError
from lab.exercises import progress
from lab.exercises.catalog import TABLES, Exercise, exercises, find
from lab.exercises.catch_inputs import Argument
from lab.exercises.verdicts import Verdict
from lab.files import write_json


@dataclass(frozen=True)
class CatchTask:
    """A function whose mistakes are to be caught, and two inputs of it.

    Attributes:
        arguments: of the function, in its order.
        start: a valid input that catches few mistakes; the learner starts with it.
        best: the input that catches the most mistakes of those that are known.
        gradients: arguments of a loss whose gradients are compared too.
    """

    arguments: Mapping[str, Argument]
    start: Mapping[str, Any]
    best: Mapping[str, Any]
    gradients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Caught(Verdict):
    """The verdict on an input.

    `status` is one of passed (as many mistakes are caught as by the best known input), incomplete, invalid,
    not_started, error, timeout. The mistakes that the best known input catches come first in `missed`.
    """

    caught: tuple[str, ...] = ()  # ids of mistakes
    missed: tuple[str, ...] = ()
    best: int = 0  # mistakes that the best known input catches


@dataclass(frozen=True)
class Score:
    """The best score of a learner on one function."""

    caught: int = 0
    passed: bool = False


@functools.cache
def tasks() -> dict[str, CatchTask]:
    """Return all tasks by the name of their exercise, in the order of the lessons."""
    packages = dict.fromkeys(table.parent.name for table in TABLES if table.with_name("catch.py").is_file())
    known = {}
    for package in packages:
        known |= importlib.import_module(f"{package}.catch").CATCH
    return {name: known[name] for name in exercises() if name in known}


def find_task(name: str) -> Exercise:
    """Return the exercise of this name or number. Raises UserError if there is no such task for it."""
    exercise = find(name)
    if exercise.name not in tasks():
        raise UserError(f"there is no test to write for {exercise.name}; `lab catch` lists the functions that have one")
    return exercise


def counted_mistakes(exercise: Exercise) -> list[str]:
    """Return the ids of the mistakes that count: all but the conventions of other books."""
    return [id for id, mistake in exercise.mistakes.items() if not mistake.convention]


def file_of(exercise: Exercise) -> Path:
    """Return the learner's file for a task."""
    return progress.FOLDER / f"catch_{exercise.name}.py"


def scores() -> dict[str, Score]:
    """Return the best score on every function that was tried. Raises UserError for a damaged file."""
    path = _path()
    if not path.exists():
        return {}
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {name: Score(**values) for name, values in saved.items()}
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{path}: damaged; delete it, and run your inputs again") from None


def record(exercise: Exercise, verdict: Caught) -> None:
    """Store the score of an input if it is the best so far."""
    progress.FOLDER.mkdir(exist_ok=True)
    with progress.locked():
        saved = scores()
        before = saved.get(exercise.name, Score())
        score = Score(max(before.caught, len(verdict.caught)), before.passed or verdict.status == "passed")
        if score != before:
            saved[exercise.name] = score
            write_json(_path(), {name: asdict(each) for name, each in saved.items()})


def _path() -> Path:
    return progress.FOLDER / ".catch.json"
