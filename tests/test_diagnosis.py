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
from lab.exercises.diagnosis import Examiner
from lab.exercises.grading import load_grading
from lab.exercises.likeness import Deviation, likeness
from lab.exercises.probes import Array, Outcome
from lab.exercises.relations import relation
from lab.exercises.stubs import solution
from lab.exercises.verdicts import Verdict


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
    "`reshape` copies": lambda: torch.ones(2, 3).T.view(6),
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


BLOCK = (
    "def transformer_block(x, attention, feed_forward, norm1, norm2, norm_first):\n    x = x.detach()\n"
    "    for sublayer, norm in ((attention, norm1), (feed_forward, norm2)):\n"
    "        x = x + sublayer(norm(x)) if norm_first else norm(x + sublayer(x))\n    return x\n"
)
LOSS = (
    "import torch\nimport torch.nn.functional as F\n\n\ndef next_token_loss(logits, token_ids, attention_mask):\n"
    "    counted = attention_mask[:, 1:].bool()\n"
    "    return F.cross_entropy(logits[:, :-1][counted], token_ids[:, 1:][counted])"
)
ATTENTION = (
    "def attention(query, key, value):\n    scores = query @ key.mT / query.shape[-1] ** 0.5\n"
    "    weights = scores.softmax(-1).detach()\n    return weights @ value, weights\n"
)
LOG_PROB = (
    "from torch.distributions import Normal\n\n\ndef log_prob(mean, log_std, action):\n"
    "    return Normal(mean.detach(), log_std.exp()).log_prob(action).sum(-1)\n"
)
CUT_OFF = {
    "a number": ("next_token_loss", f"{LOSS}.item()\n"),
    "detached": ("next_token_loss", f"{LOSS}.detach()\n"),
    "NumPy": ("next_token_loss", f"{LOSS}.detach().numpy()\n"),
    "the log-density": ("log_prob", wrapped("log_prob", "result.detach()")),
    "the mean alone": ("log_prob", LOG_PROB),
    "softmax": ("softmax", "def softmax(x, dim):\n    return x.detach().softmax(dim)\n"),
    "through NumPy": (
        "softmax",
        "import torch\n\n\ndef softmax(x, dim):\n    return torch.from_numpy(x.numpy()).softmax(dim)\n",
    ),
    "both results": ("attention", wrapped("attention", "[each.detach() for each in result]")),
    "the weights": ("attention", ATTENTION),
    "masked": ("masked_attention", wrapped("masked_attention", "[each.detach() for each in result]")),
    "a norm": ("layer_norm", wrapped("layer_norm", "result.detach()")),
    "the statistics": (
        "layer_norm",
        "def layer_norm(x, weight, bias, eps):\n    mean = x.mean(-1, keepdim=True).detach()\n"
        "    var = x.var(-1, correction=0, keepdim=True).detach()\n"
        "    return (x - mean) / (var + eps).sqrt() * weight + bias\n",
    ),
    "a block": ("transformer_block", BLOCK),
    "embeddings": ("embed", wrapped("embed", "result.detach()")),
    "heads": ("split_heads", wrapped("split_heads", "result.detach()")),
}


@pytest.mark.parametrize("label", CUT_OFF)
def test_right_numbers_without_a_gradient_pass_with_a_remark(label: str, tmp_path: Path) -> None:
    name, code = CUT_OFF[label]
    verdict = verdict_on(name, code, tmp_path)
    assert (verdict.status, verdict.mistake) == ("passed", None)
    assert verdict.message.startswith(f"{name} is right; but no gradient, or a wrong one, flows back through {name}")


@pytest.mark.parametrize("label", CUT_OFF)
def test_with_a_gradient_there_is_no_remark(label: str, tmp_path: Path) -> None:
    name, _ = CUT_OFF[label]
    assert verdict_on(name, solution(find(name)), tmp_path).message == f"{name} is right"


def test_another_mistake_of_a_plain_number_is_named(tmp_path: Path) -> None:
    code = f"{LOSS}.item()\n".replace("logits[:, :-1]", "logits[:, 1:]").replace(
        "token_ids[:, 1:]", "token_ids[:, :-1]"
    )
    code = code.replace("attention_mask[:, 1:]", "attention_mask[:, :-1]")
    assert verdict_on("next_token_loss", code, tmp_path).mistake == "shift_backwards"


def test_a_loss_without_the_case_of_no_clip_ratio_passes_with_a_remark(tmp_path: Path) -> None:
    code = (
        "import torch\n\n\ndef policy_loss(log_probs, old_log_probs, advantages, clip_ratio):\n"
        "    ratio = (log_probs - old_log_probs).exp()\n"
        "    clipped = ratio.clamp(1.0 - clip_ratio, 1.0 + clip_ratio)\n"
        "    return -torch.min(ratio * advantages, clipped * advantages).mean()\n"
    )
    verdict = verdict_on("policy_loss", code, tmp_path)
    assert verdict.status == "passed"
    assert "may also be None" in verdict.message


