"""The training loop: data, model, loss, backward, step, validation; overfitting, and its cure.

A small network learns to tell two spirals apart: once from few examples, which it learns by heart,
and once from ten times as many, for the same number of steps. `train_step` is the heart of it, and
of every other training in the lab.

Source: Goodfellow, Bengio and Courville, Deep Learning (2016), sections 5.2 and 8.3.
"""

# N examples, F = 2 features (the coordinates of a point), C = 2 classes, H hidden units

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from spirals_drawing import Panel


@dataclass(frozen=True)
class Examples:
    """A set of examples: inputs (N, F), float32, and labels (N,), int64: numbers of classes."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Examples":
        """Return the same examples on a device."""
        return Examples(self.inputs.to(device), self.labels.to(device))

    def batches(self, size: int, generator: torch.Generator) -> Iterator["Examples"]:
        """Yield all examples in random order, in batches of `size`; the last may be smaller."""
        order = torch.randperm(len(self), generator=generator)  # (N,)
        for indices in order.to(self.labels.device).split(size):  # (size,)
            yield Examples(self.inputs[indices], self.labels[indices])


def make_spirals(
    num_examples: int, generator: torch.Generator, noise: float = 0.05, turns: float = 1.5
) -> Examples:
    """Return points on two spirals that wind around each other; every other point is of class 1.

    Args:
        noise: standard deviation of the distance that a point is moved by in x and in y.
        turns: how often each spiral winds around the center, from radius 0 to radius 1.
    """
    labels = torch.arange(num_examples) % 2  # (N,): 0, 1, 0, 1, ...
    radius = torch.rand(num_examples, generator=generator).sqrt()  # the root fills the disk evenly
    angle = 2 * math.pi * turns * radius + math.pi * labels  # class 1 starts half a turn later
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)  # (N,) -> (N, F)
    points = points + noise * torch.randn(num_examples, 2, generator=generator)
    return Examples(points, labels)


def make_model(hidden_size: int = 64) -> nn.Module:
    """Return a network with two hidden layers: points (N, F) -> logits (N, C)."""
    return nn.Sequential(
        nn.Linear(2, hidden_size),  # (N, F) -> (N, H)
        nn.ReLU(),
        nn.Linear(hidden_size, hidden_size),  # (N, H) -> (N, H)
        nn.ReLU(),
        nn.Linear(hidden_size, 2),  # (N, H) -> (N, C)
    )


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


@torch.no_grad()  # nothing is learned here: no graph is needed
def evaluate(model: nn.Module, examples: Examples) -> tuple[float, float]:
    """Return the mean loss and the accuracy, the fraction of correctly classified examples."""
    model.eval()  # layers such as dropout behave differently in training
    logits = model(examples.inputs)  # (N, F) -> (N, C)
    loss = F.cross_entropy(logits, examples.labels)
    correct = logits.argmax(dim=1) == examples.labels  # (N, C) -> (N,), and (N,) == (N,)
    model.train()
    return loss.item(), correct.float().mean().item()


@dataclass(frozen=True)
class Epoch:
    """The state of a training after one pass over the training set; losses in nats per example."""

    number: int
    steps: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train_set: Examples,
    validation_set: Examples,
    num_epochs: int,
    batch_size: int,
    generator: torch.Generator,
) -> Iterator[Epoch]:
    """Train a classifier, and yield after every epoch how well it does on both sets.

    The model never learns from `validation_set`: it shows how well the model does on new examples.
    """
    steps = 0
    for number in range(1, num_epochs + 1):
        for batch in train_set.batches(batch_size, generator):
            train_step(model, optimizer, F.cross_entropy, batch.inputs, batch.labels)
            steps += 1
        yield Epoch(number, steps, *evaluate(model, train_set), *evaluate(model, validation_set))


@torch.no_grad()
def class_probabilities(model: nn.Module, points: Tensor) -> Tensor:
    """Return the probability of class 1 (N,) that the model gives to points (N, F)."""
    return model(points).softmax(dim=1)[:, 1]  # (N, C) -> (N,)


@dataclass
class Config:
    """Train a small network to tell two spirals apart, from few examples and from many."""

    output_dir: Path = Path(__file__).parent / "results"
    """Folder for everything the run writes."""
    num_examples: int = 600
    """Training examples."""
    few_examples: int = 40
    """Training examples of a first training with as many steps, which learns them by heart."""
    num_epochs: int = 60
    """Passes over the training examples; over the few as many as give the same number of steps."""
    batch_size: int = 20
    """Examples per step."""
    learning_rate: float = 0.01
    """Learning rate of AdamW."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    hidden_size: int = 64
    """Units of each hidden layer."""
    noise: float = 0.05
    """Standard deviation of the noise in the coordinates of a point."""
    turns: float = 1.5
    """How often each spiral winds around the center."""
    seed: int = 0
    """Seed of the examples, the initial weights and the order of the examples."""
    device: str = "cpu"
    """Device to train on: auto, cpu, cuda or mps."""


