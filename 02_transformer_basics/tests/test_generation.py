"""Generation gives the library's tokens; sampling follows the probabilities; filters are the library's filters."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import logits_process

from lab.errors import UserError
from models import generation
from models.batching import pad_left
from models.generation import (
    Sampling,
    generate,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    stream,
    token_probabilities,
    window_start,
)
from models.gpt2 import GPT2

V, CONTEXT = 97, 160
SETTINGS = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def write_reference(folder: Path, **sizes: Any) -> Any:
    """The library's model with weights so large that it does not repeat one token forever, also in `folder`."""
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(bos_token_id=0, eos_token_id=0, **sizes))
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("ln_" in name and name.endswith("weight")), std=0.1)
    for name, parameter in model.named_parameters():
        if name.endswith("wpe.weight"):
            torch.nn.init.normal_(parameter, std=0.5)  # else the model repeats one token forever
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, GPT2]:
    folder = tmp_path_factory.mktemp("gpt2")
    theirs = write_reference(folder, vocab_size=V, n_embd=24, n_head=4, n_layer=2, n_positions=CONTEXT)
    return theirs, GPT2.from_pretrained(folder)


def prompts(*lengths: int, vocab_size: int = V) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    input_ids, mask = pad_left([torch.randint(1, vocab_size, (size,)).tolist() for size in lengths])
    return input_ids, torch.ones_like(input_ids) if mask is None else mask


@pytest.mark.parametrize("lengths", [(9,), (1,), (12, 3, 1, 7)], ids=str)
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_128_greedy_tokens_are_the_librarys(small: tuple[Any, GPT2], lengths: tuple[int, ...], use_cache: bool) -> None:
    theirs, ours = small
    input_ids, mask = prompts(*lengths)
    expected = theirs.generate(input_ids, attention_mask=mask, max_new_tokens=128, **SETTINGS)
    actual = generate(ours, input_ids, mask, max_new_tokens=128, use_cache=use_cache)
    assert actual.tolist() == expected.tolist()
    assert len(set(actual[0].tolist())) > 20  # the tokens differ enough for faults to show


@pytest.mark.slow
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_128_greedy_tokens_at_the_official_size(tmp_path: Path, use_cache: bool) -> None:
    theirs = write_reference(tmp_path)
    input_ids, mask = prompts(12, 3, 1, vocab_size=50257)
    expected = theirs.generate(input_ids, attention_mask=mask, max_new_tokens=128, **SETTINGS)
    actual = generate(GPT2.from_pretrained(tmp_path), input_ids, mask, max_new_tokens=128, use_cache=use_cache)
    assert actual.tolist() == expected.tolist()


def test_a_prompt_in_a_batch_continues_as_it_does_alone(small: tuple[Any, GPT2]) -> None:
    input_ids, mask = prompts(12, 5)
    together = generate(small[1], input_ids, mask, max_new_tokens=40)
    alone = generate(small[1], input_ids[1:, 7:], max_new_tokens=40)
    assert together[1, 7:].tolist() == alone[0].tolist()


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_repetition_penalty_of_greedy_tokens_is_the_librarys(small: tuple[Any, GPT2], penalty: float) -> None:
    theirs, ours = small
    input_ids, mask = prompts(9)
    expected = theirs.generate(
        input_ids, attention_mask=mask, max_new_tokens=40, repetition_penalty=penalty, **SETTINGS
    )
    assert (
        generate(ours, input_ids, max_new_tokens=40, sampling=Sampling(repetition_penalty=penalty)).tolist()
        == expected.tolist()
    )


def test_ids_may_be_32_bit_integers(small: tuple[Any, GPT2]) -> None:
    input_ids, sampling = prompts(9)[0], Sampling(repetition_penalty=1.3)
    expected = generate(small[1], input_ids, max_new_tokens=5, sampling=sampling)
    assert generate(small[1], input_ids.int(), max_new_tokens=5, sampling=sampling).tolist() == expected.tolist()


def test_padding_is_no_repetition(small: tuple[Any, GPT2]) -> None:
    input_ids, mask = prompts(12, 5)
    together = generate(small[1], input_ids, mask, max_new_tokens=20, sampling=Sampling(repetition_penalty=1.5))
    alone = generate(small[1], input_ids[1:, 7:], max_new_tokens=20, sampling=Sampling(repetition_penalty=1.5))
    assert together[1, 7:].tolist() == alone[0].tolist()
    logits, tokens, seen = torch.ones(1, 4), torch.tensor([[0, 3]]), torch.tensor([[0, 1]])
    assert penalize_repetition(logits, tokens, seen, 2.0).tolist() == [[1.0, 1.0, 1.0, 0.5]]


