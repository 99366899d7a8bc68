"""Attention in blocks equals the plain formula, gradients included, and is used where it is faster."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lab.errors import UserError
from models.distilbert import DistilBertClassifier, DistilBertConfig
from models.gpt2 import GPT2, GPT2Config
from speed import fused_attention as module
from speed.fused_attention import (
    BLOCK_SIZE,
    MAX_SEQ_LEN,
    FusedMultiHeadAttention,
    blocked_causal_attention,
    fused_attention,
)
from speed.training import training_copy
from transformer_block import MultiHeadAttention, attention, causal_mask, padding_mask

Heads = tuple[Tensor, Tensor, Tensor]
LENGTHS = [1, 7, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE - 5]


def random_heads(length: int, size: int = 8, dtype: torch.dtype = torch.float64) -> Heads:
    """Query, key and value (2, 3, T, D), in memory as a model makes them: the heads inside the positions."""
    numbers = torch.randn(2, length, 3, 3, size, generator=torch.Generator().manual_seed(length), dtype=dtype)
    query, key, value = (each.transpose(1, 2).requires_grad_() for each in numbers.unbind(2))  # -> (B, H, T, D)
    return query, key, value


def with_gradients(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The output and its gradients for a direction that is the same every time."""
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return [output.detach(), *torch.autograd.grad(output, inputs, direction)]


