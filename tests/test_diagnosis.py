"""Diagnosis of wrong answers that are none of the known mistakes."""

import functools
import math
from pathlib import Path

import pytest
import torch

from lab.exercises.advice import advice
from lab.exercises.catalog import exercises, find
from lab.exercises.child import examine_file
from lab.exercises.describing import described, is_close
from lab.exercises.diagnosis import Examiner, Verdict
from lab.exercises.grading import load_grading
from lab.exercises.likeness import Deviation, likeness
from lab.exercises.probes import Array, Outcome
from lab.exercises.relations import relation
from lab.exercises.stubs import solution


@functools.cache
def examiner(name: str) -> Examiner:
    return Examiner(find(name), load_grading(find(name)))


def verdict_on(name: str, code: str, folder: Path) -> Verdict:
    path = folder / "answer.py"
    path.write_text(code, encoding="utf-8")
    return examine_file(find(name), examiner(name), path)


def wrapped(name: str, change: str) -> str:
    """Return a file that changes the result of the right answer: `change` is an expression of `result`."""
    code = solution(find(name))
    return f"{code}\nright = {name}\n\n\ndef {name}(*given):\n    result = right(*given)\n    return {change}\n"


CHANGED = {
    "three times": ("softmax", "3 * result", "family:scale", "3 times the right one"),
    "too large": ("layer_norm", "result + 2", "family:shift", "2 too large"),
    "one position late": ("embed", "result.roll(1, 1)", "family:order", "dimension 1 they stand one place too late"),
    "the wrong way round": ("layer_norm", "result.flip(-1)", "family:order", "stand"),
    "axes": ("td_errors", "result.T", "family:axis", "dimensions 0 and 1 have changed places"),
    "a dimension": ("softmax", "result[..., None]", "family:shape", "dimension of size 1 is too many"),
    "a list": ("layer_norm", "result.tolist()", "family:type", "not their type"),
}


@pytest.mark.parametrize("label", CHANGED)
def test_a_result_related_to_the_right_one_is_put_in_words(label: str, tmp_path: Path) -> None:
    name, change, mistake, words = CHANGED[label]
    verdict = verdict_on(name, wrapped(name, change), tmp_path)
    assert verdict.mistake == mistake
    assert words in verdict.message
    assert any(line.startswith("Input: ") for line in verdict.details)


def tensor(shape: tuple[int, ...], *values: float) -> Outcome:
    return Outcome(Array("tensor", "float64", shape, values))


def test_a_relation_must_hold_on_every_probe_and_show_in_enough_numbers() -> None:
    right, turned = tensor((3,), 1.0, 2.0, 4.0), tensor((3,), 4.0, 2.0, 1.0)
    assert relation([(turned, right)], []) == (
        "order",
        "the numbers are right, but along dimension 0 they stand the wrong way round",
    )
    assert relation([(turned, right), (tensor((3,), 1.0, 2.0, 5.0), right)], []) is None
    assert relation([(tensor((2,), 2.0, 1.0), tensor((2,), 1.0, 2.0))], []) is None
    doubled = tensor((3,), 2.0, 4.0, 8.0)
    assert relation([(doubled, right)], []) == ("scale", "every number is 2 times the right one")
    assert relation([(doubled, right)], [(right, right)]) is None
    assert relation([(Outcome(error="ValueError"), right)], []) is None


def test_likeness_counts_places_direction_and_equal_numbers() -> None:
    one = Deviation("", (3.0, 5.0, 1.0), (1.0, 2.0, 0.0))
    assert likeness([one, None], [one, None]) == pytest.approx(1.0)
    assert likeness([one, None], [None, one]) == 0.0
    other_way = Deviation("", (1.0, 1.0, 1.0), (-1.0, -2.0, 0.0))
    longer = Deviation("", (4.0, 7.0, 1.0), (2.0, 4.0, 0.0))
    assert likeness([one], [other_way]) == pytest.approx(0.3)
    assert likeness([one], [longer]) == pytest.approx(0.7)
    assert likeness([Deviation("KeyError: #")], [one]) == 0.0
    later = iter([None, None, one])
    assert likeness([one, one, None], later, least=0.5) == 0.0
    assert next(later) is one  # was not asked for


UNKNOWN = {
    "the input is emptied": (
        "discounted_return",
        "def discounted_return(rewards, gamma):\n    g = 0.0\n    while rewards:\n"
        "        g = rewards.pop() + gamma * g\n    return g\n",
        ("wrong", "family:in place", "changed `rewards` in place"),
    ),
    "a mask is subtracted": (
        "td_errors",
        "def td_errors(rewards, values, next_values, terminated, truncated, discount):\n"
        "    return (1 - terminated) * discount * next_values + rewards - values\n",
        ("mistake", "bool_subtracted", "invert it with ~"),
    ),
    "a maximum is a pair": (
        "softmax",
        "def softmax(x, dim):\n    e = (x - x.max(dim, keepdim=True)).exp()\n    return e / e.sum(dim, keepdim=True)\n",
        ("mistake", "max_as_pair", "take .values"),
    ),
    "an exception that known mistakes raise too": (
        "td_errors",
        "def td_errors(rewards, values, next_values, terminated, truncated, discount):\n"
        "    return rewards[:, :, None].expand(2, 3) - values\n",
        ("error", None, "RuntimeError: "),
    ),
    "another error of the same class": (
        "ppo_epochs",
        solution(find("ppo_epochs")).replace("order.tensor_split(num_minibatches)", "order.view(num_minibatches, -1)"),
        ("error", None, "new sizes must multiply"),
    ),
}