# ------------------------------------------------------------------------------------------------------------- sampling


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(2, 30), st.integers(1, 40), st.floats(0.01, 1.0), st.integers(0, 2**31))
def test_filters_are_the_librarys(rows: int, size: int, k: int, p: float, seed: int) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(rows, size).mul(3).round(decimals=1)  # ties too
    tokens = torch.randint(0, size, (rows, 6))
    processors = (
        (keep_top_k(logits, k), logits_process.TopKLogitsWarper(k)),
        (keep_top_p(logits, p), logits_process.TopPLogitsWarper(p)),
        (penalize_repetition(logits, tokens, None, 1.0 + p), logits_process.RepetitionPenaltyLogitsProcessor(1.0 + p)),
    )
    for actual, processor in processors:
        assert actual.tolist() == processor(tokens, logits.clone()).tolist()  # pyright: ignore[reportArgumentType]


def test_all_filters_in_the_librarys_order() -> None:
    torch.manual_seed(0)
    logits, tokens = torch.randn(3, 50) * 3, torch.randint(0, 50, (3, 20))
    expected: Any = logits
    for processor in (
        logits_process.RepetitionPenaltyLogitsProcessor(1.4),
        logits_process.TemperatureLogitsWarper(0.7),
        logits_process.TopKLogitsWarper(9),
        logits_process.TopPLogitsWarper(0.8),
    ):
        expected = processor(tokens, expected)  # pyright: ignore[reportArgumentType]
    actual = token_probabilities(logits, tokens, None, Sampling(0.7, 9, 0.8, 1.4))
    torch.testing.assert_close(actual, expected.softmax(-1))
    assert 1 < (actual > 0).sum(-1).max() <= 9


def test_top_k_comes_before_top_p() -> None:
    """0.5 of all, but 0.56 of the first two: top-p first would keep both, and after top-k one is enough."""
    logits = torch.tensor([[0.5, 0.4, 0.1]]).log()
    probabilities = token_probabilities(logits, torch.tensor([[0]]), None, Sampling(1.0, 2, 0.55, None))
    assert probabilities.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    "options", [{"temperature": 1.0}, {"temperature": 0.5, "top_k": 5}, {"temperature": 2.0, "top_p": 0.5}], ids=str
)
def test_frequencies_match_the_probabilities(small: tuple[Any, GPT2], options: dict[str, Any]) -> None:
    """20,000 draws of one token: no frequency differs by more than five standard deviations."""
    draws, ours = 20_000, small[1]
    input_ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        probabilities = token_probabilities(ours(input_ids)[:, -1], input_ids, None, Sampling(**options))[0]
    generator = torch.Generator().manual_seed(0)
    actual = generate(
        ours, input_ids.expand(draws, 3), max_new_tokens=1, generator=generator, sampling=Sampling(**options)
    )[:, -1]
    frequencies = torch.bincount(actual, minlength=V) / draws
    deviation = (probabilities * (1 - probabilities) / draws).sqrt()
    assert ((frequencies - probabilities).abs() <= 5 * deviation + 1e-9).all()
    assert ((frequencies > 0) <= (probabilities > 0)).all()
    assert (frequencies > 0).sum() > 2


