"""Check a file: start the process that runs it, with a limit of time, and read its verdict. Imports no torch."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.errors import UserError
from lab.exercises.catalog import Exercise
from lab.exercises.child import READY, has_run
from lab.exercises.verdicts import Verdict
from lab.files import ROOT

SECONDS = 5.0  # for the learner's code
DIAGNOSIS_SECONDS = 20.0  # more, for the lab's own search for the mistake on a busy machine
LOADING_SECONDS = 60.0  # for the lab's own imports
OUTPUT_LINES = 20  # of what the learner's code prints, that are shown
OUTPUT_BYTES = 100_000  # that are read; the rest is thrown away


@dataclass(frozen=True)
class Checked:
    """The verdict on a file, and the first lines that its code printed."""

    verdict: Verdict
    output: tuple[str, ...] = ()


class Named(Protocol):
    """An exercise, or a bug hunt."""

    @property
    def name(self) -> str:
        """Return the name that the process finds it by."""
        ...


class Checker:
    """A process that has loaded an exercise and waits for a file to check; good for one check.

    Started ahead of time, as watch mode does, it gives a verdict as fast as the learner's code allows.
    """

    module = "lab.exercises.child"  # that the process runs
    kind = Verdict

    def __init__(self, exercise: Named) -> None:
        self.exercise = exercise
        self.folder = tempfile.TemporaryDirectory(prefix="lab_check_")
        self.result = Path(self.folder.name) / "verdict.json"
        command = [sys.executable, "-m", self.module, exercise.name, str(self.result)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self.ready = threading.Event()
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        """Read what the process prints: the line READY, then the learner's output, most of which is thrown away."""
        assert self.process.stdout is not None
        size = 0
        while piece := self.process.stdout.readline(4096):
            if not self.ready.is_set() and piece.strip() == READY:
                self.ready.set()
            elif size < OUTPUT_BYTES:
                self.lines.append(piece.rstrip("\n"))
                size += len(piece)
        self.ready.set()

    def check(self, file: Path) -> Checked:
        """Return the verdict on a file. Raises UserError if the exercise itself cannot be loaded."""
        self.ready.wait(LOADING_SECONDS)
        if self.process.poll() is not None:
            raise UserError(f"the exercise {self.exercise.name} cannot be loaded: {' '.join(self.lines[-1:])}")
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{file.resolve()}\n")
            self.process.stdin.close()
        started = time.monotonic()
        in_time = True
        while self.process.poll() is None and not self.result.exists() and in_time:
            time.sleep(0.01)
            limit = SECONDS + (DIAGNOSIS_SECONDS if has_run(self.result).exists() else 0.0)
            in_time = time.monotonic() < started + limit
        verdict = self._verdict(in_time)
        self.close()
        return Checked(verdict, tuple(self.lines[:OUTPUT_LINES]))

    def _verdict(self, in_time: bool) -> Verdict:
        if self.result.exists():
            values = json.loads(self.result.read_text(encoding="utf-8"))
            fields: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            return self.kind(**fields)
        if not in_time:
            return self.kind("timeout", f"no result after {SECONDS:.0f} seconds: is there a loop that never ends?")
        return self.kind("error", f"your code ended the process (status {self.process.returncode})")

    def close(self) -> None:
        """End the process and remove its files."""
        self.process.kill()
        self.process.wait()
        self.reader.join(timeout=1)
        self.folder.cleanup()


@contextmanager
def checker(exercise: Exercise) -> Iterator[Checker]:
    """Start a checker, and end it with the block."""
    started = Checker(exercise)
    try:
        yield started
    finally:
        started.close()


def check_file(exercise: Exercise, file: Path) -> Checked:
    """Return the verdict on a file. Raises UserError if it does not exist."""
    if file.is_dir():
        raise UserError(f"{file}: a folder; it must be a file with the functions of the exercise")
    if not file.is_file():
        raise UserError(f"{file}: no such file; `lab exercises start` makes the files to fill in")
    with checker(exercise) as started:
        return started.check(file)
