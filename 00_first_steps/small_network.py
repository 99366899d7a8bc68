"""The same small network twice: with single numbers and our `backward`, then with tensors.

It learns XOR: the output is 1 where exactly one of two inputs is 1. No layer without a hidden one
can do that. Gradients and losses of both versions are equal in every step.

Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986).
"""

# N = 4 examples, F = 2 features, H hidden units

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from autograd import Value, backward

INPUTS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))  # (N, F)
TARGETS = (0.0, 1.0, 1.0, 0.0)  # (N,)


class ScalarNetwork:
    """A network with one hidden layer, of single numbers: `Value` has their gradients.

    Args:
        hidden_size: number of hidden units, H.
        seed: of the initial weights, uniform in (-1, 1).
    """

    def __init__(self, hidden_size: int, seed: int) -> None:
        draw = random.Random(seed).uniform
        self.hidden_weights = [[Value(draw(-1, 1)) for _ in range(2)] for _ in range(hidden_size)]
        self.hidden_biases = [Value(0.0) for _ in range(hidden_size)]
        self.output_weights = [Value(draw(-1, 1)) for _ in range(hidden_size)]
        self.output_bias = Value(0.0)

    def parameters(self) -> list[Value]:
        """Return all weights and biases."""
        weights = [weight for unit in self.hidden_weights for weight in unit]
        return [*weights, *self.hidden_biases, *self.output_weights, self.output_bias]

    def output(self, x: Sequence[float]) -> Value:
        """Return the output for one example, F numbers."""
        output = self.output_bias
        for unit in range(len(self.hidden_biases)):
            total = self.hidden_biases[unit]
            for weight, feature in zip(self.hidden_weights[unit], x, strict=True):
                total = total + weight * feature
            output = output + self.output_weights[unit] * total.tanh()
        return output

    def loss(self) -> Value:
        """Return the mean squared error over all examples."""
        total = Value(0.0)
        for x, target in zip(INPUTS, TARGETS, strict=True):
            total = total + (self.output(x) - target) ** 2
        return total / len(TARGETS)

    def step(self, learning_rate: float) -> float:
        """Take one step of gradient descent; return the loss before it."""
        loss = self.loss()
        for parameter in self.parameters():
            parameter.grad = 0.0
        backward(loss)
        for parameter in self.parameters():
            parameter.data -= learning_rate * parameter.grad
        return loss.data


def sgd_step(parameters: Sequence[Tensor], loss: Tensor, learning_rate: float) -> None:
    """Take a step of gradient descent, in place: parameter ← parameter − learning rate · gradient.

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


class TensorNetwork:
    """The same network with tensors: a sum over units or features is a matrix product.

    Args:
        scalars: the network whose weights it starts with.
    """

    def __init__(self, scalars: ScalarNetwork) -> None:
        rows = [[weight.data for weight in unit] for unit in scalars.hidden_weights]
        self.hidden_weights = trainable(rows)  # (H, F)
        self.hidden_biases = trainable([bias.data for bias in scalars.hidden_biases])  # (H,)
        self.output_weights = trainable([weight.data for weight in scalars.output_weights])  # (H,)
        self.output_bias = trainable(scalars.output_bias.data)  # ()

    def parameters(self) -> list[Tensor]:
        """Return all weights and biases."""
        hidden = [self.hidden_weights, self.hidden_biases]
        return [*hidden, self.output_weights, self.output_bias]

    def outputs(self, x: Tensor) -> Tensor:
        """Return the outputs for examples: (N, F) -> (N,)."""
        hidden = (x @ self.hidden_weights.T + self.hidden_biases).tanh()  # (N, F) -> (N, H)
        return hidden @ self.output_weights + self.output_bias  # (N, H) -> (N,)

    def loss(self) -> Tensor:
        """Return the mean squared error over all examples."""
        inputs = torch.tensor(INPUTS, dtype=torch.float64)  # (N, F)
        targets = torch.tensor(TARGETS, dtype=torch.float64)  # (N,)
        return (self.outputs(inputs) - targets).square().mean()

    def step(self, learning_rate: float) -> float:
        """Take one step of gradient descent; return the loss before it."""
        loss = self.loss()
        sgd_step(self.parameters(), loss, learning_rate)
        return loss.item()

    def gradients(self) -> list[float]:
        """Return the gradients of the loss in the order of `ScalarNetwork.parameters`."""
        gradients = torch.autograd.grad(self.loss(), self.parameters())
        return torch.cat([gradient.flatten() for gradient in gradients]).tolist()


def trainable(numbers: object) -> Tensor:
    """Return numbers as a float64 tensor that requires a gradient."""
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


@dataclass
class Config:
    """Train the same small network with scalars and with tensors, and compare the gradients."""

    output_dir: Path = Path(__file__).parent / "results"  # Folder for the record of the run.
    num_steps: int = 300  # Steps of gradient descent.
    learning_rate: float = 0.1  # How far each step goes.
    hidden_size: int = 8  # H, hidden units.
    seed: int = 0  # Seed of the initial weights.


def main(config: Config) -> None:
    """Train both networks side by side, print the losses, and write the record."""
    from lab.errors import UserError, require_at_least
    from lab.record import RunRecord
    from lab.seeding import check_seed

    check_seed(config.seed)
    require_at_least(1, config, "num_steps", "hidden_size")
    require_at_least(0, config, "learning_rate")
    record = RunRecord(__file__, config.output_dir, config)
    scalars = ScalarNetwork(config.hidden_size, config.seed)
    tensors = TensorNetwork(scalars)
    differences = []
    print("step   loss by scalars   by tensors   largest difference of a gradient")
    for step in range(1, config.num_steps + 1):
        # Before the step, which moves the parameters.
        gradients_by_tensors = tensors.gradients()
        try:
            losses = scalars.step(config.learning_rate), tensors.step(config.learning_rate)
        except OverflowError:
            message = f"--learning_rate {config.learning_rate} is too large: step {step} overflows"
            raise UserError(message) from None
        gradients_by_scalars = [parameter.grad for parameter in scalars.parameters()]
        pairs = zip(gradients_by_scalars, gradients_by_tensors, strict=True)
        differences.append(max(abs(ours - theirs) for ours, theirs in pairs))
        if step == 1 or step % max(1, config.num_steps // 5) == 0:
            print(f"{step:4}   {losses[0]:15.6f}   {losses[1]:10.6f}   {differences[-1]:.1e}")
    for x, target in zip(INPUTS, TARGETS, strict=True):
        print(f"{x} -> {scalars.output(x).data:.3f} (target {target:.0f})")
    loss, worst = scalars.loss().data, max(differences)
    record.results["loss"] = loss
    record.check("largest difference of a gradient", worst, "at most 1e-9", worst <= 1e-9)
    record.check("loss", float(f"{loss:.1e}"), "at most 0.01", loss <= 0.01)
    record.save()


if __name__ == "__main__":
    from lab.launch import launch

    launch(Config, main)