VALIDATION_EXAMPLES = 1000
NUM_FRAMES = 24  # of the animation
EXPECTED_ACCURACY = 0.95  # of the training with many examples


@dataclass(frozen=True)
class Training:
    """The result of a training: examples, epochs, and the class probabilities along the way."""

    train_set: Examples
    epochs: list[Epoch]
    frames: list[Tensor]  # class probabilities of the points of the drawing


def run_training(config: Config, num_examples: int, points: Tensor) -> Training:
    """Train a new model on `num_examples` examples for as many steps as on all of them.

    `points`: (N, F), for which the class probabilities are kept, before training and then at
    regular intervals.
    """
    from lab.progress import track

    # The same seed for both trainings: the same initial weights, and the few examples are the first
    # of the many. All are made on the CPU, so that they do not depend on the device.
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    all_examples = make_spirals(config.num_examples, generator, config.noise, config.turns)
    validation_set = make_spirals(VALIDATION_EXAMPLES, generator, config.noise, config.turns)
    train_set = Examples(all_examples.inputs[:num_examples], all_examples.labels[:num_examples])
    train_set, validation_set = train_set.to(points.device), validation_set.to(points.device)
    model = make_model(config.hidden_size).to(points.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )

    # As many steps as there are in all epochs over all examples.
    num_steps = config.num_epochs * math.ceil(config.num_examples / config.batch_size)
    num_epochs = max(1, num_steps // math.ceil(num_examples / config.batch_size))
    epochs: list[Epoch] = []
    frames = [class_probabilities(model, points)]
    training = train(
        model, optimizer, train_set, validation_set, num_epochs, config.batch_size, generator
    )
    for epoch in track(training, num_epochs, f"{num_examples} examples", describe):
        epochs.append(epoch)
        if len(frames) <= NUM_FRAMES * epoch.number / num_epochs:
            frames.append(class_probabilities(model, points))
    return Training(train_set, epochs, frames)


def describe(epoch: Epoch) -> str:
    """Return an epoch in a few words, for the progress bar."""
    return f"loss {epoch.train_loss:.3f}, validation {epoch.validation_loss:.3f}"


def check_config(config: Config) -> None:
    """Raise UserError, naming the flag, for a setting that makes no sense."""
    from lab.errors import UserError, require_at_least
    from lab.seeding import check_seed

    check_seed(config.seed)
    require_at_least(1, config, "num_epochs", "batch_size", "hidden_size")
    require_at_least(2, config, "few_examples")  # one of each class
    if config.few_examples > config.num_examples:
        limit = f"it must be at most --num_examples, {config.num_examples}"
        raise UserError(f"--few_examples is {config.few_examples}; {limit}")
    require_at_least(0, config, "learning_rate", "weight_decay", "noise", "turns")


def main(config: Config) -> None:
    """Train on few examples and on many; draw the losses and what the network has learned."""
    from lab.devices import one_thread, pick_device
    from lab.metrics import METRICS, write_metrics
    from lab.record import RunRecord
    from spirals_drawing import animate_boundaries, draw_boundaries, draw_losses, grid_points

    check_config(config)
    device = pick_device(config.device)
    record = RunRecord(__file__, config.output_dir, config)
    points = torch.from_numpy(grid_points()).to(device)  # (G * G, F)
    with one_thread():  # on such small tensors a second thread costs more than it saves
        few = run_training(config, config.few_examples, points)
        many = run_training(config, config.num_examples, points)

    for name, training in (("few", few), ("many", many)):
        lowest = min(epoch.validation_loss for epoch in training.epochs)
        record.results[name] = {
            "examples": len(training.train_set),
            "lowest_validation_loss": lowest,
            **asdict(training.epochs[-1]),
        }
    accuracy = many.epochs[-1].validation_accuracy
    expected = f"at least {EXPECTED_ACCURACY:g}"
    record.check("validation accuracy", round(accuracy, 3), expected, accuracy >= EXPECTED_ACCURACY)
    write_metrics(record.file(METRICS), [asdict(epoch) for epoch in many.epochs])
    panels = [panel_of(few), panel_of(many)]
    draw_losses(record.file("training_curve.png"), panels)
    draw_boundaries(record.file("decision_boundary.png"), panels)
    animate_boundaries(record.file("decision_boundary.gif"), panels)
    record.save()


def panel_of(training: Training) -> "Panel":
    """Return what is drawn of a training, as arrays."""
    from spirals_drawing import Panel

    epochs = training.epochs
    return Panel(
        inputs=training.train_set.inputs.cpu().numpy(),
        labels=training.train_set.labels.cpu().numpy(),
        probabilities=torch.stack(training.frames).cpu().numpy(),
        steps=[epoch.steps for epoch in epochs],
        train_losses=[epoch.train_loss for epoch in epochs],
        validation_losses=[epoch.validation_loss for epoch in epochs],
        accuracy=epochs[-1].validation_accuracy,
    )


if __name__ == "__main__":
    from lab.launch import launch

    launch(Config, main)
