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
LAST_OF_TWO = "the tensor has two axes: axis 1 is the last one"
OUTSIDE = "that a clip ratio may be None is a remark of the lab's, not part of the exercise"
LAST_STATE = "with one layer in one direction, the last state is the last output"
# Mutants that compute the same, and why: "exercise: line: change" -> reason.
EQUIVALENT = {
    "standardize: std = x.std(dim=0, correction=0): 0 -> 1": "N - 1 in the deviation is another reading, which passes",
    "features_first: return rnn(x.transpose(0, 1))[0][-1]: 0 -> 1": LAST_STATE,
    "features_first: return rnn(x.transpose(0, 1))[0][-1]: 0 -> -1": LAST_STATE,
    "epsilon_greedy: if rng.random() < epsilon:: Lt -> LtE": "a draw equals epsilon with probability 2^-53",
    "value_iteration: largest_change = 0.0: 0.0 -> -1.0": "changes are never negative, so that the largest is the same",
    "value_iteration: q = [[0.0] * len(dynamics[state]) for state in range(len(dynamics))]: 0.0 -> 1.0": (
        "value iteration converges to the same values from every start"
    ),
    "value_iteration: q = [[0.0] * len(dynamics[state]) for state in range(len(dynamics))]: 0.0 -> -1.0": (
        "value iteration converges to the same values from every start"
    ),
    "sampling_probabilities: vocabulary = logits.shape[-1]: without USub": LAST_OF_TWO,
    "sampling_probabilities: return logits.softmax(dim=-1): without USub": LAST_OF_TWO,
    "sampling_probabilities: highest = logits.topk(min(top_k, vocabulary), dim=-1).values: without USub": LAST_OF_TWO,
    "sampling_probabilities: return F.one_hot(logits.argmax(dim=-1), vocabulary).to(logits.dtype): without USub": (
        LAST_OF_TWO
    ),
    "top_p_filter: descending, order = logits.sort(dim=-1, descending=True): without USub": LAST_OF_TWO,
    "top_p_filter: probabilities = descending.softmax(dim=-1): without USub": LAST_OF_TWO,
    "top_p_filter: before = probabilities.cumsum(dim=-1) - probabilities: without USub": LAST_OF_TWO,
    "top_p_filter: return logits.masked_fill(removed.scatter(-1, order, removed), -math.inf): without USub": (
        LAST_OF_TWO
    ),
    "log_prob: return log_densities.sum(-1): without USub": LAST_OF_TWO,
    "sample_action: return action, clipped, log_densities.sum(-1): without USub": LAST_OF_TWO,
    "compute_gae: last_gae = torch.zeros_like(deltas[0]): 0 -> -1": "only the shape of that row is used",
    "normalize_advantages: return centered / (std + 1e-8): Add -> Sub": (
        "an epsilon of up to 1e-6 may be added or left out; where all are equal, 0 / -1e-8 is 0 as well"
    ),
    "policy_loss: return -objective.mean(): without USub": OUTSIDE,
    "policy_loss: return -objective.mean(): mean -> sum": OUTSIDE,
    "RunningMeanStd: self.std = (self.squares / self.count + 1e-8).sqrt(): left operand only": (
        "the deviation may be kept slightly above 0, or not"
    ),
    "RewardScaler: self.returns = self.returns * self.discount + reward: Add -> Sub": (
        "all returns change their sign, and their deviation is the same"
    ),
}


def mutants(code: str) -> Iterator[tuple[str, str]]:
    """Yield (line and change, the changed code) for every small change of the functions in `code`.

    Type annotations are left out: a change there changes nothing.
    """
    tree = ast.parse(code)
    lines = code.splitlines()
    annotations = _annotations(tree)
    for number, node in enumerate(ast.walk(tree)):
        if node in annotations:
            continue
        for label, change in _changes(node):
            mutated = copy.deepcopy(tree)
            target = list(ast.walk(mutated))[number]
            change(target)
            text = ast.unparse(ast.fix_missing_locations(mutated))
            line = lines[getattr(node, "lineno", 1) - 1].split("  #")[0].strip()
            yield f"{line}: {label}", text


def _annotations(tree: ast.AST) -> set[ast.AST]:
    """Return all nodes that belong to a type annotation."""
    roots = (getattr(node, field, None) for node in ast.walk(tree) for field in ("annotation", "returns"))
    return {part for root in roots if root is not None for part in ast.walk(root)}


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
