"""Probes of the exercises on one step of training: small models whose parameters are compared after some steps.

All numbers are halves and quarters in float64, so that no mistake hides in rounding.

# N examples, F features, C classes
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from first_steps_exercises.error_kinds import told_apart
from first_steps_exercises.small_models import (
    Classifier,
    Line,
    WatchedSGD,
    mean_relative_error,
    mean_squared_error,
    numbers,
)
from lab.exercises.probes import Answer, Changed, Invariant, Probe, noting_changes, plain

# --- sgd_step ---------------------------------------------------------------------------------------------------------

INPUTS = numbers([1, 0.5], [-1, 2], [0.5, -1.5], [2, 1])  # (N, F)
TARGETS = numbers(2, -1, 0.5, 3)  # (N,)
Loss = Callable[[Sequence[Tensor]], Tensor]


def square(parameters: Sequence[Tensor]) -> Tensor:
    """Return (p - 3)², summed over the entries of all parameters."""
    return torch.stack([(parameter - 3).square().sum() for parameter in parameters]).sum()


def line(parameters: Sequence[Tensor]) -> Tensor:
    """Mean squared error of a linear function with weights (F,) and a bias ()."""
    weights, bias = parameters
    return (INPUTS @ weights + bias - TARGETS).square().mean()


def product(parameters: Sequence[Tensor]) -> Tensor:
    """Squared error of a product: the gradient of each parameter depends on the other one."""
    first, second = parameters
    return (first * second - 1).square().sum()


def note_on(parameters: Sequence[Tensor], before: Sequence[Tensor], handed_over: Sequence[Tensor]) -> str:
    """Return what can be said of parameters after a step; of their gradients only if none has moved."""
    if not all(parameter.requires_grad and parameter.is_leaf for parameter in parameters):
        return "a parameter requires no gradient any more"
    if not all(torch.equal(now, then) for now, then in zip(parameters, before, strict=True)):
        return "the parameters have moved"
    if any(one is not other for one, other in zip(parameters, handed_over, strict=True)):
        return "nothing has moved, but the list holds other tensors"
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    there = any(bool(gradient.any()) for gradient in gradients)
    return "nothing has moved, though there are gradients" if there else "nothing has moved, and there is no gradient"


def descend(answer: Answer, given: dict[str, Any], loss: Loss, steps: int) -> list[Any]:
    """Return the parameters after each of several steps."""
    parameters, found = given["parameters"], []
    for _ in range(steps):
        before = [parameter.detach().clone() for parameter in parameters]
        handed_over = list(parameters)
        answer["sgd_step"](handed_over, loss(parameters), given["learning_rate"])
        values = [parameter.detach().clone() for parameter in parameters]
        found.append({"parameters": values, "note": note_on(parameters, before, handed_over)})
    return found


def _sgd(
    name: str,
    loss: Loss,
    start: Sequence[Any],
    steps: int = 1,
    learning_rate: float = 0.25,
) -> Probe:
    def arguments() -> dict[str, Any]:
        parameters = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in start]
        return {"parameters": parameters, "learning_rate": learning_rate}

    def run(answer: Answer) -> Any:
        with told_apart():
            return descend(answer, arguments(), loss, steps)

    def shown() -> dict[str, Any]:
        given = arguments()
        return {"parameters": plain(given["parameters"]), "loss": loss.__name__, "learning_rate": learning_rate}

    return Probe(name, run, shown)


SGD_STEP = (
    _sgd("one number, one step", square, [1.0]),
    _sgd("two numbers", square, [[1.0, 7.0]], learning_rate=0.125),
    _sgd("two parameters", line, [[0.5, -1.0], 0.25]),
    _sgd("a product of two parameters", product, [[1.0, 2.0], [0.5, -1.0]], learning_rate=0.125),
    _sgd("a large learning rate", square, [[1.0, 7.0]], learning_rate=2.0),
    _sgd("one number, two steps", square, [1.0], steps=2, learning_rate=0.125),
    _sgd("two parameters, three steps", line, [[0.5, -1.0], 0.25], steps=3),
)


def _moved(answer: Answer, factor: float) -> Tensor:
    """Return how far a weight moves if learning rate and gradient are multiplied by a factor."""
    weight = numbers(1.0, -2.0).requires_grad_()
    answer["sgd_step"]([weight], (weight * numbers(0.5, 0.25)).sum() * factor, 0.5)
    return weight.detach() - numbers(1.0, -2.0)


def _downhill(answer: Answer) -> bool:
    weight = numbers(1.0, -2.0).requires_grad_()
    before = (weight.detach() - 3).square().sum()
    answer["sgd_step"]([weight], square([weight]), 0.0625)
    return bool((weight.detach() - 3).square().sum() < before)


def _in_place(answer: Answer) -> bool:
    return bool(_moved(answer, 1.0).any())


def _proportional(answer: Answer) -> bool:
    return torch.allclose(2 * _moved(answer, 1.0), _moved(answer, 2.0))


def _every_parameter(answer: Answer) -> bool:
    parameters = [numbers(1.0).requires_grad_() for _ in range(3)]
    answer["sgd_step"](list(parameters), square(parameters), 0.125)
    return all(bool((parameter.detach() != 1).all()) for parameter in parameters)


def _same_again(answer: Answer) -> bool:
    """Return True if a second call with the same gradient moves as far as the first."""
    weight = numbers(1.0).requires_grad_()
    for _ in range(2):
        answer["sgd_step"]([weight], weight.sum(), 0.125)
    return torch.allclose(weight.detach(), numbers(0.75))


# --- train_step -------------------------------------------------------------------------------------------------------


def _parameters(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def _note_on_training(model: Any, optimizer: WatchedSGD, moved: bool) -> str:
    if not optimizer.steps:
        return "the parameters have moved without the optimizer" if moved else "the optimizer took no step"
    if moved:
        return "the parameters have moved"
    if not model.calls:
        return "the model was not used"
    came_later = optimizer.note == "the step had no gradient" and bool(optimizer.gradients())
    return "the gradient came after the step" if came_later else optimizer.note


def _returned(loss: Any) -> Any:
    """Return a loss; an array as a tensor, as which it counts: neither is a number."""
    return torch.from_numpy(loss) if isinstance(loss, np.ndarray) else loss


def trained(answer: Answer, given: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return the losses of some steps, and the parameters after them if the optimizer has moved them."""
    model, optimizer = given["model"], given["optimizer"]
    before = _parameters(model)
    losses = [_returned(answer["train_step"](*given.values())) for _ in range(steps)]
    after = _parameters(model)
    moved = not all(torch.equal(now, then) for now, then in zip(after, before, strict=True))
    note = _note_on_training(model, optimizer, moved)
    if note == "the parameters have moved without the optimizer":
        return {"loss": losses[:1], "parameters": [], "note": note}
    return {"loss": losses, "parameters": after, "note": note}


