"""Wrong answers to the exercise on backpropagation, each the right one with one mistake switched on."""

from collections import Counter
from collections.abc import Iterator, Set

from autograd import Value
from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def _topological(value: Value, wrong: Set[str]) -> list[Value]:
    """Every value after its parents, with the given mistake."""
    order: list[Value] = []
    visited: set[object] = set()

    def visit(node: Value) -> None:
        key = node.data if "by_number" in wrong else node
        if key not in visited:
            visited.add(key)
            for parent in node.parents:
                visit(parent)
            order.append(node)

    visit(value)
    return order


def _level_by_level(value: Value, wrong: Set[str]) -> Iterator[Value]:
    """The values in the order in which they are met, with the given mistakes."""
    waiting, visited = [value], set()
    while waiting:
        node = waiting.pop(-1 if "depth_first" in wrong else 0)
        if "every_path" in wrong or node not in visited:
            visited.add(node)
            yield node
            waiting += node.parents[::-1] if "depth_first" in wrong else node.parents


def _order(value: Value, wrong: Set[str]) -> list[Value]:
    """The values in the order in which they pass on their gradients, with the given mistakes."""
    if "parents_only" in wrong:
        return [value]
    if wrong & {"breadth_first", "depth_first", "every_path"}:
        return list(_level_by_level(value, wrong))
    return _topological(value, wrong)[::-1]


def _contribution(node: Value, parent: Value, local: float, wrong: Set[str]) -> float:
    """Contribution of a node to the gradient of a parent, with the given mistakes."""
    if "local_only" in wrong:
        return local
    if "no_local" in wrong:
        return node.grad
    if "added" in wrong:
        return node.grad + local
    if "divided" in wrong:
        return node.grad / local
    if "data_for_gradient" in wrong:
        return node.data * local
    if "parent_data" in wrong:
        return node.grad * parent.data
    return -node.grad * local if "negated" in wrong else node.grad * local


def _parents(node: Value, wrong: Set[str]) -> list[tuple[Value, float]]:
    """The parents of a node with their local gradients, with the given mistakes."""
    local_gradients = node.local_gradients[::-1] if "swapped_locals" in wrong else node.local_gradients
    pairs = list(zip(node.parents, local_gradients, strict=True))
    if "set_of_parents" in wrong:
        pairs = list(dict(pairs).items())
    if "leaves_missing" in wrong:
        pairs = [(parent, local) for parent, local in pairs if parent.parents]
    return pairs[:1] if "first_parent_only" in wrong else pairs


def backward(value: Value, wrong: Set[str] = NONE) -> None:
    """Backpropagation, with the given mistakes."""
    order = _order(value, wrong)
    uses = Counter(parent for node in _topological(value, NONE) for parent in node.parents)
    if "seed_missing" not in wrong:
        value.grad = value.data if "seed_is_data" in wrong else 1.0
    for node in order:
        for parent, local in _parents(node, wrong):
            contribution = _contribution(node, parent, local, wrong)
            if "averaged" in wrong:
                contribution /= uses[parent]
            parent.grad = contribution if "overwritten" in wrong else parent.grad + contribution
    if "leaves_only" in wrong:
        for node in order:
            node.grad = 0.0 if node.parents else node.grad


def every_path_by_recursion(value: Value) -> None:
    """Backpropagation along every path, each time with all that the value has by then."""

    def follow(node: Value) -> None:
        for parent, local in zip(node.parents, node.local_gradients, strict=True):
            parent.grad += node.grad * local
            follow(parent)

    value.grad = 1.0
    follow(value)


def every_path_by_stack(value: Value) -> None:
    """Backpropagation with a stack that may hold a value several times."""
    value.grad = 1.0
    stack = [value]
    while stack:
        node = stack.pop()
        for parent, local in zip(node.parents, node.local_gradients, strict=True):
            parent.grad += node.grad * local
            stack.append(parent)


def seed_everywhere(value: Value) -> None:
    """Backpropagation by recursion, which sets the gradient of every value to 1."""
    value.grad = 1.0
    for parent, local in zip(value.parents, value.local_gradients, strict=True):
        parent.grad += value.grad * local
        seed_everywhere(parent)


ORDERS = ("parents_only", "breadth_first", "depth_first", "every_path", "by_number")
RULES = ("local_only", "no_local", "added", "divided", "data_for_gradient", "parent_data", "negated")
START = ("seed_missing", "seed_is_data")
WRONG = {
    "backward": Wrong(
        {"backward": backward},
        (*ORDERS, *switches(_contribution, _parents, backward)),
        plain={
            "every_path_by_recursion": {"backward": every_path_by_recursion},
            "every_path_by_stack": {"backward": every_path_by_stack},
            "seed_everywhere": {"backward": seed_everywhere},
        },
        exclusive=(
            {*ORDERS},
            {*RULES},
            {*START},
            *(
                {"seed_missing", other}
                for other in (*ORDERS, *RULES, "overwritten", "set_of_parents", "averaged", "swapped_locals")
            ),
            {"leaves_only", "leaves_missing"},
            *({"seed_missing", other} for other in ("first_parent_only", "leaves_only", "leaves_missing")),
        ),
    ),
}
