"""The commands of the exercises: `lab exercises`, `check`, `hint`, `reset`, `solution`, `catch`, `hunt`.

Imports no torch.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lab.errors import UserError
from lab.exercises import progress
from lab.exercises.cards import card, hint_levels, hint_lines, list_lines, summary_lines, verdict_lines
from lab.exercises.catalog import Exercise, exercises, find
from lab.exercises.catch_commands import Catch, catch
from lab.exercises.checking import Checked, check_file
from lab.exercises.hunts_commands import HuntCommand
from lab.exercises.hunts_commands import run as run_hunt
from lab.exercises.stubs import solution, stub
from lab.exercises.verdicts import not_started
from lab.exercises.watch import watch
from lab.files import display_path
from lab.launch import launch

Name = tyro.conf.Positional[str]


@dataclass(frozen=True)
class Exercises:
    """List the exercises and your progress; `lab exercises start` writes the files to fill in."""

    action: tyro.conf.Positional[Literal["list", "start", "prove"]] = "list"
    """start: write the files to fill in to my_exercises/; files that are there are left as they are.
    prove: measure how well the graders tell right from wrong, and write benchmarks/results/exercises.json."""


@dataclass(frozen=True)
class Check:
    """Check your answer to an exercise, and name the mistake if it is a known one."""

    name: Name = ""
    """Name or number of the exercise, or `all`. Default: the next one that is not solved."""
    watch: bool = False
    """Check again whenever the file is saved."""
    file: Path | None = None
    """Check this file and leave the progress alone."""
    json: bool = False
    """Print one line of JSON: exercise, status, mistake, message."""


@dataclass(frozen=True)
class Hint:
    """Show the next hint; each one says more than the one before."""

    name: Name = ""
    """Name or number of the exercise. Default: the next one that is not solved."""


@dataclass(frozen=True)
class Reset:
    """Start an exercise again; a copy of your file is kept."""

    name: Name
    """Name or number of the exercise."""


@dataclass(frozen=True)
class Solution:
    """Show the lab's own answer."""

    name: Name
    """Name or number of the exercise."""
    give_up: bool = False
    """Also if you have not solved it."""


COMMANDS = {
    "exercises": Exercises,
    "check": Check,
    "hint": Hint,
    "reset": Reset,
    "solution": Solution,
    "catch": Catch,
    "hunt": HuntCommand,
}
ExerciseCommand = (
    Annotated[Exercises, tyro.conf.subcommand("exercises")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Hint, tyro.conf.subcommand("hint")]
    | Annotated[Reset, tyro.conf.subcommand("reset")]
    | Annotated[Solution, tyro.conf.subcommand("solution")]
    | Annotated[Catch, tyro.conf.subcommand("catch")]
    | Annotated[HuntCommand, tyro.conf.subcommand("hunt")]
)


def execute(command: Exercises | Check | Hint | Reset | Solution | Catch | HuntCommand) -> None:
    """Run a parsed command."""
    match command:
        case Exercises("start"):
            start()
        case Exercises("prove"):
            from lab.exercises.prove import prove

            sys.exit(prove())
        case Exercises():
            print("\n".join(list_lines(progress.states())))
        case Check():
            sys.exit(check(command))
        case Hint(name):
            hint(named_or_next(name))
        case Reset(name):
            reset(find(name))
        case Solution(name, give_up):
            show_solution(find(name), give_up)
        case Catch():
            sys.exit(catch(command))
        case HuntCommand():
            sys.exit(run_hunt(command))


def main() -> None:
    """Run the command that `sys.argv` holds."""
    launch(ExerciseCommand, execute, sys.argv[1:])


def named_or_next(name: str) -> Exercise:
    """Return the named exercise, or the next one that is not solved. Raises UserError if all are solved."""
    exercise = find(name) if name else progress.next_open()
    if exercise is None:
        raise UserError("all exercises are solved; name one to check it again")
    return exercise


def start() -> None:
    """Write the stubs, and show the first exercise."""
    written = progress.start()
    folder = display_path(progress.FOLDER)
    count = f"{len(written)} file" + "s" * (len(written) != 1)
    print(f"wrote {count} to {folder}" if written else f"{folder} holds all files already")
    exercise = progress.next_open()
    if exercise is not None:
        print("\n".join(["", *card(exercise), "", "check it at every save: lab check --watch"]))


def check(command: Check) -> int:
    """Check one exercise or all; return the exit status."""
    if command.name == "all":
        return check_all(command)
    if command.file is not None and not command.name:
        raise UserError("--file needs the name of the exercise: lab check NAME --file FILE")
    if command.watch and (command.file is not None or command.json):
        raise UserError("--watch goes with neither --file nor --json: it watches the file in my_exercises/")
    exercise = named_or_next(command.name)
    if command.watch:
        return watch(exercise)
    checked = check_file(exercise, command.file or progress.file_of(exercise))
    lines = [as_json(exercise, checked)] if command.json else verdict_lines(exercise, checked, command.file)
    print("\n".join(lines), flush=True)
    if command.file is None:
        progress.record(exercise, checked.verdict)
        following = progress.next_open()
        if checked.verdict.status == "passed" and following is not None and not command.json:
            print(f"next: lab check {following.name}")
    return int(checked.verdict.status != "passed")


def check_all(command: Check) -> int:
    """Check every exercise whose file is there; return 0 if all of them passed."""
    if command.file is not None or command.watch:
        raise UserError("`all` goes with neither --file nor --watch: name an exercise")
    results = []
    for exercise in exercises().values():
        file = progress.file_of(exercise)
        if file.is_file():
            checked = Checked(not_started(exercise)) if is_stub(exercise, file) else check_file(exercise, file)
            results.append((exercise, checked))
            print(as_json(*results[-1]) if command.json else "\n".join(summary_lines(results[-1:])), flush=True)
            progress.record(exercise, checked.verdict)
    if not results:
        raise UserError(f"{display_path(progress.FOLDER)} holds no exercise; start with: lab exercises start")
    passed = sum(checked.verdict.status == "passed" for _, checked in results)
    if not command.json:
        print(f"{passed} of {len(results)} passed")
    return int(passed < len(results))


def is_stub(exercise: Exercise, file: Path) -> bool:
    """Return True for a file that is as it was at the start: it need not run."""
    try:
        return file.read_text(encoding="utf-8") == stub(exercise)
    except (OSError, UnicodeDecodeError):
        return False


def as_json(exercise: Exercise, checked: Checked) -> str:
    """Return a verdict as one line of JSON."""
    verdict = checked.verdict
    values = {
        "exercise": exercise.name,
        "status": verdict.status,
        "mistake": verdict.mistake,
        "message": verdict.message,
    }
    return json.dumps(values)


def hint(exercise: Exercise) -> None:
    """Show the next hint, and remember that it was shown."""
    state = progress.state(exercise)
    levels = len(hint_levels(exercise, state.mistake))
    print("\n".join(hint_lines(exercise, state)))
    progress.update(exercise, replace(state, hints=min(state.hints + 1, levels - 1)))


def reset(exercise: Exercise) -> None:
    """Write the stub again."""
    backup = progress.reset(exercise)
    kept = f"; your file is kept as {display_path(backup)}" if backup else ""
    print(f"{display_path(progress.file_of(exercise))} is as it was at the start{kept}")


def show_solution(exercise: Exercise, give_up: bool) -> None:
    """Print the lab's own answer. Raises UserError if the exercise is not solved and the learner has not given up."""
    if not (give_up or progress.state(exercise).passed):
        raise UserError(f"{exercise.name} is not solved yet; to see the solution all the same: --give_up")
    print(solution(exercise), end="")
