"""Right answers to the exercise on backpropagation in other styles than the lab's: all must pass."""

from collections import Counter

from autograd import Value


def by_recursion(value: Value) -> None:
    """A topological order by recursion, gradients kept in the values, as in micrograd."""
    order: list[Value] = []
    visited: set[Value] = set()

    def build(node: Value) -> None:
        if node not in visited:
            visited.add(node)
            for parent in node.parents:
                build(parent)
            order.append(node)

    build(value)
    value.grad = 1.0
    for node in reversed(order):
        for index, parent in enumerate(node.parents):
            parent.grad += node.local_gradients[index] * node.grad


def by_paths(value: Value) -> None:
    """A contribution for each path: slow, and right."""

    def follow(node: Value, slope: float) -> None:
        node.grad += slope
        for parent, local in zip(node.parents, node.local_gradients, strict=True):
            follow(parent, slope * local)

    follow(value, 1.0)


def by_counting(value: Value) -> None:
    """A value passes its gradient on when all of its uses have contributed (Kahn's algorithm)."""
    uses: Counter[Value] = Counter()
    waiting, seen = [value], {value}
    while waiting:
        for parent in waiting.pop().parents:
            uses[parent] += 1
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    value.grad = 1.0
    ready = [value]
    while ready:
        node = ready.pop()
        for parent, local in zip(node.parents, node.local_gradients, strict=True):
            parent.grad += node.grad * local
            uses[parent] -= 1
            if uses[parent] == 0:
                ready.append(parent)


def by_depth(value: Value) -> None:
    """Sorted by the longest path from the result; gradients by identity."""
    depths, nodes = {id(value): 0}, {id(value): value}
    waiting = [value]
    while waiting:
        node = waiting.pop()
        for parent in node.parents:
            if depths.get(id(parent), -1) < depths[id(node)] + 1:
                depths[id(parent)] = depths[id(node)] + 1
                nodes[id(parent)] = parent
                waiting.append(parent)
    for node in nodes.values():
        node.grad = 0
    value.grad = 1
    for key in sorted(depths, key=depths.__getitem__):
        for parent, local in zip(nodes[key].parents, nodes[key].local_gradients, strict=True):
            parent.grad = parent.grad + local * nodes[key].grad


def without_the_result(value: Value) -> None:
    """Gradients of one call in a dictionary, added to all values but the result."""
    order: list[Value] = []

    def build(node: Value) -> None:
        for parent in node.parents:
            if parent not in order:
                build(parent)
        if node not in order:
            order.append(node)

    build(value)
    gradients = {value: 1.0}
    for node in order[::-1]:
        for parent, local in zip(node.parents, node.local_gradients, strict=True):
            gradients[parent] = gradients.get(parent, 0.0) + local * gradients[node]
    for node in order[:-1]:
        node.grad += gradients[node]


RIGHT = {
    "backward": {
        "recursion": {"backward": by_recursion},
        "paths": {"backward": by_paths},
        "counting": {"backward": by_counting},
        "depth": {"backward": by_depth},
        "without the result": {"backward": without_the_result},
    },
}
