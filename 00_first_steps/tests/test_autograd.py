"""Values and gradients of `autograd.py` equal PyTorch's."""

import functools
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import autograd
from autograd import Value, as_value, backward

UNARY: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda a: a.tanh(),
    "relu": lambda a: a.relu(),
    "exp": lambda a: a.tanh().exp(),  # of numbers in (-1, 1), so that nothing overflows
    "log": lambda a: (a * a + 0.5).log(),
    "neg": lambda a: -a,
    "square": lambda a: a**2,
    "cube": lambda a: a**3,
    "power 1.5": lambda a: (a * a + 0.25) ** 1.5,
    "power -1": lambda a: (a * a + 0.5) ** -1,
    "power 0": lambda a: a**0,
    "number on the left": lambda a: 2 - 3 * a + (1 + a),
    "number divided": lambda a: 2 / (a * a + 1),
    "number on the right": lambda a: (a - 1) * 0.5 + a / 4,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a.tanh() * b,
    "div": lambda a, b: a / (b * b + 1),
}


def expression(leaves: list[Any], steps: list[tuple[str, int, int]]) -> Any:
    """Apply operations to earlier results, and add up the last three: nodes are used several times."""
    nodes = list(leaves)
    for name, first, second in steps:
        one, other = nodes[first % len(nodes)], nodes[second % len(nodes)]
        nodes.append(UNARY[name](one) if name in UNARY else BINARY[name](one, other))
    return nodes[-1] + nodes[-2] * nodes[-3].tanh()


def gradients(numbers: list[float], function: Callable[[list[Any]], Any], calls: int = 1) -> list[float]:
    """Return the value and the gradients of a function after some calls of `backward`."""
    leaves = [Value(number) for number in numbers]
    result = function(leaves)
    for _ in range(calls):
        backward(result)
    return [result.data, *(leaf.grad for leaf in leaves)]


def torch_gradients(numbers: list[float], function: Callable[[list[Any]], Any], calls: int = 1) -> list[float]:
    leaves = [torch.tensor(number, dtype=torch.float64, requires_grad=True) for number in numbers]
    result = function(leaves)
    for _ in range(calls):
        result.backward(retain_graph=True)
    return [result.item(), *(0.0 if leaf.grad is None else leaf.grad.item() for leaf in leaves)]


numbers = st.floats(-2, 2).filter(lambda number: abs(number) > 1e-3)
steps = st.lists(st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 99), st.integers(0, 99)), max_size=8)


