"""The right answers of the exercises equal PyTorch's, on random input; the graders treat files as they should."""

import ast
import functools
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import autograd
import small_network
import training_loop
from first_steps_exercises import shapes, shapes_solutions, standardizing_solutions
from first_steps_exercises.error_kinds import KINDS, told_apart
from lab.exercises.cards import card, verdict_lines
from lab.exercises.catalog import exercises, find
from lab.exercises.checking import Checked, check_file
from lab.exercises.child import examine_file
from lab.exercises.diagnosis import Examiner
from lab.exercises.grading import load_grading
from lab.exercises.probes import Outcome, outcome
from lab.exercises.stubs import solution, stub
from lab.exercises.verdicts import Verdict

NUMBERS = ("O1", "O2", "O3", "O4", "O5")
seeds = pytest.mark.parametrize("seed", range(3))


def drawn(*shape: int, seed: int) -> Tensor:
    """Normal numbers (float64)."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@functools.cache
def examiner(number: str) -> Examiner:
    return Examiner(find(number), load_grading(find(number)))


def check(number: str, code: str, folder: Path) -> Verdict:
    """Check a file in this process."""
    path = folder / "answer.py"
    path.write_text(code, encoding="utf-8")
    return examine_file(find(number), examiner(number), path)


# --- right answers ----------------------------------------------------------------------------------------------------


@seeds
def test_standardize_is_batch_normalization(seed: int) -> None:
    x = 3 * drawn(7, 4, seed=seed) + 5
    close(standardizing_solutions.standardize(x), F.batch_norm(x, None, None, training=True, eps=1e-15))


@seeds
def test_sgd_step_is_the_step_of_the_optimizer(seed: int) -> None:
    mine, theirs = ([drawn(3, 2, seed=seed).requires_grad_(), drawn(2, seed=seed).requires_grad_()] for _ in range(2))
    optimizer = torch.optim.SGD(theirs, lr=0.1)
    for step in range(4):
        x = drawn(5, 3, seed=step)
        small_network.sgd_step(mine, (x @ mine[0] + mine[1]).square().mean(), 0.1)
        optimizer.zero_grad()
        (x @ theirs[0] + theirs[1]).square().mean().backward()
        optimizer.step()
        for one, other in zip(mine, theirs, strict=True):
            close(one.detach(), other.detach())


@seeds
def test_train_step_is_gradient_descent(seed: int) -> None:
    """With plain gradient descent a step of the loop is the step by hand."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    twin = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        x, y = drawn(6, 3, seed=step), drawn(6, 2, seed=step + 10)
        found = training_loop.train_step(model, optimizer, F.mse_loss, x, y)
        loss = F.mse_loss((x @ twin[0].T + twin[1]).tanh() @ twin[2].T + twin[3], y)
        small_network.sgd_step(twin, loss, 0.1)
        assert found == pytest.approx(loss.item())
        for one, other in zip(model.parameters(), twin, strict=True):
            close(one.detach(), other.detach())


@seeds
def test_shapes_equal_their_definitions(seed: int) -> None:
    x, rnn = drawn(3, 4, 2, seed=seed), nn.RNN(2, 5, dtype=torch.float64)
    close(shapes_solutions.features_first(x), torch.einsum("bte->bet", x))
    weights, rows = drawn(4, seed=seed + 1), x[0]
    close(shapes_solutions.weigh_examples(rows, weights), torch.einsum("n,nf->nf", weights, rows))
    close(shapes_solutions.make_batch(list(rows)), rows)
    close(shapes_solutions.class_probabilities(rows), rows.exp() / rows.exp().sum(-1, keepdim=True))
    close(shapes_solutions.mean_absolute_error(rows[:, :1], weights), F.l1_loss(rows[:, 0], weights))
    close(
        shapes_solutions.label_loss(rows, torch.tensor([0.0, 1, 1, 0])),
        F.cross_entropy(rows, torch.tensor([0, 1, 1, 0])),
    )
    twin = nn.RNN(2, 5, batch_first=True, dtype=torch.float64)
    twin.load_state_dict(rnn.state_dict())
    close(shapes_solutions.last_outputs(rnn, x), twin(x)[0][:, -1])
    for size in (4, 1):
        close(shapes_solutions.linear_scores(rows[:size], weights[:2, None]), rows[:size].mv(weights[:2]))