def test_a_generator_decides_the_draws(small: tuple[Any, GPT2]) -> None:
    input_ids, mask = prompts(4, 2)

    def draw(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return generate(
            small[1], input_ids, mask, max_new_tokens=30, sampling=Sampling(temperature=1.0), generator=generator
        ).tolist()

    state = torch.random.get_rng_state()
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    assert torch.equal(state, torch.random.get_rng_state())


# ----------------------------------------------------------------------------------------- streaming, stopping, sliding


def test_the_stream_gives_each_token_when_it_is_known(small: tuple[Any, GPT2]) -> None:
    input_ids, mask = prompts(6, 2)
    expected = generate(small[1], input_ids, mask, max_new_tokens=12)
    steps = stream(small[1], input_ids, mask, max_new_tokens=12)
    first = next(steps)
    assert first.shape == (2,)
    actual = torch.stack([first, *steps], dim=1)
    assert actual.tolist() == expected[:, 6:].tolist()
    assert torch.is_grad_enabled()


def test_the_result_can_be_written_to_and_used_in_training(small: tuple[Any, GPT2]) -> None:
    streamed = list(stream(small[1], torch.tensor([[1, 2]]), max_new_tokens=3))
    tokens = generate(small[1], torch.tensor([[1, 2]]), max_new_tokens=3)
    for each in (tokens, *streamed):
        assert not each.is_inference()
    tokens[0, 0] = 5
    small[1].zero_grad()
    small[1](tokens).square().sum().backward()
    gradient = small[1].token_embeddings.weight.grad
    assert gradient is not None
    assert bool(gradient[5].any())


def test_rows_stop_where_the_librarys_do(small: tuple[Any, GPT2]) -> None:
    theirs, ours = small
    input_ids, mask = prompts(9, 4, 2)
    free = generate(ours, input_ids, mask, max_new_tokens=60)
    stop = int(free[1, 9 + 20])  # the second row generates it within 20 tokens
    expected = theirs.generate(
        input_ids, attention_mask=mask, max_new_tokens=60, do_sample=False, eos_token_id=stop, pad_token_id=stop
    )
    actual = generate(ours, input_ids, mask, max_new_tokens=60, stop_tokens=[stop])
    assert actual.tolist() == expected.tolist()
    ended = [row.index(stop) for row in actual[:, 9:].tolist() if stop in row]
    assert ended
    for row, begin in zip([row for row in actual[:, 9:].tolist() if stop in row], ended, strict=True):
        assert set(row[begin:]) == {stop}


def test_a_penalty_counts_the_tokens_before_the_window_too(
    small: tuple[Any, GPT2], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def watched(logits: Tensor, tokens: Tensor, *rest: Any) -> Tensor:
        counted.append(tokens.shape[1])
        return token_probabilities(logits, tokens, *rest)

    monkeypatch.setattr(generation, "token_probabilities", watched)
    context = small[1].config.n_positions
    prompt = torch.randint(1, 50, (1, context + 5))
    generate(small[1], prompt, max_new_tokens=3, sampling=Sampling(repetition_penalty=1.2), slide=True)
    assert counted == [context + 5, context + 6, context + 7]


def test_a_row_repeats_its_own_stop_token(small: tuple[Any, GPT2]) -> None:
    input_ids, mask = prompts(9, 4, 2)
    free = generate(small[1], input_ids, mask, max_new_tokens=30)[:, 9:]
    stops = [int(row[5]) for row in free]
    assert len(set(stops)) > 1
    for row in generate(small[1], input_ids, mask, max_new_tokens=30, stop_tokens=stops)[:, 9:].tolist():
        end = next(number for number, token in enumerate(row) if token in stops)
        assert set(row[end:]) == {row[end]}


def test_it_ends_when_every_row_has_stopped(small: tuple[Any, GPT2]) -> None:
    free = generate(small[1], torch.tensor([[5, 6]]), max_new_tokens=30)[0, 2:].tolist()
    stops = [free[7], free[12]]
    actual = generate(small[1], torch.tensor([[5, 6]]), max_new_tokens=30, stop_tokens=stops)[0, 2:].tolist()
    assert actual == free[: 1 + min(free.index(stop) for stop in stops)]


def test_beyond_the_context_is_refused_and_up_to_it_is_not(small: tuple[Any, GPT2]) -> None:
    input_ids, _ = prompts(100)
    assert generate(small[1], input_ids, max_new_tokens=60).shape == (1, CONTEXT)
    with pytest.raises(UserError, match="100 prompt tokens and 61 new ones are more than the model's context of 160"):
        generate(small[1], input_ids, max_new_tokens=61)


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_a_sliding_window_forgets_the_earliest(small: tuple[Any, GPT2], use_cache: bool) -> None:
    """Each token is the most likely one after only the window's tokens."""
    input_ids, mask = prompts(150, 90)
    actual = generate(small[1], input_ids, mask, max_new_tokens=120, slide=True, use_cache=use_cache)
    mask = torch.cat([mask, torch.ones(2, 120, dtype=torch.long)], dim=1)
    with torch.no_grad():
        for length in (150, 159, 160, 161, 200, 240, 241, 269):
            start = window_start(length, CONTEXT)
            logits = small[1](actual[:, start:length], mask[:, start:length])[:, -1]
            assert logits.argmax(-1).tolist() == actual[:, length].tolist(), length


def test_the_window_is_never_too_long_and_never_shorter_than_half() -> None:
    for context in (1, 2, 7, 160):
        for length in range(1, 5 * context):
            visible = length - window_start(length, context)
            assert visible <= context
            assert visible == length or visible > context - max(1, context // 2)
    assert [window_start(length, 8) for length in (8, 9, 12, 13)] == [0, 4, 4, 8]


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": 1e-9}, "temperature is 1e-09"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, "at least one token"),
        ({"input_ids": torch.tensor([[V]])}, f"hold {V}"),
        ({"attention_mask": torch.ones(1, 2)}, "attention_mask is"),
        ({"attention_mask": torch.tensor([[1, 1, 0]])}, "padded on the left"),
        ({"attention_mask": torch.tensor([[1, 0, 1]])}, "padded on the left"),
        ({"attention_mask": torch.tensor([[0, 0, 0]])}, "padded on the left"),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused_in_one_line(
    small: tuple[Any, GPT2], options: dict[str, Any], words: str
) -> None:
    arguments = {"input_ids": torch.tensor([[1, 2, 3]]), "max_new_tokens": 2} | options
    chosen = {name: arguments.pop(name) for name in vars(Sampling()) if name in arguments}
    with pytest.raises(UserError, match=words) as caught:
        generate(small[1], **arguments, sampling=Sampling(**chosen))
    assert "\n" not in str(caught.value)


def test_the_most_likely_token_stays_however_small_top_p_is() -> None:
    assert keep_top_p(torch.tensor([[1.0, 3.0, 2.0]]), 1e-12).tolist() == [[-torch.inf, 3.0, -torch.inf]]
