"""The learner's folder and progress: `my_exercises/`, which git ignores. Imports no torch."""

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from lab.errors import UserError
from lab.exercises.catalog import Exercise, exercises
from lab.exercises.stubs import stub
from lab.exercises.verdicts import Verdict
from lab.files import ROOT, write_json, write_text

FOLDER = ROOT / "my_exercises"


@dataclass(frozen=True)
class State:
    """Progress on one exercise."""

    passed: bool = False
    mistake: str = ""  # of the last check
    hints: int = 0  # that were shown since the last mistake changed


def file_of(exercise: Exercise) -> Path:
    """Return the learner's file for an exercise."""
    return FOLDER / f"{exercise.name}.py"


def start() -> list[Path]:
    """Write the stubs that are not there yet, and return them; existing files are left as they are."""
    FOLDER.mkdir(exist_ok=True)
    written = []
    for exercise in exercises().values():
        path = file_of(exercise)
        if not path.exists():
            path.write_text(stub(exercise), encoding="utf-8")
            written.append(path)
    return written


def reset(exercise: Exercise) -> Path | None:
    """Write the stub of an exercise again; return the copy of the learner's file that is kept, if there was one."""
    FOLDER.mkdir(exist_ok=True)
    path = file_of(exercise)
    backup = None
    if path.exists():
        backup = _backup_path(path)
        shutil.copy2(path, backup)
    write_text(path, stub(exercise))
    update(exercise, State())
    return backup


def _backup_path(path: Path) -> Path:
    """Return a name that no file has yet."""
    first = path.with_name(f"{path.stem}.{time.strftime('%Y%m%d-%H%M%S')}.backup")
    others = (first.with_suffix(f".{number}.backup") for number in itertools.count(2))
    return next(each for each in itertools.chain([first], others) if not each.exists())


def states() -> dict[str, State]:
    """Return the progress on every exercise that was checked. Raises UserError for a damaged file."""
    path = _path()
    if not path.exists():
        return {}
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        # a newer version of the lab may have stored more
        known = [field.name for field in fields(State)]
        read = {name: State(**{key: values[key] for key in known if key in values}) for name, values in saved.items()}
        for each in read.values():
            types = [type(getattr(each, field.name)) for field in fields(State)]
            if types != [type(field.default) for field in fields(State)] or each.hints < 0:
                raise ValueError(each)
        return read
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{path}: damaged; delete it, and `lab check all` finds what you have solved") from None


def state(exercise: Exercise) -> State:
    """Return the progress on one exercise."""
    return states().get(exercise.name, State())


def update(exercise: Exercise, value: State) -> None:
    """Store the progress on one exercise."""
    store(exercise.name, value)


def store(name: str, value: State) -> None:
    """Store one entry of the progress; the others stay, also if another terminal changes them meanwhile."""
    FOLDER.mkdir(exist_ok=True)
    with locked():
        saved = states() | {name: value}
        write_json(_path(), {name: asdict(each) for name, each in saved.items()})


def record(exercise: Exercise, verdict: Verdict) -> None:
    """Store the verdict of a check."""
    before = state(exercise)
    mistake = verdict.mistake or verdict.status
    if verdict.status == "passed":
        update(exercise, State(passed=True))
    elif verdict.status == "not_started" and before == State():
        pass
    elif mistake != before.mistake:
        update(exercise, State(passed=False, mistake=mistake))
    elif before.passed:
        update(exercise, replace(before, passed=False))


def next_open() -> Exercise | None:
    """Return the first exercise that is not solved yet."""
    saved = states()
    return next((each for each in exercises().values() if not saved.get(each.name, State()).passed), None)


def _path() -> Path:
    return FOLDER / ".progress.json"


@contextmanager
def locked() -> Iterator[None]:
    """Let one process at a time change the progress; a no-op on systems without file locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (FOLDER / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the block, or with the process, however it ends
        yield
