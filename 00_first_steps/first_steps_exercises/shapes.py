"""Probes of the shape detective: every function with sizes that all differ, and with sizes that hide a wrong axis.

# B batch, N examples, F features, C classes, T positions, E features of a position, H hidden size
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from first_steps_exercises import shapes_solutions
from first_steps_exercises.error_kinds import told_apart
from lab.exercises.probes import Answer, Invariant, Outcome, Probe, as_number, call, outcome, same_outcome

FUNCTIONS = (
    "features_first",
    "weigh_examples",
    "make_batch",
    "class_probabilities",
    "mean_absolute_error",
    "label_loss",
    "last_outputs",
    "linear_scores",
)
RIGHT: Answer = {name: getattr(shapes_solutions, name) for name in FUNCTIONS}
Arguments = Callable[[], Mapping[str, Any]]


class InTurn:
    """Probes, each of which looks at an answer only if all functions before its own are right.

    So a mistake is recognized whatever the functions after it do, also while they are not written yet.
    """

    def __init__(self, cases: Sequence[tuple[str, Probe]]) -> None:
        self.cases = cases  # name of the function, and probe of it
        self.last: tuple[Answer, int] = RIGHT, len(FUNCTIONS)  # the last answer, and its first wrong function

    def probes(self) -> list[Probe]:
        """Return one probe for each case."""
        return [
            replace(probe, name=f"{function}, {probe.name}", run=partial(self.run, function, probe))
            for function, probe in self.cases
        ]

    def run(self, function: str, probe: Probe, answer: Answer) -> Any:
        """Return the result of an answer, or the right one if an earlier function is wrong."""
        if self.last[0] is not answer:
            self.last = answer, self.first_wrong(answer)
        reached = FUNCTIONS.index(function) <= self.last[1]
        with told_apart():
            return probe.run(answer if reached else RIGHT)

    def first_wrong(self, answer: Answer) -> int:
        """Return the place of the first wrong function of an answer."""
        for (function, probe), right in zip(self.cases, self.right, strict=True):
            if not same_outcome(outcome(probe, answer), right, probe):
                return FUNCTIONS.index(function)
        return len(FUNCTIONS)

    @cached_property
    def right(self) -> list[Outcome]:
        """The outcomes of the right answer."""
        return [outcome(probe, RIGHT) for _, probe in self.cases]


def counted(*shape: int, start: int = 0) -> Tensor:
    """Return a tensor of different halves, (float64), that are in no simple order."""
    size = int(torch.tensor(shape).prod())
    return ((torch.arange(start, start + size) * 7) % 31 - 12).double().view(shape) / 2


def _case(function: str, name: str, arguments: Arguments) -> tuple[str, Probe]:
    return function, call(function, name, arguments)


def _sequences(name: str, *shape: int) -> tuple[str, Probe]:
    return _case("features_first", name, lambda: {"x": counted(*shape)})


def _weights(name: str, examples: int, features: int) -> tuple[str, Probe]:
    def arguments() -> dict[str, Tensor]:
        return {"x": counted(examples, features), "weights": counted(examples, start=3)}

    return _case("weigh_examples", name, arguments)


def _examples(name: str, examples: int, features: int) -> tuple[str, Probe]:
    return _case("make_batch", name, lambda: {"examples": list(counted(examples, features).unbind())})


def _logits(name: str, *shape: int) -> tuple[str, Probe]:
    return _case("class_probabilities", name, lambda: {"logits": counted(*shape) / 4})


def _predictions(name: str, examples: int) -> tuple[str, Probe]:
    def arguments() -> dict[str, Tensor]:
        return {"predictions": counted(examples, 1), "targets": counted(examples, start=5).flip(0)}

    return "mean_absolute_error", call("mean_absolute_error", name, arguments, result=as_number)


def _labels(name: str, labels: Sequence[float], classes: int) -> tuple[str, Probe]:
    def arguments() -> dict[str, Tensor]:
        return {
            "logits": counted(len(labels), classes) / 4,
            "labels": torch.tensor(labels, dtype=torch.float64),
        }

    return "label_loss", call("label_loss", name, arguments, result=as_number, relative=1e-5)  # float32 will do


def network(features: int, hidden: int) -> nn.RNN:
    """Return a recurrent network with fixed weights, (float64)."""
    rnn = nn.RNN(features, hidden, dtype=torch.float64)
    with torch.no_grad():
        for number, parameter in enumerate(rnn.parameters()):
            parameter.copy_(counted(*parameter.shape, start=number) / 8)
    return rnn


def _recurrent(name: str, *shape: int) -> tuple[str, Probe]:
    def arguments() -> dict[str, Any]:
        return {"rnn": network(shape[2], 3), "x": counted(*shape) / 8}

    return _case("last_outputs", name, arguments)


def _scores(name: str, examples: int, features: int) -> tuple[str, Probe]:
    def arguments() -> dict[str, Tensor]:
        return {"x": counted(examples, features), "weight": counted(features, 1, start=4)}

    return _case("linear_scores", name, arguments)


SHAPE_DETECTIVE = InTurn(
    [
        _sequences("B 2, T 3, E 4", 2, 3, 4),
        _sequences("as many positions as features", 2, 3, 3),
        _weights("N 3, F 2", 3, 2),
        _weights("as many examples as features", 3, 3),
        _weights("a single example", 1, 3),
        _examples("N 2, F 3", 2, 3),
        _examples("a single example", 1, 3),
        _logits("N 2, C 3", 2, 3),
        _logits("as many examples as classes", 2, 2),
        _predictions("N 3", 3),
        _predictions("a single example", 1),
        _labels("N 3, C 4", [1, 3, 0], 4),
        _labels("as many examples as classes", [2, 0, 0], 3),
        _recurrent("B 2, T 4", 2, 4, 2),
        _recurrent("a single sequence", 1, 3, 2),
        _scores("N 3, F 2", 3, 2),
        _scores("a single example", 1, 2),
    ]
).probes()


def _shape(answer: Answer, name: str, *arguments: Any) -> tuple[int, ...]:
    return tuple(answer[name](*arguments).shape)


def _shapes(answer: Answer) -> bool:
    """Return True if every function returns the shape that its docstring names."""
    found = (
        _shape(answer, "features_first", counted(2, 3, 4)),
        _shape(answer, "weigh_examples", counted(3, 2), counted(3)),
        _shape(answer, "make_batch", list(counted(2, 3))),
        _shape(answer, "class_probabilities", counted(2, 3)),
        _shape(answer, "last_outputs", network(2, 3), counted(2, 4, 2)),
        _shape(answer, "linear_scores", counted(1, 2), counted(2, 1)),
    )
    return found == ((2, 4, 3), (3, 2), (2, 3), (2, 3), (2, 3), (1,))


def _rows_sum_to_one(answer: Answer) -> bool:
    sums = answer["class_probabilities"](counted(2, 3)).sum(1)
    return torch.allclose(sums, torch.ones_like(sums))


def _same_numbers(answer: Answer) -> bool:
    """Return True if an element stays with its example, position and feature."""
    x = counted(2, 3, 4)
    result = answer["features_first"](x.clone())
    return all(result[b, e, t] == x[b, t, e] for b in range(2) for t in range(3) for e in range(4))


def _own_weight(answer: Answer) -> bool:
    weights = torch.tensor([1.0, 0.0, 2.0]).double()
    x = counted(3, 3)
    result = answer["weigh_examples"](x.clone(), weights)
    return bool((result[1] == 0).all() and (result[2] == 2 * x[2]).all())


def _zero_when_right(answer: Answer) -> bool:
    targets = counted(3)
    return float(answer["mean_absolute_error"](targets[:, None].clone(), targets)) == 0.0


def _own_sequence(answer: Answer) -> bool:
    """Return True if the output of a sequence depends on nothing of the others."""
    x = counted(3, 3, 2) / 8
    other = x.clone()
    other[1:] += 1
    rnn = network(2, 3)
    return torch.allclose(answer["last_outputs"](rnn, x)[0], answer["last_outputs"](rnn, other)[0])


PROBES = {"features_first": SHAPE_DETECTIVE}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "features_first": (
        Invariant("same_numbers", _same_numbers, "features_first: a number must stay with its position and feature"),
        Invariant("own_weight", _own_weight, "weigh_examples: an example must be multiplied by its own weight"),
        Invariant("rows_sum_to_one", _rows_sum_to_one, "class_probabilities: every row must sum to 1"),
        Invariant(
            "zero_when_right", _zero_when_right, "mean_absolute_error: it must be 0 where all is predicted right"
        ),
        Invariant("own_sequence", _own_sequence, "last_outputs: a sequence must not depend on the others of the batch"),
        Invariant("shapes", _shapes, "one of the functions returns another shape than its docstring says"),
    ),
}
