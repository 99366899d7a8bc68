"""Inputs of `lab catch`: plain numbers and lists are read, and one that does not fit the function gets one line."""

import functools
import re
from typing import Any

import numpy as np
import pytest
import torch

from lab.exercises.catalog import find
from lab.exercises.catch import Caught, tasks
from lab.exercises.catch_child import Catcher
from lab.exercises.catch_inputs import LARGEST, MAX_NUMBERS, InvalidInputError, Numbers, Outcomes, read_inputs


@functools.cache
def catcher(name: str) -> Catcher:
    return Catcher(find(name), tasks()[name])


def examined(name: str, changes: dict[str, Any]) -> Caught:
    """The verdict on the best known input of a function, with some arguments changed."""
    task = tasks()[name]
    return catcher(name).examine(read_inputs({**task.best, **changes}, task.arguments))


GAE = tasks()["compute_gae"].best
INVALID = {
    "no dictionary": (5, "must return a dictionary"),
    "nothing": (None, "must return a dictionary of the arguments, not NoneType"),
    "missing": ({name: value for name, value in GAE.items() if name != "values"}, "returns no `values`"),
    "wrong name": ({**GAE, "gamma": 0.5}, "`gamma`, which is no argument"),
    "too few": ((1.0, 2.0), "returns 2 arguments; expected 7"),
    "another T": (
        {**GAE, "values": [[1.0] * 4]},
        r"shape \(1, 4\); expected \(T, N\) with T = 2, N = 4",
    ),
    "a vector": ({**GAE, "rewards": [1.0, 2.0]}, r"rewards has the shape \(2,\); expected \(T, N\)"),
    "ragged": ({**GAE, "rewards": [[1.0], [1.0, 2.0]]}, "rows of rewards do not all have the same length"),
    "deep": ({**GAE, "rewards": [[[[[[[[1.0]]]]]]]]}, "more than 6 dimensions"),
    "empty": ({**GAE, "rewards": []}, "rewards is empty"),
    "empty rows": ({**GAE, "rewards": [[], []]}, "rewards is empty"),
    "huge": ({**GAE, "rewards": [[0.0] * 2] * MAX_NUMBERS}, "rewards holds more than 200 numbers"),
    "long": ({**GAE, "rewards": range(10**9)}, "rewards holds more than 200 numbers"),
    "NaN": ({**GAE, "rewards": [[0.0, float("nan"), 0, 0]] * 2}, r"rewards\[0\]\[1\] is nan; only finite"),
    "infinite": ({**GAE, "discount": float("inf")}, "discount is inf; only finite"),
    "too large": ({**GAE, "rewards": [[0, 0, 0, 2 * LARGEST]] * 2}, r"rewards\[0\]\[3\] is 2000000.0; expected"),
    "a very long integer": ({**GAE, "rewards": [[0, 0, 0, 10**5000]] * 2}, "is a very large number; expected"),
    "text": ({**GAE, "rewards": [["1", 0, 0, 0]] * 2}, r"rewards\[0\]\[0\] is of type str; expected a number"),
    "flag for number": ({**GAE, "rewards": [[True, 0, 0, 0]] * 2}, r"rewards\[0\]\[0\] is True; expected a number"),
    "number for flag": ({**GAE, "truncated": [[2, 0, 0, 0]] * 2}, r"truncated\[0\]\[0\] is 2; expected True or False"),
    "list for number": ({**GAE, "discount": [0.5]}, "discount is a list; expected a number from 0 to 1"),
    "out of range": ({**GAE, "discount": 1.5}, "discount is 1.5; expected a number from 0 to 1"),
}


@pytest.mark.parametrize("label", INVALID)
def test_an_input_that_does_not_fit_gets_one_line(label: str) -> None:
    given, message = INVALID[label]
    with pytest.raises(InvalidInputError, match=message) as error:
        read_inputs(given, tasks()["compute_gae"].arguments)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("backup", {"outcomes": [(0.5, 0, 1.0, False)]}, "probabilities in outcomes sum to 0.5"),
        (
            "backup",
            {"outcomes": [(1.0, 2, 1.0, False)]},
            r"outcomes\[0\]\[1\] is 2; expected an integer from 0 to S",
        ),
        ("backup", {"outcomes": [(1.0, 0, 1.0)]}, "outcomes must be a list of"),
        ("backup", {"outcomes": []}, "outcomes has 0 entries"),
        ("embed", {"token_ids": [[0, 2]]}, r"token_ids\[0\]\[1\] is 2; expected"),
        ("embed", {"token_ids": [[0, 0.5]]}, r"token_ids\[0\]\[1\] is 0.5; expected an integer"),
        ("causal_mask", {"queries": 3, "keys": 2}, "keys is 2; expected an integer from queries to 2000"),
        ("sampling_probabilities", {"top_k": 0}, "top_k is 0; expected an integer, at least 1, or None"),
        ("value_loss", {"predictions": [[1.0, 2.0]]}, r"expected \(B,\) or \(B, 1\)"),
    ],
)
def test_inputs_of_other_kinds_are_checked(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        examined(name, changes)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("top_p_filter", {"logits": [[1.0, 1.0, 1.0, 1.0]], "p": 0.5}, "two right answers disagree .* are there ties"),
        ("softmax", {"dim": 7}, "the right answer raises IndexError"),
        ("embed", {"past": 100}, "the right answer raises IndexError"),
        ("next_token_loss", {"attention_mask": [[0, 0, 0]] * 3}, "NaN"),
        ("masked_attention", {"mask": [[True] * 5]}, "the right answer raises RuntimeError"),
    ],
)
def test_an_input_on_which_right_answers_fail_or_disagree_is_not_valid(
    name: str, changes: dict[str, Any], message: str
) -> None:
    verdict = examined(name, changes)
    assert verdict.status == "invalid"
    assert re.search(message, verdict.message)
    assert "\n" not in verdict.message
    assert verdict.caught == verdict.missed == ()


def test_tensors_arrays_and_tuples_can_stand_for_lists() -> None:
    task = tasks()["compute_gae"]
    plain = read_inputs(task.best, task.arguments)
    other = {
        **task.best,
        "rewards": torch.tensor(task.best["rewards"], dtype=torch.float32, requires_grad=True),
        "values": np.array(task.best["values"]),
        "next_values": tuple(map(tuple, task.best["next_values"])),
        "terminated": [[int(flag) for flag in row] for row in task.best["terminated"]],
        "discount": np.float64(task.best["discount"]),
    }
    assert read_inputs(other, task.arguments) == plain
    assert read_inputs(tuple(other.values()), task.arguments) == plain
    probe = catcher("compute_gae").probe(read_inputs(other, task.arguments))
    kinds = {key: value.dtype for key, value in probe.arguments().items() if hasattr(value, "dtype")}
    assert set(kinds.values()) == {torch.float64, torch.bool}
    with pytest.raises(InvalidInputError, match="more than 200"):
        read_inputs({**task.best, "rewards": torch.zeros(2000, 2000)}, task.arguments)


def test_an_argument_is_described_in_words() -> None:
    assert Numbers(float, "(T, N)").describe() == "tensor (T, N) of numbers"
    assert Numbers(float, "(A,)", tensor=False).describe() == "list (A,) of numbers"
    assert Numbers(int, "(B, T)", below="V").describe() == "tensor (B, T) of integers from 0 to V - 1"
    assert Numbers(bool).describe() == "True or False"
    assert "sum to 1" in Outcomes("S").describe()
