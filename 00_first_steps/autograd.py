"""Reverse-mode automatic differentiation of scalars: what `loss.backward()` does, in one file.

Every operation notes the values it came from and the derivative with respect to each of them.
`backward` goes through these notes from the result back to the start, by the chain rule.

Source: Griewank & Walther, Evaluating Derivatives, 2nd edition (2008), section 3.2.
"""

import math


class Value:
    """A number that remembers how it was computed.

    Args:
        data: the number.
        parents: the values that it was computed from; none for a number that was given.
        local_gradients: d self / d parent, one number for each parent.

    Attributes:
        grad: d result / d self, to which `backward(result)` adds; 0 at first.
    """

    def __init__(
        self,
        data: float,
        parents: tuple["Value", ...] = (),
        local_gradients: tuple[float, ...] = (),
    ) -> None:
        self.data = data
        self.grad = 0.0
        self.parents = parents
        self.local_gradients = local_gradients

    def __repr__(self) -> str:
        return f"Value({self.data:.6g}, grad={self.grad:.6g})"

    def __add__(self, other: "Value | float") -> "Value":
        other = as_value(other)
        # d(a + b)/da = 1,  d(a + b)/db = 1
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: "Value | float") -> "Value":
        other = as_value(other)
        # d(a b)/da = b,  d(a b)/db = a
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> "Value":
        # d(aⁿ)/da = n aⁿ⁻¹; the power 0 is constant, also at a = 0
        slope = exponent * math.pow(self.data, exponent - 1) if exponent else 0.0
        return Value(math.pow(self.data, exponent), (self,), (slope,))

    def __neg__(self) -> "Value":
        return self * -1.0

    def __sub__(self, other: "Value | float") -> "Value":
        return self + -as_value(other)

    def __truediv__(self, other: "Value | float") -> "Value":
        return self * as_value(other) ** -1

    # A number on the left: 2 + a, 2 * a, 2 - a, 2 / a.
    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: float) -> "Value":
        return as_value(other) - self

    def __rtruediv__(self, other: float) -> "Value":
        return as_value(other) / self

    def exp(self) -> "Value":
        """Return e to the power of this value."""
        result = math.exp(self.data)
        # d(eᵃ)/da = eᵃ
        return Value(result, (self,), (result,))

    def log(self) -> "Value":
        """Return the natural logarithm. Raises ValueError for 0 and below."""
        # d(log a)/da = 1 / a
        return Value(math.log(self.data), (self,), (1.0 / self.data,))

    def tanh(self) -> "Value":
        """Return the hyperbolic tangent."""
        result = math.tanh(self.data)
        # d(tanh a)/da = 1 − tanh² a
        return Value(result, (self,), (1.0 - result**2,))

    def relu(self) -> "Value":
        """Return this value where it is positive, else 0; the derivative at 0 is 0."""
        return Value(max(self.data, 0.0), (self,), (float(self.data > 0.0),))


def as_value(number: Value | float) -> Value:
    """Return a number as a value; a value is returned as it is."""
    return number if isinstance(number, Value) else Value(number)


def backward(value: Value) -> None:
    """Add d value / d node to the `grad` of every node that `value` depends on, and of itself.

    A node has `parents`, the values it was computed from, and `local_gradients`, its derivative
    with respect to each of them. A node may be a parent of several others, or twice of the same.
    """
    # Put the nodes in order, each after all of its parents. A stack instead of recursion: chains
    # of operations may be longer than Python's calls may be deep.
    order: list[Value] = []
    visited: set[Value] = set()
    stack = [(value, False)]
    while stack:
        node, parents_are_in_order = stack.pop()
        if parents_are_in_order:
            order.append(node)
        elif node not in visited:
            visited.add(node)
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    # The result depends on itself with the slope 1, on all others with 0 as far as is known yet.
    gradients = dict.fromkeys(order, 0.0)
    gradients[value] = 1.0
    # Go back from the result. When a node's turn comes, all that depends on it has had its turn,
    # so its gradient is complete.
    for node in reversed(order):
        node.grad += gradients[node]
        # Chain rule: a parent's gradient is a sum over all nodes that were computed from it.
        for parent, local_gradient in zip(node.parents, node.local_gradients, strict=True):
            gradients[parent] += gradients[node] * local_gradient
