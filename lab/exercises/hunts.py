"""Bug hunts: training runs with one wrong line in the code, read from the tables of each project. Imports no torch.

A table is the file hunts.toml in a project's package of exercises. Next to it, hunts.py says how a mended function is
checked; benchmarks/bug_hunts.py measures the runs.
"""

import ast
import difflib
import functools
import re
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.exercises.catalog import Mistake
from lab.files import ROOT

TABLES = (
    ROOT / "01_q_learning_maze/maze_exercises/hunts.toml",
    ROOT / "02_transformer_basics/transformer_exercises/hunts.toml",
    ROOT / "03_ppo_reacher/ppo_exercises/hunts.toml",
)
MOST_CHANGED_LINES = 3
ANSWER_POINTS, MEND_POINTS = 1, 2


@dataclass(frozen=True)
class Choice:
    """A possible answer to the question which detail is wrong, and what is said to those who choose it."""

    text: str
    because: str


@dataclass(frozen=True)
class Column:
    """A quantity of the results that the card shows: its name there, its name on the card, and how it is printed."""

    key: str
    label: str
    format: str = ".2f"


@dataclass(frozen=True)
class Claim:
    """The difference of a metric, in every seed, between the run with the wrong line and the healthy one."""

    metric: str
    direction: str  # "higher", "lower" or "equal"


@dataclass(frozen=True)
class Hunt:
    """One bug hunt: what was run, what the learner sees of it, the question, and the wrong line."""

    name: str
    table: Path
    title: str
    setting: str  # what was run
    minutes: int
    lesson: str  # heading of the lesson's section
    curve: Column  # what is followed during the run
    x_label: str
    points: tuple[int, ...]  # values of x that the card shows
    metrics: tuple[Column, ...]  # measured after the run
    claims: tuple[Claim, ...]
    choices: Mapping[str, Choice]  # by letter
    answer: str
    source: Path
    function: str  # such as "train" or "QLearningAgent.act"
    replace: tuple[tuple[str, str], ...]  # (line of the source, what stands there instead)
    mistake: str  # its id in the exercises that check the function
    exercises: tuple[str, ...]  # whose probes check the function; () if it has probes of its own

    @property
    def project(self) -> Path:
        """Return the folder of the lesson."""
        return self.table.parent.parent

    @property
    def key(self) -> str:
        """Return the name of the learner's file without its ending."""
        return f"hunt_{self.name}"

    @property
    def defined(self) -> str:
        """Return the name that the learner's file defines."""
        return self.function.rpartition(".")[2]

    def as_mistake(self) -> Mistake:
        """Return the wrong line as a mistake of an exercise."""
        because = self.choices[self.answer].because
        return Mistake(self.mistake, hint=because, question=because, family="")


@functools.cache
def hunts() -> dict[str, Hunt]:
    """Return all bug hunts by name, in the order of the lessons."""
    return {hunt.name: hunt for table in TABLES for hunt in read_table(table)}


def find_hunt(name: str) -> Hunt:
    """Return the hunt with this name. Raises UserError if there is none."""
    if name not in hunts():
        raise UserError(f"no bug hunt is called {name!r}; `lab hunt` lists them")
    return hunts()[name]


def read_table(path: Path) -> list[Hunt]:
    """Return the bug hunts of one project."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return [_hunt(path, name, entry) for name, entry in table.items()]


def _hunt(path: Path, name: str, entry: dict[str, Any]) -> Hunt:
    return Hunt(
        name=name,
        table=path,
        title=entry["title"],
        setting=entry["setting"],
        minutes=entry["minutes"],
        lesson=entry["lesson"],
        curve=Column(**entry["curve"]),
        x_label=entry["x_label"],
        points=tuple(entry["points"]),
        metrics=tuple(Column(**column) for column in entry["metrics"]),
        claims=tuple(Claim(**claim) for claim in entry["claims"]),
        choices={letter: Choice(**choice) for letter, choice in entry["choices"].items()},
        answer=entry["answer"],
        source=path.parent.parent / entry["source"],
        function=entry["function"],
        replace=tuple((right, wrong) for right, wrong in entry["replace"]),
        mistake=entry["mistake"],
        exercises=tuple(entry["exercises"]),
    )


# --- the file to mend -------------------------------------------------------------------------------------------------


def starter(hunt: Hunt) -> str:
    """Return the file that a learner mends: the lab's function with the wrong line.

    Raises LookupError if the source does not hold each of the lines that are replaced exactly once.
    """
    lines = _definition(hunt).splitlines()
    for right, wrong in hunt.replace:
        places = [number for number, line in enumerate(lines) if line.strip() == right]
        if len(places) != 1:
            raise LookupError(f"{hunt.function} holds {len(places)} lines {right!r}, not one")
        indent = re.match(r"\s*", lines[places[0]])
        lines[places[0] : places[0] + 1] = [f"{indent[0] if indent else ''}{wrong}"] if wrong else []
    return _file(hunt, "\n".join(lines))


def mended(hunt: Hunt) -> str:
    """Return the file with the lab's function as it is."""
    return _file(hunt, _definition(hunt))


def changed_lines(hunt: Hunt, text: str) -> int:
    """Return how many lines of the starter a learner has changed, added or removed."""
    before, after = starter(hunt).splitlines(), text.splitlines()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    changes = [opcode for opcode in matcher.get_opcodes() if opcode[0] != "equal"]
    return sum(max(i2 - i1, j2 - j1) for _, i1, i2, j1, j2 in changes)


def _tree(hunt: Hunt) -> ast.Module:
    return ast.parse(hunt.source.read_text(encoding="utf-8"))


def _definition(hunt: Hunt) -> str:
    """Return the code of the function; that of a method as a function of its own."""
    node: Any = _tree(hunt)
    for name in hunt.function.split("."):
        node = next(each for each in node.body if getattr(each, "name", "") == name)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    lines = hunt.source.read_text(encoding="utf-8").splitlines()
    return textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno]))


def _file(hunt: Hunt, code: str) -> str:
    source = hunt.source.relative_to(ROOT).as_posix()
    fault = "wrong" if all(wrong for _, wrong in hunt.replace) else "missing"
    task = f"One line of `{hunt.function}` of {source} is {fault}. Mend it; change at most {MOST_CHANGED_LINES} lines."
    header = f'"""Bug hunt {hunt.name}\n\n{textwrap.fill(task, 88)}\n\nCheck it: lab hunt {hunt.name} --check\n"""\n'
    imports = _imports(hunt, code)
    return "\n\n".join([header + (f"\n{imports}" if imports else ""), code.rstrip() + "\n"])


def _imports(hunt: Hunt, code: str) -> str:
    """Return the imports that the code needs: those of the source file, and of what the source file defines."""
    words = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    words |= set(re.findall(r'"(\w+)"', code))  # types in quotes
    lines, own = [], []
    for node in _tree(hunt).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            node.names = [alias for alias in node.names if (alias.asname or alias.name).split(".")[0] in words]
            lines += [ast.unparse(node)] if node.names else []
        own += [name for name in _names(node) if name in words and name != hunt.function]
    module = ".".join(hunt.source.relative_to(hunt.project).with_suffix("").parts)
    lines += [f"from {module} import {', '.join(own)}"] if own else []
    return "".join(f"{line}\n" for line in lines)


def _names(node: ast.stmt) -> list[str]:
    """Return the names that a statement of a module defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
