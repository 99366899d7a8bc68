"""Eight mistakes that PyTorch does not complain about: what one sees, and a check that finds each.

Every mistake is one wrong line in one part of a training; the other parts are right. A check is a
few lines that need no training: run it once, before you wait for hours.
"""

# N examples, F = 2 features, C = 2 classes, H hidden units

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training_loop import Examples, make_spirals

HIDDEN_SIZE = 64
LEARNING_RATE = 0.01
BATCH_SIZE = 50
NUM_STEPS = 400


class Classifier(nn.Module):
    """A network with two hidden layers and dropout: points (N, F) -> logits (N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(
            [nn.Linear(2, HIDDEN_SIZE), nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE)]
        )
        self.dropout = nn.Dropout(0.1)
        self.output = nn.Linear(HIDDEN_SIZE, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = self.dropout(layer(x).relu())  # (N, F) -> (N, H), then (N, H) -> (N, H)
        return self.output(x)  # (N, H) -> (N, C)


# --- the parts of a training, as they should be ---------------------------------------------------


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return an optimizer of the model's parameters."""
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)


def make_batch(examples: Examples) -> Examples:
    """Return examples that are drawn at random."""
    chosen = torch.randint(len(examples), (BATCH_SIZE,))
    return Examples(examples.inputs[chosen], examples.labels[chosen])


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Change the parameters by one step that makes the loss smaller."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def measure_accuracy(model: nn.Module, examples: Examples) -> float:
    """Return the fraction of examples that are classified correctly."""
    model.eval()
    predictions = model(examples.inputs).argmax(dim=1)  # (N, C) -> (N,)
    model.train()
    return (predictions == examples.labels).float().mean().item()


@dataclass(frozen=True)
class Parts:
    """The parts of a training; the defaults are right."""

    make_model: Callable[[], nn.Module] = Classifier
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer] = make_optimizer
    make_batch: Callable[[Examples], Examples] = make_batch
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    update: Callable[[torch.optim.Optimizer, Tensor], None] = update
    measure_accuracy: Callable[[nn.Module, Examples], float] = measure_accuracy


RIGHT = Parts()


# --- the mistakes: each a part with one wrong line ------------------------------------------------


