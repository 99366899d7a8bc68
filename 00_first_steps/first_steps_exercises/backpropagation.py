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


def twice_used(nodes: Nodes) -> Value:
    """a b + a"""
    return nodes["a"] * nodes["b"] + nodes["a"]


def unequal_sides(nodes: Nodes) -> Value:
    """s = a b; (2 s + 1)² s"""
    nodes["s"] = nodes["a"] * nodes["b"]
    return (nodes["s"] * 2.0 + 1.0) ** 2 * nodes["s"]


def unequal_sides_swapped(nodes: Nodes) -> Value:
    """s = a b; s (2 s + 1)²"""
    nodes["s"] = nodes["a"] * nodes["b"]
    return nodes["s"] * (nodes["s"] * 2.0 + 1.0) ** 2


def equal_numbers(nodes: Nodes) -> Value:
    """s = a + c; a b + s b, where a = b = s"""
    nodes["s"] = nodes["a"] + nodes["c"]
    return nodes["a"] * nodes["b"] + nodes["s"] * nodes["b"]


def neuron(nodes: Nodes) -> Value:
    """h = tanh(a b + c); log(exp(h) + 1) - relu(a)"""
    nodes["h"] = (nodes["a"] * nodes["b"] + nodes["c"]).tanh()
    return (nodes["h"].exp() + 1.0).log() - nodes["a"].relu()


def fraction(nodes: Nodes) -> Value:
    """s = a - b; s / (b c)"""
    nodes["s"] = nodes["a"] - nodes["b"]
    return nodes["s"] / (nodes["b"] * nodes["c"])


def diamonds(nodes: Nodes) -> Value:
    """Five times: a becomes a² / 2 + a"""
    value = nodes["a"]
    for _ in range(5):
        value = value * value * 0.5 + value
    return value


def long_chain(nodes: Nodes) -> Value:
    """Forty times: a becomes 0.75 a + b"""
    value = nodes["a"]
    for _ in range(40):
        value = value * 0.75 + nodes["b"]
    return value


def cancelling(nodes: Nodes) -> Value:
    """a - a + b"""
    return nodes["a"] - nodes["a"] + nodes["b"]


BACKWARD = (
    _gradients("one product", "a * b", product, a=2.0, b=-1.5),
    _gradients("one sum", "a + b", total, a=2.0, b=-1.5),
    _gradients("three operations in a row", "s = a * 3 + 1; s ** 2", chain, a=0.5),
    _gradients("one value, both operands", "a * a", square, a=3.0),
    _gradients("one value in two operations", "a * b + a", twice_used, a=2.0, b=-1.5),
    _gradients("two paths of unequal length", "s = a * b; (s * 2 + 1) ** 2 * s", unequal_sides, a=0.5, b=-3.0),
    _gradients("the shorter path first", "s = a * b; s * (s * 2 + 1) ** 2", unequal_sides_swapped, a=0.5, b=-3.0),
    _gradients("values with equal numbers", "s = a + c; a * b + s * b", equal_numbers, a=2.0, b=2.0, c=0.0),
    _gradients("a neuron", "h = tanh(a b + c); log(exp(h) + 1) - relu(a)", neuron, a=0.5, b=-2.0, c=1.5),
    _gradients("a fraction", "s = a - b; s / (b * c)", fraction, a=3.0, b=0.5, c=-4.0),
    _gradients("five diamonds in a row", "five times: a = a * a * 0.5 + a", diamonds, a=0.25),
    _gradients("forty operations in a row", "forty times: a = a * 0.75 + b", long_chain, a=1.0, b=0.5),
    _gradients("gradients that cancel", "a - a + b", cancelling, a=2.0, b=-1.5),
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