def test_the_card_shows_only_what_is_wrong(tmp_path: Path) -> None:
    """In place: the change, not the divisor N - 1, which is right too. Another type: no number."""
    in_place = "def standardize(x):\n    x -= x.mean(0)\n    x /= x.std(0)\n    return x\n"
    details = verdict_on("standardize", in_place, tmp_path).details
    assert "  changed   x, an argument" in details
    assert not any("difference" in line for line in details)
    double = "def standardize(x):\n    return ((x - x.mean(0)) / x.std(0, correction=0)).double()\n"
    verdict = verdict_on("standardize", double, tmp_path)
    assert "float64" in verdict.message
    assert not any("difference" in line for line in verdict.details)


@pytest.mark.parametrize("label", UNKNOWN)
def test_an_unknown_mistake_gets_its_kind_only_if_that_is_certain(label: str, tmp_path: Path) -> None:
    name, code, (status, mistake, words) = UNKNOWN[label]
    verdict = verdict_on(name, code, tmp_path)
    assert (verdict.status, verdict.mistake) == (status, mistake)
    assert words in verdict.message


EXPLAINED = {
    "a mean": ("layer_norm", "right(x, weight.mean(), bias, eps)", "another `weight`: only its mean"),
    "a number": (
        "embed",
        "right(token_ids[:1].expand_as(token_ids), *others)",
        "another `token_ids`: only its first row",
    ),
    "a list": ("td_target", "right(reward, [abs(v) for v in next_values], *others)", "`next_values`: without its sign"),
}
PARAMETERS = {
    "layer_norm": "x, weight, bias, eps",
    "embed": "token_ids, *others",
    "td_target": "reward, next_values, *others",
}


@pytest.mark.parametrize("label", EXPLAINED)
def test_a_changed_argument_explains_a_result(label: str, tmp_path: Path) -> None:
    name, call, words = EXPLAINED[label]
    code = f"{solution(find(name))}\nright = {name}\n\n\ndef {name}({PARAMETERS[name]}):\n    return {call}\n"
    verdict = verdict_on(name, code, tmp_path)
    assert verdict.mistake == "family:argument"
    assert words in verdict.message


def test_a_relative_of_a_known_mistake_gets_its_question(tmp_path: Path) -> None:
    code = (
        "def embed(token_ids, token_table, position_table, past):\n"
        "    end = past + 2 + token_ids.shape[1]\n"
        "    return token_table[token_ids] + position_table[past + 2 : end]\n"
    )
    verdict = verdict_on("embed", code, tmp_path)
    assert verdict.mistake == "family:start"
    assert verdict.message.endswith("?")


def test_numbers_that_are_far_from_each_other_are_not_close() -> None:
    assert is_close(math.nan, math.nan)
    assert is_close(1.0, 1.0 + 1e-12)
    assert not is_close(-math.inf, 3.0)
    assert not is_close(None, 3.0)


def kinds_of_mistakes_left_out(name: str) -> list[tuple[str, str]]:
    """Return the family of every mistake, and the one that is found where the mistake itself is not known."""
    found = []
    exercise, judge = find(name), examiner(name)
    known = dict(judge.wrong)
    for id, outcomes in known.items():
        judge.wrong = {other: each for other, each in known.items() if other != id}
        like = judge.like(outcomes)
        if like is not None:
            found.append((exercise.mistakes[id].family, like.family))
    judge.wrong = known
    return found


def test_most_kinds_that_are_found_for_left_out_mistakes_are_right() -> None:
    names = [name for name, exercise in exercises().items() if exercise.needs_torch and name != "ppo_epochs"]
    found = [pair for name in names for pair in kinds_of_mistakes_left_out(name)]
    right = [one == other for one, other in found]
    assert len(found) > 100
    assert sum(right) / len(right) > 0.85


EXCEPTIONS = {
    "invert a mask with ~": lambda: 1 - torch.tensor([True]),
    "take .values": lambda: torch.ones(2) - torch.ones(2, 2).max(0),  # pyright: ignore
    "take reshape": lambda: torch.ones(2, 3).T.view(6),
    "is one to be transposed": lambda: torch.ones(2, 3) @ torch.ones(2, 3),
    "lined up from the last": lambda: torch.ones(2) + torch.ones(3),
    "`cat` makes one longer": lambda: torch.stack([torch.ones(2), torch.ones(3)]),
    "torch.where": lambda: bool(torch.ones(2) > 0),
    "use .long()": lambda: torch.ones(2)[torch.ones(2)],
    "no gradient flows": lambda: torch.ones(()).backward(),
    "whatever their number": lambda: torch.ones(2).mean(1),
}


@pytest.mark.parametrize("words", EXCEPTIONS)
def test_exceptions_of_pytorch_get_advice(words: str) -> None:
    with pytest.raises((RuntimeError, TypeError, IndexError)) as caught:
        EXCEPTIONS[words]()
    assert words in advice(described(caught.value))
