"""Right answers to the exercises on one step of training in other styles than the lab's: all must pass."""

from typing import Any

import torch
from torch import Tensor


def zero_after(parameters: Any, loss: Tensor, learning_rate: float) -> None:
    """The gradient is set to 0 after the step."""
    loss.backward()
    with torch.no_grad():
        for parameter in parameters:
            parameter.sub_(parameter.grad, alpha=learning_rate)
            parameter.grad.zero_()


def by_autograd_grad(parameters: Any, loss: Tensor, learning_rate: float) -> None:
    """Gradients as return values; nothing accumulates."""
    gradients = torch.autograd.grad(loss, list(parameters))
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= learning_rate * gradient


def by_data(parameters: Any, loss: Tensor, learning_rate: float) -> None:
    """The old way around the graph, with gradients zeroed where there are some."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.zero_()
    loss.backward(retain_graph=True)
    for parameter in parameters:
        parameter.data = parameter.data - learning_rate * parameter.grad.data


def by_optimizer(parameters: Any, loss: Tensor, learning_rate: float) -> None:
    """PyTorch's own optimizer."""
    optimizer = torch.optim.SGD(parameters, lr=learning_rate)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def by_copy(parameters: Any, loss: Tensor, learning_rate: float) -> list[Any]:
    """Without graph throughout, the new numbers copied into the old tensors."""
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    return [parameter.copy_(parameter - parameter.grad * learning_rate) for parameter in parameters]


def by_detach(parameters: Any, loss: Tensor, learning_rate: float) -> None:
    """A view outside of the graph shares the numbers."""
    loss.backward()
    for parameter in parameters:
        parameter.detach().add_(-learning_rate * parameter.grad)
        parameter.grad = None


def zero_first(model: Any, optimizer: Any, loss_function: Any, inputs: Tensor, targets: Tensor) -> float:
    """Training mode is set, and the gradient removed before the forward pass."""
    model.train()
    optimizer.zero_grad(set_to_none=False)
    loss = loss_function(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def zero_last(model: Any, optimizer: Any, loss_function: Any, inputs: Tensor, targets: Tensor) -> float:
    """The gradient is removed after the step."""
    output = model(inputs)
    loss = loss_function(output, targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach().cpu().numpy().item()


def by_closure(model: Any, optimizer: Any, loss_function: Any, inputs: Tensor, targets: Tensor) -> float:
    """The optimizer calls a function."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        return loss

    return optimizer.step(closure).item()


def by_model(model: Any, optimizer: Any, loss_function: Any, inputs: Tensor, targets: Tensor) -> float:
    """The model removes the gradients; the number is taken first."""
    model.zero_grad()
    with torch.enable_grad():
        loss = loss_function(model(inputs), targets)
        number = loss.tolist()
        torch.autograd.backward(loss)
    optimizer.step()
    return number


def by_parameters(model: Any, optimizer: Any, loss_function: Any, inputs: Tensor, targets: Tensor) -> float:
    """Gradients are removed one by one."""
    loss = loss_function(model.forward(inputs), targets)
    for parameter in model.parameters():
        parameter.grad = None
    loss.backward()
    optimizer.step()
    return loss.data.item()


RIGHT = {
    "sgd_step": {
        "zero after": {"sgd_step": zero_after},
        "autograd.grad": {"sgd_step": by_autograd_grad},
        "data": {"sgd_step": by_data},
        "optimizer": {"sgd_step": by_optimizer},
        "copy": {"sgd_step": by_copy},
        "detach": {"sgd_step": by_detach},
    },
    "train_step": {
        "zero first": {"train_step": zero_first},
        "zero last": {"train_step": zero_last},
        "closure": {"train_step": by_closure},
        "model": {"train_step": by_model},
        "parameters": {"train_step": by_parameters},
    },
}
