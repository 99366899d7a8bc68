"""Small models, loss functions and a watched optimizer for the probes on one step of training.

# N examples, F features, C classes
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def numbers(*values: Any) -> Tensor:
    """Return a tensor of float64."""
    return torch.tensor(values, dtype=torch.float64)


class WatchedSGD(torch.optim.SGD):
    """Gradient descent that counts its steps, and notes a gradient that was lost before the first one."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(parameters, lr=lr, momentum=momentum)
        self.steps = 0
        self.note = ""

    def gradients(self) -> list[Tensor]:
        """Return the gradients that are there."""
        parameters = self.param_groups[0]["params"]
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Note a gradient that is zeroed before the first step."""
        if self.steps == 0 and any(bool(gradient.any()) for gradient in self.gradients()):
            self.note = "the gradient was zeroed before the step"
        super().zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        """Take a step, and count it."""
        result = super().step(closure)
        if self.steps == 0 and not self.note:
            self.note = "the gradient was 0" if self.gradients() else "the step had no gradient"
        self.steps += 1
        return result


class Line(nn.Module):
    """A linear function of F features; its outputs are (N,), or (N, 1) as a column."""

    def __init__(self, column: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(numbers(0.5, -1.0))  # (F,)
        self.bias = nn.Parameter(numbers(0.25))  # (1,)
        self.column = column
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        outputs = inputs @ self.weight + self.bias  # (N,)
        return outputs[:, None] if self.column else outputs


class Classifier(nn.Module):
    """A linear classifier of F features into C classes, whose logits are doubled in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(numbers([0.5, -0.25, 1.0], [-0.5, 0.75, 0.25]))  # (F, C)
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        logits = inputs @ self.weight  # (N, C)
        return 2 * logits if self.training else logits


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error, without the warning of PyTorch's own where shapes differ."""
    return (outputs - targets).square().mean()


def mean_relative_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error, relative to the targets: outputs and targets may not be swapped."""
    return ((outputs - targets) / targets).square().mean()