@pytest.mark.parametrize("length", LENGTHS)
def test_output_and_gradients_are_those_of_the_formula(length: int) -> None:
    inputs = random_heads(length)
    actual = with_gradients(blocked_causal_attention(*inputs), inputs)
    for ours, expected in zip(actual, with_gradients(attention(*inputs, causal_mask(length))[0], inputs), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@given(st.integers(1, 2 * BLOCK_SIZE + 3), st.integers(1, 9))
def test_no_position_sees_a_later_one(length: int, size: int) -> None:
    inputs = random_heads(length, size)
    position = length // 2
    output = blocked_causal_attention(*inputs)
    changed = [each.detach().clone() for each in inputs]
    for each in changed[1:]:
        each[:, :, position + 1 :] = 1e6
    assert torch.equal(blocked_causal_attention(*changed)[:, :, : position + 1], output[:, :, : position + 1])
    gradients = torch.autograd.grad(output[:, :, position].sum(), inputs)
    assert all(not gradient[:, :, position + 1 :].any() for gradient in gradients)


def test_the_gradient_is_the_slope() -> None:
    inputs = random_heads(BLOCK_SIZE + 2, 2)[:1] * 3
    assert torch.autograd.gradcheck(blocked_causal_attention, inputs, fast_mode=True)


@pytest.mark.parametrize("length", [100, 400])
def test_sixteen_bits_are_no_less_exact_than_the_fused_kernel(length: int) -> None:
    exact = random_heads(length, 32, torch.float32)
    expected = with_gradients(attention(*exact, causal_mask(length))[0], exact)
    inputs = [each.detach().bfloat16().requires_grad_() for each in exact]
    ours = with_gradients(blocked_causal_attention(*inputs), inputs)
    query, key, value = inputs
    fused = with_gradients(F.scaled_dot_product_attention(query, key, value, is_causal=True), inputs)
    for by_us, by_them, correct in zip(ours, fused, expected, strict=True):
        assert by_us.dtype == torch.bfloat16
        assert (by_us.float() - correct).norm() <= 1.5 * (by_them.float() - correct).norm()


@pytest.mark.parametrize(
    ("length", "dropout", "blocked"),
    [(7, 0.0, True), (MAX_SEQ_LEN, 0.0, True), (MAX_SEQ_LEN + 1, 0.0, False), (7, 0.1, False)],
)
def test_blocks_are_for_texts_of_some_length_without_dropout(
    length: int, dropout: float, blocked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(
        module, "blocked_causal_attention", lambda *each: calls.append(1) or blocked_causal_attention(*each)
    )
    inputs = random_heads(length)
    output = fused_attention(*inputs, causal_mask(length), dropout)
    assert bool(calls) is blocked
    if not dropout:
        torch.testing.assert_close(output, attention(*inputs, causal_mask(length))[0])


@pytest.mark.parametrize("leave_nan", [False, True])
def test_other_masks_give_what_the_formula_gives(leave_nan: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for rows that may attend to nothing, and on a device whose kernel returns NaN for them."""
    query, key, value = torch.randn(3, 3, 4, 7, 6)
    kernel = F.scaled_dot_product_attention
    if leave_nan:

        def other_device(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: float) -> Tensor:
            return kernel(q, k, v, mask, dropout).masked_fill(~mask.any(dim=-1, keepdim=True), math.nan)

        monkeypatch.setattr(F, "scaled_dot_product_attention", other_device)
    mask = (torch.rand(3, 4, 7, 7) < 0.3) & (torch.rand(3, 1, 7, 1) < 0.5)
    assert not mask.any(dim=-1).all()
    torch.testing.assert_close(fused_attention(query, key, value, mask), attention(query, key, value, mask)[0])


@pytest.mark.parametrize("mask", [torch.tensor([True, False, True, True]), torch.tensor(True), torch.tensor(False)])
def test_a_mask_for_all_queries_may_lack_their_dimension(mask: Tensor) -> None:
    query, key, value = torch.randn(3, 2, 3, 4, 6)
    torch.testing.assert_close(fused_attention(query, key, value, mask), attention(query, key, value, mask)[0])


def test_a_square_mask_that_is_not_causal_is_not_taken_for_one() -> None:
    query, key, value = torch.randn(3, 2, 3, 9, 6)
    mask = causal_mask(9)
    mask[5, 2] = False
    torch.testing.assert_close(fused_attention(query, key, value, mask), attention(query, key, value, mask)[0])


@pytest.mark.parametrize("inference", [False, True])
def test_a_causal_mask_that_changes_is_no_longer_taken_for_one(inference: bool) -> None:
    with torch.inference_mode(inference):
        query, key, value = torch.randn(3, 2, 3, 9, 6)
        mask = causal_mask(9)
        for allowed in (True, False, True):
            mask[5, 2] = allowed
            torch.testing.assert_close(fused_attention(query, key, value, mask), attention(query, key, value, mask)[0])


def test_all_layers_share_one_comparison_with_the_causal_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = training_copy(GPT2(GPT2Config(50, 16, 24, 5, 4)))
    comparisons: list[int] = []
    equal = torch.equal
    monkeypatch.setattr(torch, "equal", lambda *tensors: comparisons.append(1) or equal(*tensors))
    for step in range(1, 4):
        fast(torch.randint(50, (2, 16)))
        assert len(comparisons) == step


@pytest.mark.parametrize(("queries", "keys"), [(2, 5), (1, 5), (70, 150), (5, 2)])
def test_fewer_queries_than_keys_are_the_last_or_refused(queries: int, keys: int) -> None:
    query, (key, value) = torch.randn(1, 2, queries, 4), torch.randn(2, 1, 2, keys, 4)
    if queries < keys:
        mask = causal_mask(queries, keys)
        torch.testing.assert_close(fused_attention(query, key, value, mask), attention(query, key, value, mask)[0])
    for square in {queries, keys} - {1}:
        with pytest.raises(UserError, match="does not broadcast"):
            fused_attention(query, key, value, causal_mask(square))
    with pytest.raises(UserError, match="as many of both"):
        blocked_causal_attention(query, key, value)


def test_masks_for_the_fused_kernel_are_checked() -> None:
    """The fused kernel would add a mask of numbers to the scores."""
    query = torch.randn(3, 4, 7, 6)
    with pytest.raises(UserError, match="boolean"):
        fused_attention(query, query, query, torch.ones(7, 7))


# ----------------------------------------------------------------------------------------------------------- in a model


@pytest.mark.parametrize("kind", ["none", "causal", "both"])
def test_fused_heads_equal_the_plain_ones_with_their_gradients(kind: str) -> None:
    plain = MultiHeadAttention(24, 4).double()
    fused, x = FusedMultiHeadAttention(plain), torch.randn(3, 7, 24, dtype=torch.float64, requires_grad=True)
    padding = padding_mask((torch.arange(7) < torch.tensor([[7], [4], [2]])).long())
    mask = {"none": None, "causal": causal_mask(7), "both": causal_mask(7) & padding}[kind]
    assert dict(fused.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    inputs = [x, *plain.parameters()]
    for ours, expected in zip(
        with_gradients(fused(x, mask)[0], inputs), with_gradients(plain(x, mask)[0], inputs), strict=True
    ):
        torch.testing.assert_close(ours, expected)


def test_query_key_and_value_are_one_product() -> None:
    class Count(TorchFunctionMode):
        products = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.products += func is F.linear
            return func(*args, **(kwargs or {}))

    plain, x = MultiHeadAttention(24, 4), torch.randn(3, 7, 24)
    for layer, products in ((plain, 4), (FusedMultiHeadAttention(plain), 2)):
        with Count() as count:
            layer(x)
        assert count.products == products


def test_one_projection_may_be_frozen() -> None:
    layer = FusedMultiHeadAttention(MultiHeadAttention(8, 2))
    layer.key.requires_grad_(False)
    layer(torch.randn(2, 5, 8), causal_mask(5))[0].sum().backward()
    assert layer.key.weight.grad is None
    assert layer.query.weight.grad is not None
    assert layer.query.weight.grad.any()


def test_a_training_copy_shares_the_parameters_and_computes_the_same() -> None:
    torch.manual_seed(0)
    ids, mask = torch.randint(50, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    mask[1, 5:] = 0
    small = DistilBertConfig(vocab_size=50, max_position_embeddings=16, dim=24, n_heads=4, n_layers=2, hidden_dim=40)
    models = (GPT2(GPT2Config(50, 16, 24, 2, 4)), DistilBertClassifier(small))
    for model in models:
        model.eval()
        fast = training_copy(model)
        assert list(fast.parameters()) == list(model.parameters())  # the same objects, in the same order
        assert dict(fast.named_parameters()).keys() == dict(model.named_parameters()).keys()
        for arguments in ((ids,), (ids, mask)):
            torch.testing.assert_close(fast(*arguments), model(*arguments), rtol=1e-4, atol=1e-4)
        fast.train()
        assert not model.training
        fast(ids).square().sum().backward()
        with torch.no_grad():
            for parameter in fast.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
        torch.testing.assert_close(fast.eval()(ids), model(ids), rtol=1e-4, atol=1e-4)


def test_dropout_of_a_training_copy_is_on_in_training_only() -> None:
    torch.manual_seed(0)
    fast = training_copy(GPT2(GPT2Config(50, 16, 24, 2, 4, embd_pdrop=0.0, attn_pdrop=0.5, resid_pdrop=0.0)))
    ids = torch.randint(50, (2, 9))
    assert not torch.equal(fast.train()(ids), fast(ids))
    assert torch.equal(fast.eval()(ids), fast(ids))
