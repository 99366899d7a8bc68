"""The process that runs a learner's file: python -m lab.exercises.child EXERCISE RESULT

It loads the exercise, prints READY, waits for a line with the name of the learner's file, runs it, and writes the
verdict as JSON to the file RESULT. A separate process, because a learner's code may end it, hang it or fill its memory.
"""

import dataclasses
import importlib.machinery
import importlib.util
import linecache
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from lab.errors import UserError
from lab.exercises.catalog import Exercise, find
from lab.exercises.describing import described, where
from lab.exercises.diagnosis import Examiner
from lab.exercises.grading import load_grading
from lab.exercises.probes import Answer
from lab.exercises.verdicts import Verdict
from lab.files import read_text, write_json

READY = "ready to check"
MEMORY = 2 * 2**30  # bytes that a learner's code may allocate


class Judge(Protocol):
    """An `Examiner`, or several: it gives a verdict on functions."""

    def examine(self, answer: Answer, file: str = "") -> Verdict:
        """Return the verdict on an answer, whose code is in `file`."""
        ...


def main(name: str, result: Path) -> None:
    """Load the exercise, wait for the name of a file, and write the verdict on it."""
    exercise = find(name)
    examiner = Examiner(exercise, load_grading(exercise))
    examiner.on_outcomes = has_run(result).touch
    serve(result, lambda file: examine_file(exercise, examiner, file))


def has_run(result: Path) -> Path:
    """Return the file that appears as soon as the learner's code has run, before the lab's diagnosis."""
    return result.with_suffix(".ran")


def serve(result: Path, examine: Callable[[Path], Verdict]) -> None:
    """Wait for the name of a file, examine it, write the verdict, and end the process."""
    print(READY, flush=True)
    file = sys.stdin.readline().rstrip("\n")
    if not file:
        return  # the parent process is gone, or does not need this process any more
    close_standard_input()
    limit_memory()
    try:
        verdict = examine(Path(file))
    except MemoryError:
        verdict = Verdict("error", "your code needs too much memory")
    sys.stdout.flush()
    write_json(result, dataclasses.asdict(verdict))
    os._exit(0)  # whatever the learner's code left running


def examine_file(exercise: Exercise, examiner: Judge, file: Path) -> Verdict:
    """Import a learner's file and return the verdict on the functions of the exercise in it."""
    functions = read_functions(exercise.functions, file)
    return functions if isinstance(functions, Verdict) else examiner.examine(functions, str(file))


def read_functions(names: Sequence[str], file: Path) -> dict[str, Any] | Verdict:
    """Import a learner's file and return the named functions in it, or a verdict if it does not import or has none."""
    try:
        read_text(file)  # Python would let a comment be in another encoding
        module = import_file(file)
    except UserError as error:
        return Verdict("error", str(error).removeprefix(f"{file}: "))
    except SyntaxError as error:
        place = f"line {error.lineno}: " if error.lineno else ""
        return Verdict("error", f"{place}{error.msg}", details=((error.text or "").strip(),))
    except SystemExit:
        return Verdict("error", "your code ends the program: take out exit()")
    except NotImplementedError:
        return Verdict("not_started", f"`{names[0]}` still holds the line NotImplementedError")
    except Exception as error:  # whatever a learner's code raises
        return Verdict("error", described(error), details=tuple(where(error, str(file))))
    missing = [name for name in names if not callable(getattr(module, name, None))]
    if missing:
        return Verdict("error", f"there is no function called `{missing[0]}` in the file")
    return {name: getattr(module, name) for name in names}


def import_file(file: Path) -> Any:
    """Import a file as a module. Raises whatever its code raises."""
    linecache.checkcache(str(file))
    loader = importlib.machinery.SourceFileLoader("answer", str(file))  # whatever the file is called
    spec = importlib.util.spec_from_loader("answer", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


def close_standard_input() -> None:
    """Let every later read of standard input end at once."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def limit_memory() -> None:
    """Limit what this process may allocate from now on; a no-op where the system cannot."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return
    import resource

    used = int(status.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
