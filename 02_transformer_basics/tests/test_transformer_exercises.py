"""The right answers of the exercises equal the lab's own code, on random inputs."""

import math
from collections.abc import Iterator, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bpe_tokenizer import Rule, merge_by_scanning
from models.generation import KVCache, Sampling, keep_top_p, token_probabilities
from models.gpt2 import GPT2, GPT2Config
from tokenizer import training
from transformer_block import TransformerBlock, causal_mask
from transformer_block import attention as lab_attention
from transformer_exercises import attention_solutions, blocks_solutions, generation_solutions, merges_solutions

SEEDS = range(3)


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def tensors(seed: int, *shapes: Sequence[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("seed", SEEDS)
def test_softmax_is_torchs(seed: int) -> None:
    (x,) = tensors(seed, (2, 3, 4))
    for dim in (0, 1, -1):
        torch.testing.assert_close(attention_solutions.softmax(100 * x, dim), (100 * x).softmax(dim))


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_is_the_labs(seed: int) -> None:
    query, key, value, random = tensors(seed, (2, 3, 4, 8), (2, 3, 5, 8), (2, 3, 5, 8), (2, 1, 4, 5))
    for mask in (None, random > 0):
        expected = lab_attention(query, key, value, mask)
        if mask is None:
            torch.testing.assert_close(attention_solutions.attention(query, key, value), expected)
        else:
            torch.testing.assert_close(attention_solutions.masked_attention(query, key, value, mask), expected)


@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (1, 6), (3, 5)])
def test_causal_mask_is_the_labs(queries: int, keys: int) -> None:
    assert torch.equal(attention_solutions.causal_mask(queries, keys), causal_mask(queries, keys))


@pytest.mark.parametrize("seed", SEEDS)
def test_layer_norm_is_torchs(seed: int) -> None:
    x, weight, bias = tensors(seed, (2, 3, 6), (6,), (6,))
    expected = F.layer_norm(x, (6,), weight, bias, 1e-3)
    torch.testing.assert_close(blocks_solutions.layer_norm(x, weight, bias, 1e-3), expected)


@pytest.mark.parametrize("norm_first", [True, False])
def test_block_is_the_labs(norm_first: bool) -> None:
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, 16, norm_first=norm_first).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    (x,) = tensors(1, (2, 3, 8))
    found = blocks_solutions.transformer_block(
        x, lambda x: block.attention(x)[0], block.feed_forward, block.norm1, block.norm2, norm_first
    )
    torch.testing.assert_close(found, block(x))


@pytest.mark.parametrize("past", [0, 3])
def test_embed_is_gpt2s(past: int) -> None:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=11, n_positions=9, n_embd=8, n_layer=1, n_head=2)).eval()
    ids = torch.tensor([[4, 10, 0], [7, 7, 1]])
    tables = model.token_embeddings.weight, model.position_embeddings.weight
    torch.testing.assert_close(blocks_solutions.embed(ids, *tables, past), model.embed(ids, None, past))


@pytest.mark.parametrize("seed", SEEDS)
def test_cache_is_the_labs(seed: int) -> None:
    ours, theirs = generation_solutions.KVCache(), KVCache(torch.empty(2, 2, 3, 10, 4))
    for number, size in enumerate((3, 1, 1, 2)):
        key, value = tensors(seed + number, (2, 3, size, 4), (2, 3, size, 4))
        torch.testing.assert_close(ours.append(key, value), theirs(key, value))


@pytest.mark.parametrize("seed", SEEDS)
def test_sampling_probabilities_are_the_labs(seed: int) -> None:
    logits, ids = tensors(seed, (3, 9))[0], torch.zeros(3, 1, dtype=torch.long)
    for temperature in (0.5, 1.0, 3.0):
        for top_k in (None, 1, 4, 9, 20):
            expected = token_probabilities(logits, ids, None, Sampling(temperature, top_k))
            found = generation_solutions.sampling_probabilities(logits, temperature, top_k)
            torch.testing.assert_close(found, expected)
    greedy = generation_solutions.sampling_probabilities(logits, 0.0, 4)
    assert torch.equal(greedy.argmax(-1), logits.argmax(-1))
    assert greedy.max(-1).values.tolist() == [1.0] * 3


@pytest.mark.parametrize("seed", SEEDS)
def test_top_p_filter_is_the_labs(seed: int) -> None:
    (logits,) = tensors(seed, (3, 9))
    for p in (0.01, 0.3, 0.75, 0.99):
        assert torch.equal(generation_solutions.top_p_filter(logits, p), keep_top_p(logits, p))


@pytest.mark.parametrize("seed", SEEDS)
def test_next_token_loss_is_cross_entropy(seed: int) -> None:
    (logits,) = tensors(seed, (2, 5, 7))
    ids = torch.arange(10).reshape(2, 5) % 7
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    targets = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten())
    torch.testing.assert_close(generation_solutions.next_token_loss(logits, ids, mask), expected)
    even = torch.zeros(2, 5, 7)
    assert generation_solutions.next_token_loss(even, ids, mask).item() == pytest.approx(math.log(7))


TEXT = "the mouse in the maze looked for the cheese and the cheese looked for the mouse"


def test_learned_merges_are_the_labs() -> None:
    expected = list(training.learn_merges(TEXT, 256 + 30))
    counts: dict[tuple[int, ...], int] = {}
    for word in training.pre_tokenize(TEXT):
        symbols = tuple(training._BYTE_TO_SYMBOL[byte] for byte in word.encode())
        counts[symbols] = counts.get(symbols, 0) + 1
    assert merges_solutions.learn_merges(counts, 30) == [merge.pair for merge in expected]


def test_encoding_is_the_labs() -> None:
    merges = [merge.pair for merge in training.learn_merges(TEXT, 256 + 30)]
    rules = {pair: Rule(rank, 256 + rank) for rank, pair in enumerate(merges)}
    for text in (TEXT, "mouse", "", "ththththe", "cheesecheese"):
        symbols = [training._BYTE_TO_SYMBOL[byte] for byte in text.encode()]
        assert merges_solutions.bpe_encode(symbols, merges) == merge_by_scanning(list(symbols), rules)


def test_merge_pair_is_the_labs() -> None:
    for ids in ([], [1], [1, 1, 1], [1, 2, 1, 2, 2, 1, 1, 2]):
        for pair in ((1, 1), (1, 2), (2, 2)):
            assert merges_solutions.merge_pair(ids, pair, 256) == training.merge_pair(list(ids), pair, 256)
