"""Wrong answers to the exercises on one step of training, each the right one with one mistake switched on."""

import copy
from collections.abc import Set
from typing import Any

import torch
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def _gradient(parameter: Tensor, loss: Any, wrong: Set[str]) -> Any:
    """Direction in which a parameter is moved, with the given mistakes."""
    gradient: Any = parameter.grad
    if "mean_gradient" in wrong:
        gradient = gradient.mean()
    if "sum_for_mean" in wrong:
        gradient = gradient.sum()
    if "sign_only" in wrong:
        gradient = gradient.sign()
    if "unit_length" in wrong:
        gradient = gradient / gradient.norm()
    if "loss_for_gradient" in wrong:
        gradient = loss.detach()
    if "times_loss" in wrong:
        gradient = gradient * loss.detach()
    if "times_parameter" in wrong:
        gradient = gradient * parameter
    if "clipped" in wrong:
        gradient = gradient.clamp(-1, 1)
    return gradient


def _move(parameter: Tensor, gradient: Any, learning_rate: float, wrong: Set[str]) -> None:
    """The update of one parameter, with the given mistakes."""
    step = learning_rate * gradient
    if "no_learning_rate" in wrong:
        step = gradient
    if "divided" in wrong:
        step = gradient / learning_rate
    if "uphill" in wrong:
        step = -step
    if "graph_grows" in wrong:
        parameter = parameter - step
        return
    if "leaf_in_place" in wrong:
        parameter -= step
        return
    with torch.no_grad():
        if "overwritten" in wrong:
            parameter.copy_(-step.expand_as(parameter))
        elif "decayed" in wrong:
            parameter.mul_(1 - learning_rate).sub_(step)
        else:
            parameter -= step
    if "frozen" in wrong:
        parameter.requires_grad_(False)


def sgd_step(parameters: Any, loss: Any, learning_rate: float, wrong: Set[str] = NONE) -> None:
    """One step of gradient descent, with the given mistakes."""
    for parameter in parameters:
        if "zero_none" in wrong:
            parameter.grad.zero_()
        elif "accumulates" not in wrong and ("zero_last_only" not in wrong or parameter is parameters[-1]):
            parameter.grad = None
    if "item_first" in wrong:
        loss = loss.item()
    if "backward_in_loop" in wrong or "backward_twice" in wrong:
        for parameter in parameters:
            parameter.grad = None
            loss.backward(retain_graph="backward_in_loop" in wrong)
            _move(parameter, _gradient(parameter, loss, wrong), learning_rate, wrong)
        return
    if "no_backward" not in wrong:
        loss.backward()
    if "zero_between" in wrong:
        for parameter in parameters:
            parameter.grad.zero_()
    if "first_only" in wrong:
        parameters = parameters[:1]
    if "last_only" in wrong:
        parameters = parameters[-1:]
    if "replaced" in wrong:
        steps = [learning_rate * parameter.grad for parameter in parameters]
        parameters[:] = [parameter - step for parameter, step in zip(parameters, steps, strict=True)]
        return
    for parameter in parameters:
        _move(parameter, _gradient(parameter, loss, wrong), learning_rate, wrong)


def _new_model(model: Any, optimizer: Any, wrong: Set[str]) -> tuple[Any, Any]:
    """The model and the optimizer that are used, with the given mistakes."""
    if "wrong_parameters" in wrong:
        model = copy.deepcopy(model)
    if "own_optimizer" in wrong:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    if "eval_mode" in wrong:
        model.eval()
    if "eval_after" in wrong and model.calls:
        model.eval()
    return model, optimizer


def _loss(model: Any, loss_function: Any, inputs: Any, targets: Any, wrong: Set[str]) -> Any:
    """The loss of a batch, with the given mistakes."""
    if "first_example" in wrong:
        inputs, targets = inputs[:1], targets[:1]
    if "no_graph" in wrong:
        with torch.no_grad():
            outputs = model(inputs)
    else:
        outputs = model(inputs)
    if "double_softmax" in wrong:
        outputs = outputs.softmax(-1)
    if "squeezed" in wrong:
        outputs = outputs.squeeze()
    if "outer" in wrong:
        targets = targets.unsqueeze(-1)
    if "swapped" in wrong:
        return loss_function(targets, outputs)
    if "targets_are_inputs" in wrong:
        targets = inputs
    if "own_loss" in wrong:
        return (outputs - targets).square().mean()
    return loss_function(outputs, targets)


