"""Attention in blocks must give what the plain formula gives, with its gradient, and be used where it is faster."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from speed.causal_attention import BLOCK, LONGEST, blocked_causal_attention, blocks
from torch import Tensor

from transformer_block import CAUSAL, MultiHeadAttention, attention, fused_attention

Heads = tuple[Tensor, Tensor, Tensor]
LENGTHS = [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK - 5]


def random_heads(length: int, size: int = 8, dtype: torch.dtype = torch.float64) -> Heads:
    """Query, key and value (2, 3, T, D), in memory as a model makes them: the heads inside the positions."""
    numbers = torch.randn(2, length, 3, 3, size, generator=torch.Generator().manual_seed(length), dtype=dtype)
    query, key, value = (each.transpose(1, 2).requires_grad_() for each in numbers.unbind(2))  # -> (B, H, T, D)
    return query, key, value


def with_gradients(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The output and what a direction that is the same every time gives back to the inputs."""
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return [output.detach(), *torch.autograd.grad(output, inputs, direction)]


@pytest.mark.parametrize("length", LENGTHS)
def test_output_and_gradients_are_those_of_the_formula(length: int) -> None:
    inputs = random_heads(length)
    found = with_gradients(blocked_causal_attention(*inputs), inputs)
    for ours, expected in zip(found, with_gradients(attention(*inputs, CAUSAL)[0], inputs), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@given(st.integers(1, 2 * BLOCK + 3), st.integers(1, 9))
def test_no_position_sees_a_later_one(length: int, size: int) -> None:
    inputs = random_heads(length, size)
    place = length // 2
    output = blocked_causal_attention(*inputs)
    changed = [each.detach().clone() for each in inputs]
    for each in changed[1:]:
        each[:, :, place + 1 :] = 1e6
    assert torch.equal(blocked_causal_attention(*changed)[:, :, : place + 1], output[:, :, : place + 1])
    gradients = torch.autograd.grad(output[:, :, place].sum(), inputs)
    assert all(not gradient[:, :, place + 1 :].any() for gradient in gradients)


def test_the_gradient_is_the_slope() -> None:
    assert torch.autograd.gradcheck(blocked_causal_attention, random_heads(BLOCK + 2, 2)[:1] * 3, fast_mode=True)


def test_every_query_is_in_one_block_and_sees_all_keys_up_to_it() -> None:
    queries = [range(LONGEST)[new] for new, _ in blocks(LONGEST)]
    assert [position for block in queries for position in block] == list(range(LONGEST))
    for (_, seen), block in zip(blocks(LONGEST), queries, strict=True):
        assert range(LONGEST)[seen] == range(block.stop)


@pytest.mark.parametrize("length", [100, 400])
def test_sixteen_bits_are_no_less_exact_than_the_fused_kernel(length: int) -> None:
    exact = random_heads(length, 32, torch.float32)
    expected = with_gradients(attention(*exact, CAUSAL)[0], exact)
    inputs = [each.detach().bfloat16().requires_grad_() for each in exact]
    ours = with_gradients(blocked_causal_attention(*inputs), inputs)
    query, key, value = inputs
    fused = with_gradients(F.scaled_dot_product_attention(query, key, value, is_causal=True), inputs)
    for by_us, by_them, wanted in zip(ours, fused, expected, strict=True):
        assert by_us.dtype == torch.bfloat16
        assert (by_us.float() - wanted).norm() <= 1.5 * (by_them.float() - wanted).norm()


@pytest.mark.parametrize(
    ("length", "dropout", "trains", "blocked"),
    [
        (7, 0.0, True, True),
        (LONGEST, 0.0, True, True),
        (LONGEST + 1, 0.0, True, False),
        (7, 0.1, True, False),
        (7, 0.0, False, False),
    ],
)
def test_blocks_are_for_training_alone_and_for_texts_of_some_length(
    length: int, dropout: float, trains: bool, blocked: bool
) -> None:
    query, key, value = (each.detach().requires_grad_(trains) for each in random_heads(length))
    output = fused_attention(query, key, value, CAUSAL, dropout)
    assert ("BlockedCausalAttention" in type(output.grad_fn).__name__) is blocked


def test_one_map_may_be_frozen() -> None:
    layer = MultiHeadAttention(8, 2)
    layer.key.requires_grad_(False)
    layer(torch.randn(2, 5, 8), CAUSAL, need_weights=False)[0].sum().backward()
    assert layer.key.weight.grad is None
    assert layer.query.weight.grad is not None
    assert layer.query.weight.grad.any()


def test_the_gradient_of_the_gradient_is_refused_and_not_wrong() -> None:
    query, key, value = random_heads(3)
    output = blocked_causal_attention(query, key, value)
    (gradient,) = torch.autograd.grad(output.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
