"""Probes of the exercise on backpropagation: small graphs in which every known mistake shows.

The gradient of the result with respect to itself is not compared, nor is what a second call adds to the first.
"""

from collections.abc import Callable
from typing import Any

from autograd import Value
from lab.exercises.probes import Answer, Invariant, Probe

Nodes = dict[str, Value]
Graph = Callable[[Nodes], Value]  # takes the given values, to which it may add intermediate ones; returns the result


def _gradients(name: str, expression: str, graph: Graph, **numbers: float) -> Probe:
    """Return a probe that compares the gradients of the given values and of the intermediate ones."""

    def run(answer: Answer) -> Any:
        nodes = {key: Value(number) for key, number in numbers.items()}
        result = graph(nodes)
        answer["backward"](result)
        return {key: node.grad for key, node in nodes.items()}

    def arguments() -> dict[str, Any]:
        return {"value": expression, **numbers}

    return Probe(name, run, arguments)


def product(nodes: Nodes) -> Value:
    """a b"""
    return nodes["a"] * nodes["b"]


def total(nodes: Nodes) -> Value:
    """a + b"""
    return nodes["a"] + nodes["b"]


def chain(nodes: Nodes) -> Value:
    """s = 3 a + 1; s²"""
    nodes["s"] = nodes["a"] * 3.0 + 1.0
    return nodes["s"] ** 2


def square(nodes: Nodes) -> Value:
    """a a"""
    return nodes["a"] * nodes["a"]


def unequal_sides(nodes: Nodes) -> Value:
    """s = a b; (2 s + 1)² s"""
    nodes["s"] = nodes["a"] * nodes["b"]
    return (nodes["s"] * 2.0 + 1.0) ** 2 * nodes["s"]


def unequal_sides_swapped(nodes: Nodes) -> Value:
    """s = a b; s (2 s + 1)²"""
    nodes["s"] = nodes["a"] * nodes["b"]
    return nodes["s"] * (nodes["s"] * 2.0 + 1.0) ** 2


BACKWARD = (
    _gradients("one product", "a * b", product, a=2.0, b=-1.5),
    _gradients("three operations in a row", "s = a * 3 + 1; s ** 2", chain, a=0.5),
    _gradients("one value, both operands", "a * a", square, a=3.0),
    _gradients("two paths of unequal length", "s = a * b; (s * 2 + 1) ** 2 * s", unequal_sides, a=0.5, b=-3.0),
    _gradients("the shorter path first", "s = a * b; s * (s * 2 + 1) ** 2", unequal_sides_swapped, a=0.5, b=-3.0),
)


def _gradient(answer: Answer, graph: Graph, **numbers: float) -> dict[str, float]:
    nodes = {key: Value(number) for key, number in numbers.items()}
    answer["backward"](graph(nodes))
    return {key: node.grad for key, node in nodes.items()}


def _starts_with_one(answer: Answer) -> bool:
    return _gradient(answer, total, a=4.0, b=8.0) == {"a": 1.0, "b": 1.0}


def _other_factor(answer: Answer) -> bool:
    return _gradient(answer, product, a=4.0, b=8.0) == {"a": 8.0, "b": 4.0}


def _uses_add_up(answer: Answer) -> bool:
    return _gradient(answer, lambda nodes: nodes["a"] + nodes["a"], a=4.0) == {"a": 2.0}


def _slopes_multiply(answer: Answer) -> bool:
    return _gradient(answer, lambda nodes: nodes["a"] * 2.0 * 3.0, a=4.0) == {"a": 6.0}


def _order_of_factors(answer: Answer) -> bool:
    one, other = (_gradient(answer, graph, a=0.5, b=4.0) for graph in (unequal_sides, unequal_sides_swapped))
    return one == other


PROBES = {"backward": BACKWARD}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "backward": (
        Invariant("starts_with_one", _starts_with_one, "for a + b both gradients must be 1; yours are not"),
        Invariant("other_factor", _other_factor, "for a * b the gradient of a must be b; yours is not"),
        Invariant("uses_add_up", _uses_add_up, "for a + a the gradient of a must be 2: every use counts"),
        Invariant("slopes_multiply", _slopes_multiply, "for a * 2 * 3 the gradient of a must be 6: slopes multiply"),
        Invariant("order_of_factors", _order_of_factors, "s * t and t * s must give the same gradients; yours differ"),
    ),
}