def test_the_exercise_on_backpropagation_is_the_code_of_the_lesson(tmp_path: Path) -> None:
    assert load_grading(find("O5")).right["backward"] is autograd.backward
    assert "\nfrom autograd import Value\n" in stub(find("O5"))
    path = tmp_path / "answer.py"
    path.write_text(solution(find("O5")), encoding="utf-8")
    assert check_file(find("O5"), path).verdict.status == "passed"  # in a process that must find `autograd`


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_the_first_steps_come_first() -> None:
    assert tuple(exercise.number for exercise in exercises().values())[:5] == NUMBERS
    assert [find(number).name for number in NUMBERS] == [
        "standardize",
        "sgd_step",
        "train_step",
        "features_first",
        "backward",
    ]


@pytest.mark.parametrize("number", NUMBERS)
def test_cards_fit_the_terminal(number: str, tmp_path: Path) -> None:
    exercise = find(number)
    lines = card(exercise)
    assert len(lines) <= 22
    assert max(map(len, lines)) <= 80
    checked = Checked(check(number, stub(exercise), tmp_path))
    assert checked.verdict.status == "not_started"
    lines = verdict_lines(exercise, checked)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


# --- the shape detective ----------------------------------------------------------------------------------------------

ONE_LINERS = [node for node in ast.parse(Path(shapes_solutions.__file__).read_text(encoding="utf-8")).body
              if isinstance(node, ast.FunctionDef)]  # fmt: skip
SUSPECTS = {  # function to the mistake that its suspect makes
    "features_first": "view_for_transpose",
    "weigh_examples": "unsqueeze_0",
    "make_batch": "cat",
    "class_probabilities": "softmax_over_examples",
    "mean_absolute_error": "outer",
    "label_loss": "float_labels",
    "last_outputs": "batch_as_time",
    "linear_scores": "squeeze_all",
}


MISTAKES = {
    function: [id for id, mistake in find("O4").mistakes.items() if mistake.hint.startswith(f"{function}: ")]
    for function in shapes.FUNCTIONS
}


def investigated(name: str) -> str:
    """Return a learner's file: right up to the function, whose suspect is put in, and unwritten after it."""
    right, unwritten = (text.split("\n\n\ndef ") for text in (solution(find("O4")), stub(find("O4"))))
    place = 1 + shapes.FUNCTIONS.index(name)
    *head, last = unwritten[place].splitlines()
    assert last.strip().startswith("raise NotImplementedError")
    suspect = next(line.strip().removeprefix("# Suspect: ") for line in head if "# Suspect: " in line)
    return "\n\n\ndef ".join([*right[:place], "\n".join([*head, f"    {suspect}"]), *unwritten[place + 1 :]])


@pytest.mark.parametrize("name", SUSPECTS)
def test_every_suspect_is_recognized_while_later_functions_are_unwritten(name: str, tmp_path: Path) -> None:
    verdict = check("O4", investigated(name), tmp_path)
    assert (verdict.status, verdict.mistake) == ("mistake", SUSPECTS[name])
    assert verdict.message.startswith(f"{name}: ")


def test_every_function_has_a_suspect() -> None:
    assert tuple(SUSPECTS) == shapes.FUNCTIONS == tuple(node.name for node in ONE_LINERS) == find("O4").functions
    assert sum(map(len, MISTAKES.values())) == len(find("O4").mistakes)
    assert stub(find("O4")).count("# Suspect: ") == len(SUSPECTS)


def test_the_next_function_to_write_is_named(tmp_path: Path) -> None:
    right, unwritten = (text.split("\n\n\ndef ") for text in (solution(find("O4")), stub(find("O4"))))
    verdict = check("O4", "\n\n\ndef ".join([*right[:4], *unwritten[4:]]), tmp_path)
    assert verdict.status == "not_started"
    assert "`class_probabilities`" in verdict.message


def test_a_wrong_function_is_found_wherever_it_is() -> None:
    """All functions but one are right: only probes of that one differ."""
    grading = load_grading(find("O4"))
    right = [outcome(probe, grading.right) for probe in grading.probes]
    for name in shapes.FUNCTIONS:
        answer = {**grading.right, name: lambda *_: "wrong"}
        found = [outcome(probe, answer) for probe in grading.probes]
        wrong = {probe.name.split(",")[0] for probe, a, b in zip(grading.probes, found, right, strict=True) if a != b}
        assert wrong == {name}


