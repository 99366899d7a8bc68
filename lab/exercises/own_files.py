"""Files with a learner's functions: read, checked and guarded, so that every mistake in them is one line.

Imports no torch.
"""

import ast
import hashlib
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import UserError
from lab.exercises.catalog import exercises
from lab.exercises.own_results import Check
from lab.files import ROOT, display_path, read_text

Function = Callable[..., Any]
MAX_SHOWN = 200  # characters of an error's text


@dataclass
class OwnFunction:
    """A function or class of the learner's. A call that raises, or returns something unusable, raises UserError."""

    name: str
    file: Path
    line: int  # of its definition
    sha256: str  # of the file
    function: Function
    check: Check
    target: str = ""  # the place that it fills
    keeps_state: bool = False
    calls: int = 0

    @property
    def shown(self) -> str:
        """The file's name for messages."""
        return display_path(self.file)

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        result = self.guard(self.function, *arguments)
        if isinstance(self.function, type):
            return OwnObject(self, result)
        self.require(self.check(result, arguments))
        return result

    def guard(self, function: Function, *arguments: Any) -> Any:
        """Call some code of the learner's. Raises UserError, with the line, if it raises."""
        try:
            return function(*arguments)
        except UserError:  # of another function of the learner's that was called by this one, or of the lab's
            raise
        except (Exception, SystemExit) as error:
            raise UserError(f"{located(self.file, error, self.line)}: {self.name}: {described(error)}") from error

    def require(self, problem: str) -> None:
        """Raise UserError if there is a problem with a result."""
        if problem:
            raise UserError(f"{self.shown}, line {self.line}: {self.name} {problem}")


Functions = Mapping[str, OwnFunction]  # a learner's, by name


class OwnObject:
    """An object of a learner's class; its methods are guarded as functions are."""

    def __init__(self, own: OwnFunction, value: Any) -> None:
        self._own = own
        self._value = value

    def __getattr__(self, name: str) -> Any:
        attribute = self._own.guard(getattr, self._value, name)
        if not callable(attribute):
            return attribute

        def method(*arguments: Any) -> Any:
            result = self._own.guard(attribute, *arguments)
            self._own.require(self._own.check(result, (name, *arguments)))
            return result

        return method

    def __call__(self, *arguments: Any) -> Any:
        result = self._own.guard(self._value, *arguments)
        self._own.require(self._own.check(result, ("__call__", *arguments)))
        return result


def parsed(file: Path) -> tuple[str, ast.Module]:
    """Return the text of a file and its syntax tree. Raises UserError, naming file and line, or OSError."""
    text = read_text(file)
    try:
        return text, ast.parse(text)
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UserError(f"{display_path(file)}{line}: not Python: {getattr(error, 'msg', error)}") from None


def names_in(file: Path) -> list[str]:
    """Return the functions of exercises that a file defines. Raises UserError or OSError as `parsed` does."""
    known = {name for each in exercises().values() for name in each.functions}
    return [name for node in parsed(file)[1].body for name in _names(node) if name in known]


def read_functions(file: Path, checks: Mapping[str, Check], script: str) -> dict[str, OwnFunction]:
    """Return the functions in a learner's file that a script takes, by name.

    Raises OSError if the file cannot be read, UserError, naming file and line, if it is damaged, does not import, holds
    none of the functions, or one that is not written yet.
    """
    shown = display_path(file)
    text, tree = parsed(file)
    nodes = {name: node for node in tree.body for name in _names(node)}
    taken = [name for name in checks if name in nodes]
    if not taken:
        known = [name for each in exercises().values() for name in each.functions if name in nodes]
        reason = f"{known[0]} has no place in {script}" if known else f"holds no function for {script}"
        raise UserError(f"{shown}: {reason}; --with takes {', '.join(checks)}")
    for name in taken:
        if number := _placeholder(nodes[name]):
            raise UserError(f"{shown}, line {number}: {name} is not written yet; write it, then: lab check {name}")
    module = _run(file, text)
    sha256 = hashlib.sha256(text.encode("utf-8")).hexdigest()
    functions = {}
    for name in taken:
        value = getattr(module, name, None)
        if not callable(value):
            raise UserError(f"{shown}, line {nodes[name].lineno}: {name} is not a function")
        functions[name] = OwnFunction(name, file, nodes[name].lineno, sha256, value, checks[name])
    return functions


def _names(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines; those that it imports are not the learner's own."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _placeholder(node: ast.AST) -> int | None:
    """Return the line of the statement `raise NotImplementedError` that a stub holds; None if it is written."""
    for statement in getattr(node, "body", ()):
        if isinstance(statement, ast.FunctionDef) and (number := _placeholder(statement)):
            return number
        if isinstance(statement, ast.Raise) and "NotImplementedError" in ast.unparse(statement):
            return statement.lineno
    return None


def _run(file: Path, text: str) -> types.ModuleType:
    """Run a file as a module of its own. Raises UserError, with the line, for whatever its code raises."""
    module = types.ModuleType(f"own_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # where data classes look for it
    try:
        exec(compile(text, str(file), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        raise UserError(f"{located(file, error, 1)}: {described(error)}") from error
    return module


def located(file: Path, error: BaseException, line: int) -> str:
    """Return the learner's file and the line that raised an error; `line` if none in the file did."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file) and frame.lineno]
    return f"{display_path(file)}, line {(lines or [line])[-1]}"


def lab_line(error: BaseException) -> str:
    """Return the lab's file and line that raised an error, in brackets; "" if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT) and ".venv" not in frame.filename]
    return f" ({display_path(Path(own[-1].filename))}, line {own[-1].lineno})" if own else ""


def described(error: BaseException) -> str:
    """Return an exception in one line."""
    if isinstance(error, SystemExit):
        return "it ends the program: take out exit()"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:MAX_SHOWN]}" if text else type(error).__name__
