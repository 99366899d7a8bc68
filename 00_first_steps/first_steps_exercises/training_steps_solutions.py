"""One step of gradient descent, by hand and with an optimizer: the right answers of two exercises.

# N examples
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def sgd_step(parameters: Sequence[Tensor], loss: Tensor, learning_rate: float) -> None:
    """Take one step of gradient descent, in place: parameter ← parameter − learning rate · gradient.

    Args:
        parameters: leaf tensors that require gradients, of any shapes.
        loss: a scalar that was computed from them.
        learning_rate: how far to go.
    """
    # `backward` adds to the gradients that are there: remove those of an earlier step.
    for parameter in parameters:
        parameter.grad = None
    # The derivative of the loss with respect to every parameter, into its `grad`.
    loss.backward()
    # The update itself must not become part of a graph.
    with torch.no_grad():
        # Go downhill, in place: the model that holds the parameters must see the change.
        for parameter in parameters:
            if parameter.grad is not None:  # the loss depends on this parameter
                parameter -= learning_rate * parameter.grad


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
) -> float:
    """Train the model on one batch and return the loss, as a number, that it had before the step.

    Args:
        model: returns what `loss_function` takes, for example logits.
        optimizer: holds the parameters of the model.
        loss_function: returns a scalar for outputs and targets, in this order.
        inputs, targets: (N, ...), a batch of examples.
    """
    # Forward: what the model says, and how wrong it is.
    outputs = model(inputs)
    loss = loss_function(outputs, targets)
    # Backward: remove the gradients of the last step, then compute new ones.
    optimizer.zero_grad()
    loss.backward()
    # Change the parameters.
    optimizer.step()
    # A number: the tensor would keep the whole graph in memory.
    return loss.item()