def _train(
    name: str,
    make_model: Callable[[], nn.Module],
    make_loss: Callable[[], Any],
    inputs: Tensor,
    targets: Tensor,
    steps: int = 1,
    lr: float = 0.25,
    momentum: float = 0.0,
) -> Probe:
    def arguments() -> dict[str, Any]:
        model = make_model()
        return {
            "model": model,
            "optimizer": WatchedSGD(model.parameters(), lr, momentum),
            "loss_function": make_loss(),
            "inputs": inputs.clone(),
            "targets": targets.clone(),
        }

    def run(answer: Answer) -> Changed:
        given = arguments()
        watched = {key: given[key] for key in ("inputs", "targets")}
        with told_apart():
            return noting_changes(watched, lambda: trained(answer, given, steps))

    def shown() -> dict[str, Any]:
        loss_function = make_loss()
        names = {"model": type(make_model()).__name__, "loss_function": getattr(loss_function, "__name__", "")}
        return {**names, "inputs": inputs, "targets": targets, "steps": steps}

    return Probe(name, run, shown, relative=1e-7)


LABELS = torch.tensor([2, 0, 1, 1])  # (N,)


def _squared() -> Any:
    return mean_squared_error


def _relative() -> Any:
    return mean_relative_error


def _cross_entropy() -> Any:
    return F.cross_entropy


def _column() -> nn.Module:
    return Line(column=True)


TRAIN_STEP = (
    _train("one example, one step", Line, _squared, INPUTS[:1], TARGETS[:1]),
    _train("four examples, one step", Line, _squared, INPUTS, TARGETS),
    _train("an error relative to the targets", Line, _relative, INPUTS, TARGETS, lr=0.125),
    _train("three steps", Line, _squared, INPUTS, TARGETS, steps=3, lr=0.125),
    _train("outputs and targets are columns, (N, 1)", _column, _squared, INPUTS, TARGETS[:, None]),
    _train("a classifier, one step", Classifier, _cross_entropy, INPUTS, LABELS, lr=0.5),
    _train("a classifier, three steps with momentum", Classifier, _cross_entropy, INPUTS, LABELS, 3, momentum=0.5),
)


def _given_line(**settings: Any) -> dict[str, Any]:
    model = Line()
    optimizer = WatchedSGD(model.parameters(), **{"lr": 0.0625, "momentum": 0.0} | settings)
    loss_function = mean_squared_error
    return {
        "model": model,
        "optimizer": optimizer,
        "loss_function": loss_function,
        "inputs": INPUTS,
        "targets": TARGETS,
    }


def _loss_falls(answer: Answer) -> bool:
    given = _given_line()
    for _ in range(20):
        answer["train_step"](*given.values())
    with torch.no_grad():
        return bool(mean_squared_error(given["model"](INPUTS), TARGETS) < mean_squared_error(Line()(INPUTS), TARGETS))


def _loss_returned(answer: Answer) -> bool:
    with torch.no_grad():
        expected = mean_squared_error(Line()(INPUTS), TARGETS).item()
    return abs(float(answer["train_step"](*_given_line().values())) - expected) < 1e-6


def _one_step(answer: Answer) -> bool:
    given = _given_line()
    answer["train_step"](*given.values())
    return given["optimizer"].steps == 1


def _optimizer_decides(answer: Answer) -> bool:
    """Return True if nothing moves with an optimizer whose learning rate is 0."""
    given = _given_line(lr=0.0)
    before = _parameters(given["model"])
    answer["train_step"](*given.values())
    return all(torch.equal(now, then) for now, then in zip(_parameters(given["model"]), before, strict=True))


PROBES = {"sgd_step": SGD_STEP, "train_step": TRAIN_STEP}
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "sgd_step": (
        Invariant("in_place", _in_place, "the given tensors must move; yours are what they were"),
        Invariant("downhill", _downhill, "a small step must make the loss smaller; yours does not"),
        Invariant("every_parameter", _every_parameter, "every parameter must move; yours leaves some where they were"),
        Invariant("same_again", _same_again, "a second step with the same gradient must be as long as the first"),
        Invariant("proportional", _proportional, "twice the gradient must give twice the step; yours does not"),
    ),
    "train_step": (
        Invariant("one_step", _one_step, "a call must take exactly one step of the optimizer; yours does not"),
        Invariant("optimizer_decides", _optimizer_decides, "with a learning rate of 0 nothing may move; yours moves"),
        Invariant("loss_falls", _loss_falls, "the loss must fall over twenty steps; yours does not"),
        Invariant(
            "loss_returned", _loss_returned, "the loss before the step must be returned; yours is another number"
        ),
    ),
}