@given(st.lists(numbers, min_size=3, max_size=5), steps, st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_random_expressions_have_the_gradients_of_torch(leaves: list[float], steps: Any, calls: int) -> None:
    def function(values: list[Any]) -> Any:
        return expression(values, steps)

    expected = torch_gradients(leaves, function, calls)
    if all(abs(number) < 1e6 for number in expected):
        assert gradients(leaves, function, calls) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
@pytest.mark.parametrize("numbers", [(0.75, -1.5), (-1.25, 2.0), (0.5, 0.5)])
def test_every_operation_has_the_gradients_of_torch(name: str, numbers: tuple[float, float]) -> None:
    def function(values: list[Any]) -> Any:
        return UNARY[name](values[0]) if name in UNARY else BINARY[name](*values)

    assert gradients([*numbers], function) == pytest.approx(torch_gradients([*numbers], function), rel=1e-12)


GRAPHS: dict[str, Callable[[list[Any]], Any]] = {
    "one value, both operands": lambda v: v[0] * v[0],
    "one value, four times": lambda v: v[0] * v[1] + v[0] / v[1] - v[0],
    "a diamond": lambda v: (v[0] * 2) * (v[0] + 3),
    "a diamond with sides of unequal length": lambda v: (((v[0] * v[1]).tanh() + 1) ** 2) * (v[0] * v[1]),
    "diamonds in a row": lambda v: functools.reduce(lambda x, _: x * x.tanh() + x, range(30), v[1]),
    "an intermediate value that is used later": lambda v: (lambda s: (s.exp() + 1).log() * s)(v[0] * v[1] - 1),
    "a neuron": lambda v: (v[0] * 2.0 + v[1] * -3.0 + 6.88).tanh(),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("calls", [1, 2])
def test_shared_values_have_the_gradients_of_torch(name: str, calls: int) -> None:
    found, expected = (compute([0.5, -0.25], GRAPHS[name], calls) for compute in (gradients, torch_gradients))
    assert found[:3] == pytest.approx(expected[:3], rel=1e-12)


def test_intermediate_values_get_gradients_that_accumulate_as_in_torch() -> None:
    def graph(a: Any, b: Any) -> list[Any]:
        product = a * b
        shifted = product.tanh() + 1
        return [a, b, product, shifted, shifted * product]

    mine = graph(Value(0.5), Value(-1.5))
    theirs = graph(*(torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, -1.5)))
    for node in theirs[2:]:
        node.retain_grad()
    for _ in range(2):
        backward(mine[-1])
        theirs[-1].backward(retain_graph=True)
        assert [node.grad for node in mine] == pytest.approx([node.grad.item() for node in theirs])


def test_two_results_add_up() -> None:
    a, b = Value(3.0), Value(2.0)
    backward(a * b)
    backward(a - b)
    assert (a.grad, b.grad) == (2.0 + 1.0, 3.0 - 1.0)


def test_a_value_without_parents_has_the_gradient_1() -> None:
    value, other = Value(2.0), Value(3.0)
    backward(value)
    assert (value.grad, other.grad) == (1.0, 0.0)


def test_long_chains_need_no_recursion() -> None:
    start = Value(0.5)
    value = start
    for _ in range(5_000):
        value = value * 0.999 + 0.001
    backward(value)
    assert start.grad == pytest.approx(0.999**5_000)


def test_shared_values_cost_no_more_than_their_number() -> None:
    """There are 2 to the 200 paths through this graph."""
    start = Value(1.0)
    value = start
    for _ in range(200):
        value = (value + value) * 0.5
    backward(value)
    assert start.grad == 1.0


def test_a_network_learns_with_it() -> None:
    """Gradient descent on a network of three neurons, by hand and with torch: the same losses."""
    rng = random.Random(0)
    weights = [rng.uniform(-1, 1) for _ in range(10)]
    points = [(-1.0, 1.0, 1.0), (1.0, 1.0, -1.0), (1.0, -1.0, 1.0), (-1.0, -1.0, -1.0)]  # exclusive or

    def loss(w: list[Any]) -> Any:
        errors = []
        for x, y, target in points:
            hidden = [(w[k] * x + w[k + 1] * y + w[k + 2]).tanh() for k in (0, 3)]
            errors.append((w[6] * hidden[0] + w[7] * hidden[1] + w[8] - target) ** 2)
        return (errors[0] + errors[1] + errors[2] + errors[3]) / 4

    def descend(compute: Any) -> list[float]:
        current, losses = list(weights), []
        for _ in range(60):
            value, *slopes = compute(current, loss)
            losses.append(value)
            current = [weight - 0.3 * slope for weight, slope in zip(current, slopes, strict=True)]
        return losses

    mine = descend(gradients)
    assert mine == pytest.approx(descend(torch_gradients))
    assert mine[-1] < 0.1 * mine[0]


def test_the_derivative_of_relu_at_0_is_0() -> None:
    assert gradients([0.0], lambda v: v[0].relu()) == torch_gradients([0.0], lambda v: v[0].relu()) == [0.0, 0.0]


def test_powers_of_0() -> None:
    for exponent in (0, 1, 2):
        power = lambda v, n=exponent: v[0] ** n  # noqa: E731
        assert gradients([0.0], power) == torch_gradients([0.0], power)


def test_what_has_no_value_raises() -> None:
    with pytest.raises(ValueError, match="domain"):
        Value(0.0).log()
    with pytest.raises(ValueError, match="domain"):
        _ = Value(-8.0) ** (1 / 3)
    with pytest.raises(TypeError):
        _ = Value(2.0) ** Value(3.0)  # pyright: ignore[reportOperatorIssue]


def test_the_example_of_the_lesson_runs() -> None:
    blocks = re.findall(
        r"```python\n(.*?)```", Path(autograd.__file__).with_name("README.md").read_text("utf-8"), re.DOTALL
    )
    example = next(block for block in blocks if "from autograd import" in block)
    names: dict[str, Any] = {}
    exec(example, names)
    expected = torch_gradients([2.0, -1.5], lambda v: (v[0] * v[1] + v[0]).tanh())
    assert [names["result"].data, names["a"].grad, names["b"].grad] == pytest.approx(expected)


def test_text_and_conversion() -> None:
    value = Value(2.0)
    assert as_value(value) is value
    assert as_value(2).data == 2
    backward(value * 3)
    assert repr(value) == "Value(2, grad=3)"
    assert math.isclose((value**2).data, 4.0)
