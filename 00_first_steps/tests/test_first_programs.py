"""The programs of the lesson: what they claim, what they write, and what they refuse."""

import ast
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pretended_device import pretended_gpu
from torch import nn

import debugging
import small_network
import spirals_drawing
import tensors
import training_loop
from lab.exercises.catalog import find
from lab.exercises.stubs import solution
from lab.launch import launch


def run(name: str, folder: Path, *flags: str) -> dict[str, Any]:
    """Run a program of the lesson, and return its record."""
    module = importlib.import_module(name)
    launch(module.Config, module.main, ["--output_dir", str(folder), *flags])
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


# --- tensors ----------------------------------------------------------------------------------------------------------


def test_every_claim_about_tensors_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = run("tensors", tmp_path)
    (figure,) = record["figures"]
    assert figure["ok"]
    assert figure["value"] == capsys.readouterr().out.count("`") / 2 > 40


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_claims_about_devices_hold_on_a_gpu() -> None:
    assert tensors.show(tensors.devices(torch.device("cuda"))) == 7


def test_a_false_claim_is_an_error() -> None:
    def false_claim() -> Iterator[tuple[str, Any, Any]]:
        yield "Half of it: `x / 2`", torch.tensor([2.0]) / 2, [1.5]

    with pytest.raises(AssertionError, match=r"Half of it: `x / 2` gives \[1.0\], not \[1.5\]"):
        tensors.show(false_claim())


def claims() -> list[ast.Tuple]:
    tree = ast.parse(Path(tensors.__file__).read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple)]


def test_the_printed_code_is_the_code_that_runs() -> None:
    assert len(claims()) > 40
    for claim in claims():
        sentence, code, _ = claim.elts
        assert isinstance(sentence, ast.Constant)
        printed = str(sentence.value).split("`")[1]
        if isinstance(code, ast.Call) and ast.unparse(code.func) == "error_of":
            assert isinstance(code.args[0], ast.Lambda)
            code = code.args[0].body
        assert ast.unparse(ast.parse(printed)) == ast.unparse(code)


# --- the small network ------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), hidden_size=st.integers(1, 6))
def test_both_networks_have_the_same_gradients(seed: int, hidden_size: int) -> None:
    scalars = small_network.ScalarNetwork(hidden_size, seed)
    tensors = small_network.TensorNetwork(scalars)
    assert len(scalars.parameters()) == sum(each.numel() for each in tensors.parameters()) == 4 * hidden_size + 1
    for _ in range(3):
        expected = tensors.gradients()
        assert scalars.step(0.1) == pytest.approx(tensors.step(0.1), rel=1e-9)
        gradients = [parameter.grad for parameter in scalars.parameters()]
        assert gradients == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_initial_weights_are_uniform_between_minus_one_and_one_and_biases_zero() -> None:
    network = small_network.ScalarNetwork(500, seed=0)
    for weights in ([weight for unit in network.hidden_weights for weight in unit], network.output_weights):
        numbers = np.array([weight.data for weight in weights])
        assert -1 <= numbers.min() < -0.95 < 0.95 < numbers.max() <= 1
        assert abs(numbers.mean()) < 0.1
        assert numbers.std() == pytest.approx(3**-0.5, rel=0.1)
    assert {bias.data for bias in (*network.hidden_biases, network.output_bias)} == {0.0}


def test_the_network_of_tensors_is_the_one_of_pytorch() -> None:
    network = small_network.TensorNetwork(small_network.ScalarNetwork(5, seed=1))
    theirs = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    for parameter, value in zip(theirs.parameters(), network.parameters(), strict=True):
        parameter.data.copy_(value.detach().reshape(parameter.shape))
    x = torch.randn(7, 2, dtype=torch.float64)
    torch.testing.assert_close(network.outputs(x), theirs(x).squeeze(1))