def update_without_zero_grad(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Change the parameters by a step along the sum of all gradients so far."""
    loss.backward()  # adds to what is in `grad`
    optimizer.step()


@torch.no_grad()
def accuracy_of_all_pairs(model: nn.Module, examples: Examples) -> float:
    """Return the fraction of all pairs of a prediction and a label that are equal."""
    model.eval()
    predictions = model(examples.inputs).argmax(dim=1, keepdim=True)  # (N, C) -> (N, 1)
    model.train()
    return (predictions == examples.labels).float().mean().item()  # (N, 1) == (N,) -> (N, N)


def loss_of_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy after two softmaxes."""
    return F.cross_entropy(logits.softmax(dim=1), labels)  # it applies a softmax itself


@torch.no_grad()
def accuracy_in_training_mode(model: nn.Module, examples: Examples) -> float:
    """Return the accuracy of a model that drops units at random."""
    predictions = model(examples.inputs).argmax(dim=1)  # no `model.eval()`: dropout is on
    return (predictions == examples.labels).float().mean().item()


def optimizer_of_another_model(model: nn.Module) -> torch.optim.Optimizer:
    """Return an optimizer of parameters that nobody uses."""
    return torch.optim.AdamW(Classifier().parameters(), lr=LEARNING_RATE)  # not model.parameters()


class ClassifierWithList(Classifier):
    """A network that does not know its hidden layers, because they are in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(self.hidden)
        del self.hidden
        self.hidden = layers  # a list, not nn.ModuleList: its parameters are not the model's


def batch_shuffled_apart(examples: Examples) -> Examples:
    """Return inputs and labels that do not belong together."""
    chosen, others = torch.randint(len(examples), (2, BATCH_SIZE))  # two random choices
    return Examples(examples.inputs[chosen], examples.labels[others])


class ClassifierThatMixes(Classifier):
    """A network that transposes its inputs by a reshape: the features of examples mix."""

    def forward(self, x: Tensor) -> Tensor:
        features_first = x.reshape(
            2, -1
        )  # (N, F) -> (F, N) has the right shape; x.T has the numbers
        return super().forward(features_first.T)


# --- the checks: True if all is well --------------------------------------------------------------


def gradients_start_from_zero(parts: Parts, examples: Examples) -> bool:
    """Return True if two updates for the same loss, of which the first moved nothing, compute the
    same gradient.
    """
    model = parts.make_model().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    gradients = []
    for _ in range(2):
        parts.update(optimizer, parts.loss(model(examples.inputs), examples.labels))
        present = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
        gradients.append(torch.cat(present))  # a copy
    return torch.allclose(*gradients)


def perfect_predictions_count_as_such(parts: Parts, examples: Examples) -> bool:
    """Return True if a model that knows all labels has the accuracy 1."""
    return parts.measure_accuracy(Oracle(examples), examples) == 1.0


def sure_and_right_costs_nothing(parts: Parts, examples: Examples) -> bool:
    """Return True if a model that knows all labels, and is sure, has a loss near 0."""
    return parts.loss(Oracle(examples)(examples.inputs), examples.labels).item() < 0.01


def evaluation_repeats(parts: Parts, examples: Examples) -> bool:
    """Return True if two evaluations of the same model compute the same logits."""
    model = parts.make_model()
    outputs: list[Tensor] = []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs.append(output)

    model.register_forward_hook(note)
    for _ in range(2):
        parts.measure_accuracy(model, examples)
    return torch.equal(*outputs)


def step_moves_all_parameters(parts: Parts, examples: Examples) -> bool:
    """Return True if one update changes every parameter."""
    model = parts.make_model()
    before = [parameter.clone() for parameter in model.parameters()]
    parts.update(parts.make_optimizer(model), parts.loss(model(examples.inputs), examples.labels))
    return not any(map(torch.equal, before, model.parameters()))


def all_layers_are_known(parts: Parts, examples: Examples) -> bool:
    """Return True if the model has as many parameters as one counts by hand, in three layers."""
    sizes = ((2, HIDDEN_SIZE), (HIDDEN_SIZE, HIDDEN_SIZE), (HIDDEN_SIZE, 2))
    expected = sum(inputs * outputs + outputs for inputs, outputs in sizes)
    return sum(parameter.numel() for parameter in parts.make_model().parameters()) == expected


def examples_keep_their_labels(parts: Parts, examples: Examples) -> bool:
    """Return True if every input of a batch has the label that it has in the data."""
    batch = parts.make_batch(examples)
    same = (batch.inputs[:, None] == examples.inputs).all(dim=2)  # (N, 1, F) == (M, F) -> (N, M)
    return torch.equal(examples.labels[same.int().argmax(dim=1)], batch.labels)


def examples_do_not_mix(parts: Parts, examples: Examples) -> bool:
    """Return True if the outputs of the first example do not depend on the other examples."""
    inputs = examples.inputs.clone().requires_grad_()
    parts.make_model().eval()(inputs)[0].sum().backward()
    return inputs.grad is not None and not inputs.grad[1:].any()


class Oracle(nn.Module):
    """A model that knows the labels of the given examples and is sure of them."""

    def __init__(self, examples: Examples) -> None:
        super().__init__()
        self.logits = 100.0 * F.one_hot(examples.labels, num_classes=2)  # (N,) -> (N, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits


# --- all together ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """A mistake in one of the parts, and the check that finds it."""

    name: str
    parts: Parts
    check: Callable[[Parts, Examples], bool]


MISTAKES = (
    Mistake(
        "zero_grad is forgotten",
        replace(RIGHT, update=update_without_zero_grad),
        gradients_start_from_zero,
    ),
    Mistake(
        "(N, 1) is compared with (N,)",
        replace(RIGHT, measure_accuracy=accuracy_of_all_pairs),
        perfect_predictions_count_as_such,
    ),
    Mistake(
        "softmax before cross_entropy",
        replace(RIGHT, loss=loss_of_probabilities),
        sure_and_right_costs_nothing,
    ),
    Mistake(
        "eval() is forgotten",
        replace(RIGHT, measure_accuracy=accuracy_in_training_mode),
        evaluation_repeats,
    ),
    Mistake(
        "optimizer of another model",
        replace(RIGHT, make_optimizer=optimizer_of_another_model),
        step_moves_all_parameters,
    ),
    Mistake(
        "layers in a plain list",
        replace(RIGHT, make_model=ClassifierWithList),
        all_layers_are_known,
    ),
    Mistake(
        "inputs and labels drawn apart",
        replace(RIGHT, make_batch=batch_shuffled_apart),
        examples_keep_their_labels,
    ),
    Mistake(
        "reshape for a transpose",
        replace(RIGHT, make_model=ClassifierThatMixes),
        examples_do_not_mix,
    ),
)


def train(parts: Parts, seed: int) -> tuple[float, float]:
    """Train with the given parts; return the mean loss of the last 50 steps and the accuracy on
    new examples, as the parts measure them.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    train_set, validation_set = make_spirals(600, generator), make_spirals(1000, generator)
    model = parts.make_model()
    optimizer = parts.make_optimizer(model)
    losses = []
    for _ in range(NUM_STEPS):
        batch = parts.make_batch(train_set)
        loss = parts.loss(model(batch.inputs), batch.labels)
        parts.update(optimizer, loss)
        losses.append(loss.item())
    return sum(losses[-50:]) / 50, parts.measure_accuracy(model, validation_set)


@dataclass
class Config:
    """Make eight silent mistakes, see what comes out, and find each by a check."""

    output_dir: Path = Path(__file__).parent / "results"  # Folder for the record of the run.
    seed: int = 0  # Seed of the examples, the initial weights and the batches.


def main(config: Config) -> None:
    """Train once without a mistake and once with each; print a table, and write the record."""
    from lab.devices import one_thread
    from lab.record import RunRecord
    from lab.seeding import check_seed

    check_seed(config.seed)
    record = RunRecord(__file__, config.output_dir, config)
    examples = make_spirals(BATCH_SIZE, torch.Generator().manual_seed(config.seed))
    passed = all(mistake.check(RIGHT, examples) for mistake in MISTAKES)
    found = 0
    rows = []
    print(f"{'mistake':<30} {'loss':>6} {'accuracy':>9}  check that fails")
    trainings = [(mistake.name, mistake.parts, mistake.check) for mistake in MISTAKES]
    for name, parts, check in [("none", RIGHT, None), *trainings]:
        with one_thread():
            loss, accuracy = train(parts, config.seed)
        fails = check is not None and not check(parts, examples)
        found += fails
        shown = check.__name__ if check is not None and fails else "-"
        print(f"{name:<30} {loss:>6.3f} {accuracy:>9.1%}  {shown}")
        rows.append({"mistake": name, "loss": loss, "accuracy": accuracy, "check": shown})
    record.results["mistakes"] = rows
    expected = f"all {len(MISTAKES)}, and none without a mistake"
    record.check("mistakes found", found, expected, passed and found == len(MISTAKES))
    record.save()


if __name__ == "__main__":
    from lab.launch import launch

    launch(Config, main)
