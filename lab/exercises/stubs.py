"""Stubs: the lab's own functions with the code taken out, and the solution with the code in. Imports no torch."""

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence

from lab.exercises.catalog import Exercise

PLACEHOLDER = 'raise NotImplementedError("write your code here, and remove this line")'
Definition = ast.FunctionDef | ast.ClassDef


def stub(exercise: Exercise) -> str:
    """Return the file that a learner fills in: signatures, docstrings and comments of the lab's functions."""
    return _file(exercise, [_without_code(exercise, node) for node in _definitions(exercise)])


def solution(exercise: Exercise) -> str:
    """Return the lab's functions in full, in the same form as the stub."""
    return _file(exercise, [_lines(exercise, node.lineno, node.end_lineno) for node in _definitions(exercise)])


def _file(exercise: Exercise, parts: Sequence[str]) -> str:
    task = textwrap.fill(exercise.task, width=88)
    header = f'"""Exercise {exercise.number}: {exercise.name}\n\n{task}\n\nCheck it: lab check {exercise.name}\n"""\n'
    imports = _imports(exercise, "\n".join(parts))
    return "\n\n".join([header + (f"\n{imports}" if imports else ""), *parts]).rstrip() + "\n"


def _source(exercise: Exercise) -> str:
    return exercise.source.read_text(encoding="utf-8")


def _lines(exercise: Exercise, first: int, last: int | None) -> str:
    return "\n".join(_source(exercise).splitlines()[first - 1 : last]) + "\n"


def _definitions(exercise: Exercise) -> Iterator[Definition]:
    """Yield the syntax trees of the exercise's functions and classes, in the order of the exercise."""
    found = {node.name: node for node in ast.parse(_source(exercise)).body if isinstance(node, Definition)}
    for name in exercise.functions:
        yield found[name]


def _imports(exercise: Exercise, code: str) -> str:
    """Return the imports of the source file that `code` needs, and torch; those of the lab's modules are left out.

    A class of the source file that the code needs and the exercise does not ask for is imported from there.
    """
    words = set(re.findall(r"\w+", code)) | {"torch"}
    body = ast.parse(_source(exercise)).body
    lines = []
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not (getattr(node, "module", "") or "").startswith("lab"):
            node.names = [alias for alias in node.names if (alias.asname or alias.name) in words]
            lines += [ast.unparse(node)] if node.names else []
    used = {
        node.id for definition in _definitions(exercise) for node in ast.walk(definition) if isinstance(node, ast.Name)
    }
    classes = {node.name for node in body if isinstance(node, ast.ClassDef)} & used - set(exercise.functions)
    lines += [f"from {exercise.source.stem} import {name}" for name in sorted(classes)]
    return "\n".join(lines) + "\n" if lines else ""


def _without_code(exercise: Exercise, node: Definition) -> str:
    """Return a definition without its code: every function in it keeps signature, docstring and comments."""
    if isinstance(node, ast.FunctionDef):
        return _without_body(exercise, node)
    lines = _source(exercise).splitlines()
    functions = [child for child in node.body if isinstance(child, ast.FunctionDef)]
    pieces, position = [], node.lineno
    for function in functions:
        pieces.append("\n".join(lines[position - 1 : function.lineno - 1]))
        pieces.append(_without_body(exercise, function).rstrip())
        position = (function.end_lineno or 0) + 1
    pieces.append("\n".join(lines[position - 1 : node.end_lineno]))
    return "\n".join(pieces).rstrip() + "\n"


def _without_body(exercise: Exercise, function: ast.FunctionDef) -> str:
    """Return signature, docstring, the comments that stand on lines of their own, and a placeholder."""
    lines = _source(exercise).splitlines()
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    start = function.body[0].end_lineno or 0 if ast.get_docstring(function) is not None else function.body[0].lineno - 1
    kept = lines[function.lineno - 1 : start]
    indent = " " * function.body[0].col_offset
    if body:
        comments = [line.strip() for line in lines[start : function.end_lineno] if line.strip().startswith("#")]
        kept += [f"{indent}{comment}" for comment in comments]
        kept.append(indent + PLACEHOLDER)
    return "\n".join(kept) + "\n"