@pytest.mark.parametrize("seed", range(10))
def test_it_learns_xor(seed: int, tmp_path: Path) -> None:
    record = run("small_network", tmp_path, "--seed", str(seed))
    assert all(figure["ok"] for figure in record["figures"])
    network = small_network.ScalarNetwork(8, seed)
    assert network.loss().data > 0.1  # before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--learning_rate", "1e9"), "--learning_rate 1000000000.0 is too large: step"),
        (("--learning_rate", "nan"), "--learning_rate is nan; it must be finite and at least 0"),
        (("--num_steps", "0"), "--num_steps is 0; it must be at least 1"),
        (("--hidden_size", "-1"), "--hidden_size is -1; it must be at least 1"),
        (("--seed", "-1"), "--seed is -1"),
    ],
)
def test_the_small_network_refuses(flags: tuple[str, ...], words: str, tmp_path: Path, capsys: Any) -> None:
    refused("small_network", flags, words, tmp_path, capsys)


def refused(name: str, flags: tuple[str, ...], words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that a program refuses its flags in one line and writes nothing."""
    with pytest.raises(SystemExit) as stopped:
        run(name, folder, *flags)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert list(folder.iterdir()) == []


# --- the training loop ------------------------------------------------------------------------------------------------


def test_spirals_are_as_described() -> None:
    examples = training_loop.make_spirals(2001, torch.Generator().manual_seed(0), noise=0.0, turns=2.0)
    assert (examples.inputs.shape, examples.inputs.dtype) == ((2001, 2), torch.float32)
    assert examples.labels.bincount().tolist() == [1001, 1000]
    radius = examples.inputs.norm(dim=1)
    assert 0 <= radius.min() < 0.1
    assert 0.98 < radius.max() <= 1
    assert (radius < 0.5).float().mean().item() == pytest.approx(0.25, abs=0.04)  # a quarter of the disk
    angle = 4 * torch.pi * radius + torch.pi * examples.labels
    torch.testing.assert_close(examples.inputs[:, 0], radius * angle.cos(), atol=1e-5, rtol=0)
    torch.testing.assert_close(examples.inputs[:, 1], radius * angle.sin(), atol=1e-5, rtol=0)
    noisy = training_loop.make_spirals(2001, torch.Generator().manual_seed(0), noise=0.1, turns=2.0)
    assert (noisy.inputs - examples.inputs).std().item() == pytest.approx(0.1, rel=0.05)


@given(num_examples=st.integers(1, 50), size=st.integers(1, 60))
def test_the_batches_of_an_epoch_hold_every_example_once(num_examples: int, size: int) -> None:
    examples = training_loop.Examples(torch.arange(2.0 * num_examples).view(-1, 2), torch.arange(num_examples))
    batches = list(examples.batches(size, torch.Generator().manual_seed(0)))
    assert {len(batch) for batch in batches[:-1]} <= {size}
    assert len(batches) == -(-num_examples // size)
    labels = torch.cat([batch.labels for batch in batches])
    assert labels.sort().values.tolist() == list(range(num_examples))
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), examples.inputs[labels])


def test_the_order_of_the_examples_differs_between_epochs() -> None:
    examples = training_loop.make_spirals(100, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    first, second = (next(examples.batches(100, generator)) for _ in range(2))
    assert not torch.equal(first.inputs, second.inputs)


def test_training_equals_a_loop_by_hand() -> None:
    """With plain SGD on batches of all examples; and the validation set is only looked at."""
    generator = torch.Generator().manual_seed(0)
    train_set, validation_set = training_loop.make_spirals(30, generator), training_loop.make_spirals(20, generator)
    model, twin = training_loop.make_model(8).double(), training_loop.make_model(8).double()
    twin.load_state_dict(model.state_dict())
    train_set = training_loop.Examples(train_set.inputs.double(), train_set.labels)
    validation_set = training_loop.Examples(validation_set.inputs.double(), validation_set.labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for epoch in training_loop.train(model, optimizer, train_set, validation_set, 4, 30, generator):
        loss = F.cross_entropy(twin(train_set.inputs), train_set.labels)
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
                parameter -= 0.5 * gradient
            logits = twin(validation_set.inputs)
        assert epoch.steps == epoch.number
        assert epoch.train_loss == pytest.approx(F.cross_entropy(twin(train_set.inputs), train_set.labels).item())
        assert epoch.validation_loss == pytest.approx(F.cross_entropy(logits, validation_set.labels).item())
        assert epoch.validation_accuracy == (logits.argmax(1) == validation_set.labels).float().mean().item()
    for parameter, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected)


def test_evaluation_switches_dropout_off_and_on_again() -> None:
    model = nn.Sequential(nn.Linear(2, 50), nn.Dropout(0.5), nn.Linear(50, 2))
    examples = training_loop.make_spirals(20, torch.Generator().manual_seed(0))
    assert training_loop.evaluate(model, examples) == training_loop.evaluate(model, examples)
    assert model.training


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 11))])
def test_few_examples_are_learned_by_heart_and_many_generalize(seed: int) -> None:
    config = training_loop.Config(seed=seed)
    points = torch.zeros(1, 2)
    few = training_loop.run_training(config, config.few_examples, points)
    many = training_loop.run_training(config, config.num_examples, points)
    assert few.epochs[-1].steps == many.epochs[-1].steps
    assert torch.equal(few.train_set.inputs, many.train_set.inputs[: config.few_examples])
    assert few.epochs[-1].train_accuracy == 1.0
    lowest = min(epoch.validation_loss for epoch in few.epochs)
    assert few.epochs[-1].validation_loss > 1.5 * lowest
    assert few.epochs[-1].validation_accuracy < many.epochs[-1].validation_accuracy
    assert many.epochs[-1].validation_accuracy >= training_loop.EXPECTED_ACCURACY
    assert len(few.frames) == len(many.frames) == training_loop.NUM_FRAMES + 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_changes_do_what_the_lesson_says(seed: int) -> None:
    """The table "Change it" of the README."""
    points = torch.from_numpy(spirals_drawing.grid_points())

    def rise(epochs: Any) -> float:
        return epochs[-1].validation_loss / min(epoch.validation_loss for epoch in epochs)

    def epochs_of(name: str, **changes: Any) -> Any:
        config = training_loop.Config(seed=seed, **changes)
        return training_loop.run_training(config, getattr(config, name), points).epochs

    few, many = epochs_of("few_examples"), epochs_of("num_examples")
    assert many[-1].validation_accuracy > 0.95
    more = epochs_of("few_examples", few_examples=100)
    assert 1.1 < rise(more) < rise(few)
    assert rise(epochs_of("few_examples", weight_decay=0.3)) < 0.7 * rise(few)
    assert epochs_of("num_examples", weight_decay=0.3)[-1].validation_loss > 2 * many[-1].validation_loss
    assert epochs_of("few_examples", learning_rate=0.1)[-1].train_accuracy == 1
    assert epochs_of("num_examples", learning_rate=0.1)[-1].train_loss > 5 * many[-1].train_loss
    assert epochs_of("num_examples", learning_rate=1e-4)[-1].train_loss > 0.4
    assert epochs_of("num_examples", hidden_size=4)[-1].train_accuracy < 0.85
    assert epochs_of("num_examples", turns=3.0)[-1].validation_accuracy < 0.85


SMALL = ("--num_epochs", "4", "--num_examples", "40", "--few_examples", "20", "--hidden_size", "8")


def test_a_run_writes_its_files(tmp_path: Path) -> None:
    record = run("training_loop", tmp_path, *SMALL)
    files = {
        "metrics.csv",
        "training_curve.png",
        "decision_boundary.png",
        "decision_boundary.gif",
        "training_loop.json",
    }
    assert set(record["files"]) == {path.name for path in tmp_path.iterdir()} == files
    assert record["results"]["few"]["examples"] == 20
    assert record["results"]["few"]["steps"] == record["results"]["many"]["steps"] == 8
    (check,) = record["figures"]
    assert not check["ok"]  # so little training is not enough, and the run says so
    with Image.open(tmp_path / "decision_boundary.gif") as animation:
        assert animation.n_frames > 2  # pyright: ignore[reportAttributeAccessIssue]


def test_two_runs_with_one_seed_are_equal(tmp_path: Path) -> None:
    first, second = (run("training_loop", tmp_path / name, *SMALL)["results"] for name in "ab")
    assert first == second != run("training_loop", tmp_path / "c", *SMALL, "--seed", "1")["results"]


def test_a_run_on_a_gpu_equals_that_on_the_cpu(tmp_path: Path) -> None:
    expected = run("training_loop", tmp_path / "cpu", *SMALL)["results"]
    with pretended_gpu():
        assert run("training_loop", tmp_path / "gpu", *SMALL, "--device", "cuda")["results"] == expected


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_learns_on_a_gpu(tmp_path: Path) -> None:
    assert run("training_loop", tmp_path, "--device", "cuda")["figures"][0]["ok"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--num_epochs", "0"), "--num_epochs is 0; it must be at least 1"),
        (("--batch_size", "0"), "--batch_size is 0; it must be at least 1"),
        (("--few_examples", "1"), "--few_examples is 1; it must be at least 2"),
        (("--num_examples", "39"), "--few_examples is 40; it must be at most --num_examples, 39"),
        (("--few_examples", "601"), "--few_examples is 601; it must be at most --num_examples, 600"),
        (("--noise", "-0.1"), "--noise is -0.1; it must be at least 0"),
        (("--learning_rate", "inf"), "--learning_rate is inf; it must be finite and at least 0"),
        (("--device", "gpu"), "--device gpu: unknown device"),
        (("--seed", "-1"), "--seed is -1"),
    ],
)
def test_the_training_refuses(flags: tuple[str, ...], words: str, tmp_path: Path, capsys: Any) -> None:
    refused("training_loop", flags, words, tmp_path, capsys)


# --- drawings ---------------------------------------------------------------------------------------------------------


def test_the_grid_starts_at_the_top_left() -> None:
    points = spirals_drawing.grid_points()
    size, end = spirals_drawing.GRID, spirals_drawing.EXTENT * (1 - 1 / spirals_drawing.GRID)
    assert points.shape == (size**2, 2)
    np.testing.assert_allclose(points[[0, size - 1, -1]], [[-end, end], [end, end], [end, -end]], rtol=1e-6)


def test_the_classes_have_their_colors_on_their_sides() -> None:
    points = spirals_drawing.grid_points()
    upper = (points[:, 1] > 0).astype(np.float32)  # class 1 is surely above
    nothing = np.zeros((0, 2), dtype=np.float32)
    panel = spirals_drawing.Panel(nothing, nothing[:, 0].astype(np.int64), upper[None], [1], [1.0], [1.0], 1.0)
    image = np.asarray(spirals_drawing.boundary(panel, 0, 100)).astype(int)
    assert image.shape == (100, 100, 3)
    assert image[10, 50, 0] > image[10, 50, 2]  # orange
    assert image[90, 50, 0] < image[90, 50, 2]  # blue


# --- debugging --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", debugging.MISTAKES, ids=lambda mistake: mistake.name)
@pytest.mark.parametrize("seed", range(5))
def test_the_check_finds_its_mistake_and_nothing_else(mistake: debugging.Mistake, seed: int) -> None:
    torch.manual_seed(seed)
    examples = training_loop.make_spirals(20 + seed, torch.Generator().manual_seed(seed))
    assert mistake.check(debugging.RIGHT, examples)
    assert not mistake.check(mistake.parts, examples)
    failing = [other.name for other in debugging.MISTAKES if not other.check(mistake.parts, examples)]
    assert failing == [mistake.name]


def test_the_symptoms_are_those_of_the_lesson(tmp_path: Path) -> None:
    record = run("debugging", tmp_path, "--seed", "1")
    assert record["figures"][0]["ok"]
    rows = {row["mistake"]: row for row in record["results"]["mistakes"]}
    right = rows["none"]
    assert right["accuracy"] > 0.95
    assert rows["(N, 1) is compared with (N,)"]["accuracy"] == pytest.approx(0.5, abs=0.02)
    assert rows["(N, 1) is compared with (N,)"]["loss"] == right["loss"]
    assert rows["softmax before cross_entropy"]["loss"] > 0.313  # ln(1 + 1/e), of two sure classes
    assert rows["eval() is forgotten"]["accuracy"] < right["accuracy"]
    assert rows["optimizer of another model"]["loss"] == pytest.approx(0.7, abs=0.05)
    for name in ("zero_grad is forgotten", "layers in a plain list"):
        assert rows[name]["loss"] > 3 * right["loss"]
    for name in ("inputs and labels drawn apart", "reshape for a transpose"):
        assert rows[name]["accuracy"] == pytest.approx(0.5, abs=0.05)


def test_every_mistake_changes_one_part() -> None:
    for mistake in debugging.MISTAKES:
        parts = vars(mistake.parts)
        assert sum(parts[name] is not right for name, right in vars(debugging.RIGHT).items()) == 1
    assert len({mistake.check for mistake in debugging.MISTAKES}) == len(debugging.MISTAKES) == 8


def test_debugging_refuses_a_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused("debugging", ("--seed", "-1"), "--seed is -1", tmp_path, capsys)


# --- a learner's own functions ----------------------------------------------------------------------------------------


STEP = """
def train_step(model, optimizer, loss_function, inputs, targets):
    return loss_function(model(inputs), targets).item()  # learns nothing
"""


def test_a_learners_step_trains_the_network(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(STEP, encoding="utf-8")
    record = run("training_loop", tmp_path / "out", *SMALL, "--with", str(own))
    assert (record["own_functions"][0]["function"], record["own_functions"][0]["calls"]) == ("train_step", 16)
    few, many = record["results"]["few"], record["results"]["many"]
    assert few["validation_loss"] == few["lowest_validation_loss"] == many["validation_loss"]  # nothing was learned


@pytest.mark.parametrize("name", ["backward", "sgd_step"])
def test_a_learners_gradients_train_the_small_network(name: str, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(solution(find(name)), encoding="utf-8")
    record = run("small_network", tmp_path / "out", "--with", str(own))
    assert all(figure["ok"] for figure in record["figures"])
    assert record["own_functions"][0]["calls"] == 300


STEPS = {
    "without `grad`": (
        """
def sgd_step(parameters, loss, learning_rate):
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients):
            parameter -= learning_rate * gradient
""",
        True,
    ),
    "zeroes after the step": (
        """
def sgd_step(parameters, loss, learning_rate):
    loss.backward()
    with torch.no_grad():
        for parameter in parameters:
            parameter -= learning_rate * parameter.grad
            parameter.grad.zero_()
""",
        True,
    ),
    "never zeroes": (
        """
def sgd_step(parameters, loss, learning_rate):
    loss.backward()
    with torch.no_grad():
        for parameter in parameters:
            parameter -= learning_rate * parameter.grad
""",
        False,
    ),
}


@pytest.mark.parametrize("label", STEPS)
def test_the_small_network_shows_whether_a_learners_step_is_right(label: str, tmp_path: Path) -> None:
    """Whatever it leaves in `grad`."""
    code, is_right = STEPS[label]
    own = tmp_path / "mine.py"
    own.write_text(f"import torch\n{code}", encoding="utf-8")
    record = run("small_network", tmp_path / "out", "--with", str(own))
    assert record["figures"][0]["name"] == "largest difference of a gradient"
    assert record["figures"][0]["ok"] is is_right
