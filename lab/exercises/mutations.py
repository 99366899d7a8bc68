"""Automatic mutants of a function: small changes of its syntax tree, one at a time. Imports no torch."""

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[Any], None]  # changes a node in place
OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "mean": "sum", "sum": "mean"}


def mutants(code: str) -> Iterator[tuple[str, str]]:
    """Yield (what was changed, the changed code) for every small change of the functions in `code`."""
    tree = ast.parse(code)
    nodes = list(ast.walk(tree))
    for number, node in enumerate(nodes):
        for label, change in _changes(node):
            mutated = copy.deepcopy(tree)
            target = list(ast.walk(mutated))[number]
            change(target)
            text = ast.unparse(ast.fix_missing_locations(mutated))
            line = getattr(node, "lineno", 0)
            yield f"line {line}: {label}", text


def _changes(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """Yield (label, function that changes such a node in place)."""
    if isinstance(node, (ast.BinOp, ast.AugAssign, ast.BoolOp)):
        for new in OPERATORS.get(type(node.op), ()):
            yield f"{_name(node.op)} -> {new.__name__}", _setter("op", new)
    if isinstance(node, ast.BinOp):
        yield "left operand only", _keep("left")
        yield "right operand only", _keep("right")
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for new in OPERATORS.get(type(node.ops[0]), ()):
            yield f"{_name(node.ops[0])} -> {new.__name__}", _first_comparison(new)
    if isinstance(node, ast.UnaryOp):
        yield f"without {_name(node.op)}", _keep("operand")
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        yield f"{node.value} -> {node.value + 1}", _add(1)
        yield f"{node.value} -> {node.value - 1}", _add(-1)
    if isinstance(node, (ast.Name, ast.Attribute)):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in NAMES:
            yield f"{name} -> {NAMES[name]}", _rename(NAMES[name])


def _name(node: ast.AST) -> str:
    return type(node).__name__


def _setter(field: str, new: type) -> Change:
    def change(node: Any) -> None:
        setattr(node, field, new())

    return change


def _first_comparison(new: type) -> Change:
    def change(node: Any) -> None:
        node.ops[0] = new()

    return change


def _keep(field: str) -> Change:
    """Return a change that puts one part of an expression in the place of the whole."""

    def change(node: Any) -> None:
        part = getattr(node, field)
        node.__class__ = part.__class__
        node.__dict__ = dict(part.__dict__)

    return change


def _add(amount: int) -> Change:
    def change(node: Any) -> None:
        node.value += amount

    return change


def _rename(name: str) -> Change:
    def change(node: Any) -> None:
        setattr(node, "id" if isinstance(node, ast.Name) else "attr", name)

    return change
