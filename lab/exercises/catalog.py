"""The catalogue of exercises, read from the tables of each project. Imports no torch.

A table is a file GROUP.toml in the project's package of exercises: task, hints and known mistakes of each exercise.
Next to it, GROUP.py holds the probes; GROUP_wrong_answers.py in the project's tests holds the wrong answers.
"""

import difflib
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.files import ROOT

TABLES = (
    ROOT / "00_first_steps/first_steps_exercises/standardizing.toml",
    ROOT / "00_first_steps/first_steps_exercises/training_steps.toml",
    ROOT / "00_first_steps/first_steps_exercises/shapes.toml",
    ROOT / "00_first_steps/first_steps_exercises/backpropagation.toml",
    ROOT / "01_q_learning_maze/maze_exercises/acting.toml",
    ROOT / "01_q_learning_maze/maze_exercises/tabular.toml",
    ROOT / "01_q_learning_maze/maze_exercises/planning.toml",
    ROOT / "01_q_learning_maze/maze_exercises/batched.toml",
    ROOT / "02_transformer_basics/transformer_exercises/attention.toml",
    ROOT / "02_transformer_basics/transformer_exercises/masking.toml",
    ROOT / "02_transformer_basics/transformer_exercises/blocks.toml",
    ROOT / "02_transformer_basics/transformer_exercises/embedding.toml",
    ROOT / "02_transformer_basics/transformer_exercises/caching.toml",
    ROOT / "02_transformer_basics/transformer_exercises/sampling.toml",
    ROOT / "02_transformer_basics/transformer_exercises/merges.toml",
    ROOT / "02_transformer_basics/transformer_exercises/prediction.toml",
    ROOT / "03_ppo_reacher/ppo_exercises/rollouts.toml",
    ROOT / "03_ppo_reacher/ppo_exercises/updates.toml",
    ROOT / "03_ppo_reacher/ppo_exercises/losses.toml",
    ROOT / "03_ppo_reacher/ppo_exercises/normalizers.toml",
    ROOT / "03_ppo_reacher/ppo_exercises/epochs.toml",
)


@dataclass(frozen=True)
class Mistake:
    """A classic wrong answer, and the hint that it gets."""

    id: str
    hint: str  # names the mistake and the idea behind it
    question: str  # points at the idea without naming the mistake
    family: str  # the kind of mistake, such as "mask" or "axis"
    convention: bool = False  # right in other books


@dataclass(frozen=True)
class Exercise:
    """One exercise: what to write, where it is taught, and the mistakes that are known."""

    name: str  # of its first function, and of its file
    number: str  # such as "3.5"
    table: Path  # the file that this is read from
    functions: tuple[str, ...]
    task: str
    minutes: int
    lines: int  # that the lab's own answer takes
    lesson: str  # heading of the lesson's section
    equation: str  # or the source of the definition
    source: Path  # the file that holds the right answer, from which the stub is cut
    hints: tuple[str, ...]  # where no mistake is recognized, from vague to nearly solved
    blank: str  # the decisive line, with a blank
    mistakes: Mapping[str, Mistake]
    short_path: bool  # one of the five of its lesson to do if there is little time

    @property
    def project(self) -> Path:
        """Return the folder of the lesson."""
        return self.table.parent.parent

    @property
    def needs_torch(self) -> bool:
        """Return True if the right answer or the probes of the exercise import torch."""
        files = (self.source, self.table.with_suffix(".py"))
        return any("import torch" in file.read_text(encoding="utf-8") for file in files)

    @property
    def section(self) -> str:
        """Return where to read: the lesson's file and heading, and the equation."""
        place = f"{self.project.name}/README.md, “{self.lesson}”"
        return f"{place}; {self.equation}" if self.equation else place


@functools.cache
def exercises() -> dict[str, Exercise]:
    """Return all exercises by name, in the order of the lessons."""
    return {exercise.name: exercise for table in TABLES for exercise in read_table(table)}


def read_table(path: Path) -> list[Exercise]:
    """Return the exercises of one project."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return [_exercise(path, name, entry) for name, entry in table.items()]


def _exercise(path: Path, name: str, entry: dict[str, Any]) -> Exercise:
    mistakes = {id: Mistake(id=id, **values) for id, values in entry["mistakes"].items()}
    return Exercise(
        name=name,
        number=entry["number"],
        table=path,
        functions=tuple(entry.get("functions", [name])),
        task=entry["task"],
        minutes=entry["minutes"],
        lines=entry["lines"],
        lesson=entry["lesson"],
        equation=entry.get("equation", ""),
        source=path.parent.parent / entry["source"],
        hints=tuple(entry["hints"]),
        blank=entry["blank"],
        mistakes=mistakes,
        short_path=entry.get("short_path", False),
    )


def find(name: str) -> Exercise:
    """Return the exercise with this name, number, or function. Raises UserError if there is none."""
    names = {
        known.lower(): exercise
        for exercise in exercises().values()
        for known in (exercise.name, exercise.number, *exercise.functions)
    }
    wanted = name.lower().removesuffix(".py")
    if wanted in names:
        return names[wanted]
    similar = difflib.get_close_matches(wanted, names, n=1)
    hint = f"did you mean {names[similar[0]].name}?" if similar else "`lab exercises` lists them"
    raise UserError(f"no exercise is called {name!r}; {hint}")
