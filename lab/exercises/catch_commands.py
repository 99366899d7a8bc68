"""The command `lab catch`: write one input of a function that catches its known mistakes. Imports no torch."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from lab.errors import UserError
from lab.exercises import progress
from lab.exercises.catalog import Exercise
from lab.exercises.catch import Caught, counted_mistakes, file_of, find_task, record, tasks
from lab.exercises.catch_cards import catch_lines, file_text, result_lines
from lab.exercises.checking import Checked, Checker
from lab.files import display_path, write_text


@dataclass(frozen=True)
class Catch:
    """Write the test: one input of a function that catches its known mistakes. Without a name: the list."""

    name: tyro.conf.Positional[str] = ""
    """Name or number of the exercise."""
    start: bool = False
    """Write my_exercises/catch_NAME.py, with an input that catches little; a file that is there is left as it is."""
    give_up: bool = False
    """Show the input that catches the most mistakes of those that are known."""
    file: Path | None = None
    """Run the input in this file and leave the scores alone."""
    json: bool = False
    """Print one line of JSON: exercise, status, caught, total, missed."""


class CatchChecker(Checker):
    """A process that runs the right and the wrong answers of an exercise on a learner's input."""

    module = "lab.exercises.catch_child"
    kind = Caught


def catch(command: Catch) -> int:
    """Run the command; return the exit status."""
    if not command.name:
        if command != Catch():
            raise UserError("name the exercise: lab catch NAME")
        print("\n".join(catch_lines()))
        return 0
    if command.start + command.give_up + (command.file is not None) > 1:
        raise UserError("give one of --start, --give_up and --file")
    exercise = find_task(command.name)
    if command.give_up:
        task = tasks()[exercise.name]
        print(file_text(exercise, task, task.best), end="")
        return 0
    if command.start:
        start(exercise)
        return 0
    return run(exercise, command)


def start(exercise: Exercise) -> None:
    """Write the file to fill in, unless it is there."""
    file, task = file_of(exercise), tasks()[exercise.name]
    if file.exists():
        print(f"{display_path(file)} is there already")
    else:
        progress.FOLDER.mkdir(exist_ok=True)
        write_text(file, file_text(exercise, task, task.start))
        print(f"wrote {display_path(file)}; change it, and run it: lab catch {exercise.name}")


def run(exercise: Exercise, command: Catch) -> int:
    """Run the learner's input and print the result; return 0 if it catches all that the best known input catches."""
    checked = check_input(exercise, command.file or file_of(exercise))
    assert isinstance(checked.verdict, Caught)
    if command.file is None:
        record(exercise, checked.verdict)
    print(as_json(exercise, checked.verdict) if command.json else "\n".join(result_lines(exercise, checked)))
    return int(checked.verdict.status != "passed")


def check_input(exercise: Exercise, file: Path) -> Checked:
    """Return the verdict on the input in a file. Raises UserError if the file does not exist."""
    if not file.is_file():
        raise UserError(f"{display_path(file)}: no such file; write it with: lab catch {exercise.name} --start")
    checker = CatchChecker(exercise)
    try:
        return checker.check(file)
    finally:
        checker.close()


def as_json(exercise: Exercise, verdict: Caught) -> str:
    """Return a verdict as one line of JSON."""
    values = {
        "exercise": exercise.name,
        "status": verdict.status,
        "caught": len(verdict.caught),
        "total": len(counted_mistakes(exercise)),
        "missed": verdict.missed,
    }
    return json.dumps(values)