@pytest.mark.parametrize("seed", range(10))
def test_of_two_mistakes_the_first_is_named(seed: int) -> None:
    """In whichever functions they are."""
    exercise, rng = find("O4"), random.Random(seed)
    first, second = sorted(rng.sample(range(len(shapes.FUNCTIONS)), 2))
    grading = examiner("O4").grading
    names = [rng.choice(list(MISTAKES[shapes.FUNCTIONS[place]])) for place in (first, second)]
    one, other = (grading.build(frozenset([name])) for name in names)
    answer = {name: (one if place <= first else other)[name] for place, name in enumerate(shapes.FUNCTIONS)}
    verdict = examiner("O4").examine(answer)
    assert (verdict.status, verdict.mistake) == ("mistake", names[0])
    assert exercise.mistakes[names[0]].hint.startswith(shapes.FUNCTIONS[first])


@pytest.mark.parametrize("change", ["batch_first = True", "weight_ih_l0.requires_grad_(False)"])
def test_a_changed_network_is_a_changed_argument(change: str, tmp_path: Path) -> None:
    right = "return rnn(x.transpose(0, 1))[0][-1]"
    other = "return rnn(x)[0][:, -1]" if "batch_first" in change else right
    code = solution(find("O4"))
    assert right in code
    verdict = check("O4", code.replace(right, f"rnn.{change}\n    {other}"), tmp_path)
    assert verdict.mistake == "family:in place"
    assert verdict.message == "last_outputs: you changed `rnn` in place; work on a copy"


# --- hints that two answers share -------------------------------------------------------------------------------------

NEW_TENSORS = """
import torch

def sgd_step(parameters, loss, learning_rate):
    gradients = torch.autograd.grad(loss, parameters)
    return [parameter - learning_rate * gradient for parameter, gradient in zip(parameters, gradients)]
"""
DETACHED = """
def train_step(model, optimizer, loss_function, inputs, targets):
    loss = loss_function(model(inputs).detach(), targets).requires_grad_()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
"""


def test_a_hint_names_every_reason_that_an_answer_may_have(tmp_path: Path) -> None:
    verdict = check("O2", NEW_TENSORS, tmp_path)
    assert "zeroed between `backward` and the update, or you make new tensors" in verdict.message
    verdict = check("O3", DETACHED, tmp_path)
    assert verdict.message.startswith("`backward` is not called, or no gradient reaches the parameters")


def test_integers_of_the_wrong_size_are_called_so(tmp_path: Path) -> None:
    code = solution(find("O4")).replace("labels.long()", "labels.int()")
    assert check("O4", code, tmp_path).message.startswith("label_loss: RuntimeError (labels are not int64)")


# --- exceptions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", KINDS)
def test_exceptions_are_told_apart(text: str) -> None:
    def raises(message: str) -> Outcome:
        with pytest.raises(RuntimeError, match=re.escape(message)) as caught, told_apart():
            raise RuntimeError(message)
        return Outcome(error=type(caught.value).__name__)

    assert raises(f"a {text}").error == f"RuntimeError ({KINDS[text]})"
    assert raises("not today").error == "RuntimeError"


def test_pytorch_raises_exceptions_of_every_kind() -> None:
    gradings = [load_grading(find(number)) for number in ("O2", "O3", "O4")]
    errors = {
        outcome(probe, answer).error
        for grading in gradings
        for _, answer in grading.wrong_answers()
        for probe in grading.probes
    }
    assert {kind for kind in KINDS.values() if any(error.endswith(f"({kind})") for error in errors)} == {
        *KINDS.values()
    }


def test_an_exception_of_another_kind_is_no_known_mistake(tmp_path: Path) -> None:
    code = "def sgd_step(parameters, loss, learning_rate):\n    raise RuntimeError('not today')\n"
    verdict = check("O2", code, tmp_path)
    assert (verdict.status, verdict.message) == ("error", "RuntimeError: not today")
    assert verdict.details[0] == "line 2: raise RuntimeError('not today')"


def test_a_known_exception_keeps_the_line(tmp_path: Path) -> None:
    code = (
        "def train_step(model, optimizer, loss_function, inputs, targets):\n"
        "    total = inputs @ targets.double()[:3]\n    return total.item()\n"
    )
    verdict = check("O3", code, tmp_path)
    assert verdict.status == "error"
    assert verdict.details[:3] == (
        "line 2: total = inputs @ targets.double()[:3]", "  inputs: shape (1, 2)", "  targets: shape (1,)"
    )  # fmt: skip


def test_a_missing_kernel_of_torch_is_not_an_unwritten_exercise(tmp_path: Path) -> None:
    """`cross_entropy` raises NotImplementedError for class numbers in the place of logits."""
    code = solution(find("O3")).replace("loss_function(outputs, targets)", "loss_function(targets, outputs)")
    verdict = check("O3", code, tmp_path)
    assert (verdict.status, verdict.mistake) == ("mistake", "swapped")