def _update(optimizer: Any, loss: Any, wrong: Set[str]) -> None:
    """The backward pass and the step, with the given mistakes."""
    if not wrong & {"no_zero_grad", "zero_between"}:
        optimizer.zero_grad()
    if "order_of_steps" in wrong:
        optimizer.step()
    if "uphill" in wrong:
        (-loss).backward()
    elif "no_backward" not in wrong:
        loss.backward()
    if "backward_twice" in wrong:
        loss.backward()
    if "zero_between" in wrong:
        optimizer.zero_grad()
    if "clips" in wrong:
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.5)
    if not wrong & {"order_of_steps", "no_step"}:
        optimizer.step()
    if "two_steps" in wrong:
        optimizer.step()


def train_step(
    model: Any, optimizer: Any, loss_function: Any, inputs: Any, targets: Any, wrong: Set[str] = NONE
) -> Any:
    """One step of the training loop, with the given mistakes."""
    model, optimizer = _new_model(model, optimizer, wrong)
    loss = _loss(model, loss_function, inputs, targets, wrong)
    if "item_first" in wrong:
        loss = loss.item()
    _update(optimizer, loss, wrong)
    if "loss_after" in wrong:
        loss = _loss(model, loss_function, inputs, targets, wrong)
    if "tensor_returned" in wrong:
        return loss
    if "nothing_returned" in wrong:
        return None
    number = loss if isinstance(loss, float) else loss.item()
    if "times_batch" in wrong:
        return number * len(inputs)
    if "divided_by_batch" in wrong:
        return number / len(inputs)
    return number


GRADIENTS = ("mean_gradient", "sum_for_mean", "sign_only", "unit_length", "loss_for_gradient", "times_loss",
             "times_parameter", "clipped")  # fmt: skip
MOVES = ("graph_grows", "leaf_in_place", "overwritten", "decayed", "frozen")
RATES = ("no_learning_rate", "divided")
NO_GRADIENT = ("zero_none", "item_first", "no_backward", "zero_between")
IN_LOOP = ("backward_in_loop", "backward_twice")
STILL = ("graph_grows", "leaf_in_place", "replaced", *NO_GRADIENT)
NO_MOVE = ("no_backward", "zero_between", "order_of_steps", "no_step", "wrong_parameters", "no_graph", "item_first",
           "own_optimizer", "backward_twice", "targets_are_inputs", "swapped", "own_loss")  # fmt: skip
RETURNED = ("tensor_returned", "nothing_returned", "times_batch", "divided_by_batch")
WRONG = {
    "sgd_step": Wrong(
        {"sgd_step": sgd_step},
        switches(sgd_step, _gradient, _move),
        exclusive=(
            {*GRADIENTS, *NO_GRADIENT},
            {*MOVES, *NO_GRADIENT},
            {*RATES},
            *(
                {each, other}
                for each in STILL
                for other in (*RATES, *GRADIENTS, "uphill", "accumulates", "zero_last_only", "first_only", "last_only")
            ),
            *({"replaced", other} for other in (*MOVES, *NO_GRADIENT)),
            *(
                {*IN_LOOP, other}
                for other in (*STILL, "accumulates", "zero_last_only", "first_only", "last_only", "loss_for_gradient")
            ),
            {"accumulates", "zero_last_only"},
            {"first_only", "last_only"},
            {"loss_for_gradient", "accumulates", "zero_last_only"},
        ),
    ),
    "train_step": Wrong(
        {"train_step": train_step},
        ("no_zero_grad", "no_step", *switches(_new_model, _loss, _update, train_step)),
        exclusive=(
            {"no_zero_grad", *NO_MOVE},
            {*RETURNED},
            {"loss_after", "item_first"},
            *(
                {each, other}
                for each in NO_MOVE
                for other in (
                    "two_steps",
                    "clips",
                    "uphill",
                    "loss_after",
                    "eval_mode",
                    "eval_after",
                    "first_example",
                    *RETURNED,
                )
            ),
            *({each, other} for each in NO_MOVE for other in ("double_softmax", "squeezed", "outer")),
            {"squeezed", "outer"},
            {"eval_mode", "eval_after"},
        ),
    ),
}
