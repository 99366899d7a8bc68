"""The command of the bug hunts: `lab hunt`. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from lab.errors import UserError
from lab.exercises import progress
from lab.exercises.cards import wrapped
from lab.exercises.hunts import ANSWER_POINTS, MEND_POINTS, Hunt, find_hunt
from lab.exercises.hunts_cards import (
    answered,
    card,
    file_of,
    list_lines,
    mended,
    next_step,
    starter_text,
    verdict_lines,
)
from lab.exercises.progress import State
from lab.files import display_path, write_text


@dataclass(frozen=True)
class HuntCommand:
    """Find the wrong line of a training run from its curves: list the bug hunts, or look at one."""

    name: tyro.conf.Positional[str] = ""
    """Name of a bug hunt. Default: list them."""
    answer: str = ""
    """Say which detail is wrong, by its letter."""
    start: bool = False
    """After the right answer: write the function with the wrong line to my_exercises/hunt_NAME.py."""
    check: bool = False
    """Check whether the function in that file is right again."""
    file: Path | None = None
    """With --check: check this file and leave the progress alone."""


def run(command: HuntCommand) -> int:
    """Do what the command says; return the exit status. Raises UserError for flags that do not fit together."""
    asked = [bool(command.answer), command.start, command.check]
    if not command.name:
        if any(asked) or command.file is not None:
            raise UserError("name a bug hunt; `lab hunt` lists them")
        print("\n".join(list_lines(progress.states())))
        return 0
    hunt = find_hunt(command.name)
    if sum(asked) > 1:
        raise UserError("--answer, --start and --check go one at a time")
    if command.file is not None and not command.check:
        raise UserError("--file goes with --check")
    if command.answer:
        return answer(hunt, command.answer)
    if command.start:
        return start(hunt)
    if command.check:
        return check(hunt, command.file)
    print("\n".join(card(hunt, progress.states())))
    return 0


def answer(hunt: Hunt, letter: str) -> int:
    """Say whether an answer is right, and why; return 0 if it is. Raises UserError for a letter that is none."""
    if letter not in hunt.choices:
        raise UserError(f"--answer is {letter!r}; it must be one of {', '.join(hunt.choices)}")
    choice = hunt.choices[letter]
    right = letter == hunt.answer
    known = answered(hunt, progress.states())
    if right and not known:
        progress.store(f"{hunt.key}.answer", State(passed=True))
    point = "" if known else f" {ANSWER_POINTS} point."
    verdict = f"right.{point}" if right else "no."
    lines = wrapped(f"{letter}: {verdict} {choice.because}")
    lines += ["", next_step(hunt, progress.states())] if right else []
    print("\n".join(lines))
    return int(not right)


def start(hunt: Hunt) -> int:
    """Write the file to mend. Raises UserError before the right answer, and if the file is there."""
    file = file_of(hunt)
    if not answered(hunt, progress.states()):
        raise UserError(f"first say which detail is wrong: lab hunt {hunt.name} --answer {'|'.join(hunt.choices)}")
    if file.exists():
        raise UserError(f"{display_path(file)} is there already; delete it to start again")
    file.parent.mkdir(exist_ok=True)
    write_text(file, starter_text(hunt))
    print(f"wrote {display_path(file)}; mend it, then: lab hunt {hunt.name} --check")
    return 0


def check(hunt: Hunt, given: Path | None) -> int:
    """Check a mended file and show the verdict; return 0 if it is right. Raises UserError if there is no such file."""
    from lab.exercises.hunts_check import check_hunt

    file = given or file_of(hunt)
    if not file.is_file():
        raise UserError(f"{display_path(file)}: no such file; write it with: lab hunt {hunt.name} --start")
    checked = check_hunt(hunt, file)
    passed = checked.verdict.status == "passed"
    if given is None and passed != mended(hunt, progress.states()):
        progress.store(f"{hunt.key}.mend", State(passed=passed))
    print("\n".join(verdict_lines(hunt, checked, file)))
    if passed and given is None:
        print(f"  {MEND_POINTS} points. All hunts: lab hunt")
    return int(not passed)