def test_attention_may_return_weights_without_a_gradient(tmp_path: Path) -> None:
    """They are looked at, not trained; the output needs the gradient."""
    code = wrapped("attention", "(result[0], result[1].detach())")
    assert verdict_on("attention", code, tmp_path).message == "attention is right"


SPLIT = "def split_heads(x, num_heads):\n    B, T, E = x.shape\n    return "
MERGE = "\n\n\ndef merge_heads(x):\n    "
STUB = MERGE + 'raise NotImplementedError("write your code here, and remove this line")\n'
HEADS = {
    "a view, and a merge": ("x.view(B, num_heads, T, -1)", MERGE + "return x.flatten(2)\n", "split_by_view"),
    "a view, and a stub": ("x.view(B, num_heads, T, -1)", STUB, "split_by_view"),
    "a reshape, and a stub": ("x.reshape(B, num_heads, T, -1)", STUB, "split_view"),
    "not transposed": ("x.view(B, T, num_heads, -1)", MERGE + "return x.flatten(2)\n", "split_not_transposed"),
    "right, and a stub": ("x.unflatten(-1, (num_heads, -1)).transpose(1, 2)", STUB, None),
}


@pytest.mark.parametrize("label", HEADS)
def test_of_several_functions_the_first_wrong_one_is_judged(label: str, tmp_path: Path) -> None:
    split, merge, mistake = HEADS[label]
    verdict = verdict_on("split_heads", SPLIT + split + merge, tmp_path)
    assert verdict.mistake == mistake
    if mistake is None:
        assert (verdict.status, "`merge_heads`" in verdict.message) == ("not_started", True)


SEVERAL = {
    "axes": ("split_heads", wrapped("split_heads", "result.mT"), "split_heads: the result has the shape"),
    "in place": (
        "features_first",
        solution(find("features_first"))
        + "\n\ndef weigh_examples(x, weights):\n    x *= weights[:, None]\n    return x\n",
        "weigh_examples: you changed `x` in place",
    ),
    "length": (
        "merge_pair",
        solution(find("merge_pair")).replace("256 + number", "number"),
        "bpe_encode: the result must have",
    ),
}


@pytest.mark.parametrize("label", SEVERAL)
def test_of_several_functions_the_message_names_the_wrong_one(label: str, tmp_path: Path) -> None:
    name, code, start = SEVERAL[label]
    assert verdict_on(name, code, tmp_path).message.startswith(start)


def test_an_exception_is_shown_though_a_known_mistake_raises_it_too(tmp_path: Path) -> None:
    code = (
        "import torch.nn.functional as F\n\n\ndef masked_attention(query, key, value, mask):\n"
        "    scores = query @ key.mT / query.shape[-1] ** 0.5\n"
        "    weights = scores.masked_fill(~mask, -1e9).softmax(-1) * mask\n"
        "    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask), weights\n"
    )
    verdict = verdict_on("masked_attention", code, tmp_path)
    assert verdict.status == "error"
    assert verdict.message.startswith("IndexError: Dimension out of range")


GAE = solution(find("compute_gae"))
RETURNED = "return advantages, advantages + values"
NORMALIZED = "normalized = (advantages - advantages.mean()) / (advantages.std() + 1e-8)\n"
NAMED = {
    "a loop that ends early": (
        "compute_gae",
        GAE.replace("torch.empty_like", "torch.zeros_like").replace("range(len(deltas))", "range(len(deltas) - 1)"),
        "last_row_skipped",
    ),
    "normalized": (
        "compute_gae",
        GAE.replace(RETURNED, f"{NORMALIZED}    return normalized, advantages + values"),
        "normalized_by_n_minus_1",
    ),
    "normalized, and its returns": (
        "compute_gae",
        GAE.replace(RETURNED, f"advantages = advantages / advantages.std()\n    {RETURNED}"),
        "invariant:in_proportion",
    ),
    "returns minus values": (
        "compute_gae",
        GAE.replace("discount * next_values * ~terminated - values", "0")
        .replace("gae_lambda * ", "")
        .replace(RETURNED, "return advantages - values, advantages"),
        "monte_carlo",
    ),
    "normalized in the loss": (
        "policy_loss",
        solution(find("policy_loss")).replace(
            "    objective =",
            "    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)\n    objective =",
        ),
        "normalized",
    ),
    "n - 1, or 1": (
        "RunningMeanStd",
        solution(find("RunningMeanStd")).replace("self.squares / self.count", "self.squares / max(self.count - 1, 1)"),
        "n_minus_1_or_1",
    ),
}


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize("label", NAMED)
def test_common_mistakes_are_named(label: str, tmp_path: Path) -> None:
    name, code, mistake = NAMED[label]
    assert verdict_on(name, code, tmp_path).mistake == mistake


def test_an_array_that_is_expected_has_its_article(tmp_path: Path) -> None:
    code = wrapped("true_next_observations", "torch.as_tensor(result)")
    assert "must be an array of shape" in verdict_on("true_next_observations", code, tmp_path).message
