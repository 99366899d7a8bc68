"""The encoder block equals torch.nn, values and gradients, under every kind of mask; each likely mistake is caught."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from committed import extract_committed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lab.errors import UserError
from transformer_block import (
    ACTIVATIONS,
    MultiHeadAttention,
    SimpleSelfAttention,
    TransformerBlock,
    attention,
    attention_by_loops,
    causal_mask,
    merge_heads,
    multi_head_by_loop,
    padding_mask,
    split_heads,
)

FOLDER = Path(__file__).resolve().parent.parent
B, T, H, E, FF = 3, 7, 4, 24, 40
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
LENGTHS = [7, 4, 2]  # tokens in each sequence; what follows is padding
MASK_KINDS = ["none", "causal", "padding", "both", "per_sequence", "per_head"]
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@pytest.fixture(autouse=True)
def _seed_and_one_thread() -> Iterator[None]:
    """One thread: with tensors this small, more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def tokens_and_padding() -> Tensor:
    """(B, T) of 1 and 0, as from a tokenizer."""
    return (torch.arange(T)[None] < torch.tensor(LENGTHS)[:, None]).long()


def make_mask(kind: str) -> Tensor | None:
    diagonal = torch.eye(T, dtype=torch.bool)  # torch's layers give NaN for rows that may attend to nothing
    masks = {
        "none": None,
        "causal": causal_mask(T),
        "padding": padding_mask(tokens_and_padding()),
        "both": causal_mask(T) & padding_mask(tokens_and_padding()),
        "per_sequence": (torch.rand(B, 1, T, T) < 0.5) | diagonal,
        "per_head": (torch.rand(B, H, T, T) < 0.5) | diagonal,
    }
    return masks[kind]


def for_torch(mask: Tensor | None) -> Tensor | None:
    """Our mask as torch's layers want it: (B * H, T, T), True where attention is forbidden."""
    return None if mask is None else ~mask.expand(B, H, T, T).reshape(B * H, T, T)


def randomize(module: nn.Module) -> None:
    """Biases start at 0 and norms at 1, where leaving them out would go unnoticed."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)


def torch_block(dtype: torch.dtype = torch.float32, **options: Any) -> nn.TransformerEncoderLayer:
    layer = nn.TransformerEncoderLayer(E, H, FF, dtype=dtype, **({"dropout": 0.0, "batch_first": True} | options))
    randomize(layer)
    return layer


def in_our_order(theirs: nn.TransformerEncoderLayer | nn.MultiheadAttention) -> dict[str, Tensor]:
    """The gradients of a torch layer under our parameters' names."""
    heads = theirs.self_attn if isinstance(theirs, nn.TransformerEncoderLayer) else theirs
    prefix = "attention." if heads is not theirs else ""
    gradients = {}
    for kind, stacked in (("weight", heads.in_proj_weight), ("bias", heads.in_proj_bias)):
        assert stacked.grad is not None
        for name, part in zip(("query", "key", "value"), stacked.grad.chunk(3), strict=True):
            gradients[f"{prefix}{name}.{kind}"] = part
        gradients[f"{prefix}output.{kind}"] = getattr(heads.out_proj, kind).grad
    if isinstance(theirs, nn.TransformerEncoderLayer):
        names = {"linear1": "ff_in", "linear2": "ff_out", "norm1": "norm1", "norm2": "norm2"}
        for name, ours in names.items():
            for kind in ("weight", "bias"):
                gradients[f"{ours}.{kind}"] = getattr(getattr(theirs, name), kind).grad
    return gradients


def assert_same(ours: Tensor, theirs: Tensor, what: str = "output") -> None:
    difference = (ours - theirs).abs().max().item()
    limit = TOLERANCE[ours.dtype] * max(1.0, theirs.abs().max().item())
    assert difference <= limit, f"{what} differs by {difference}"


def assert_same_gradients(ours: nn.Module, theirs: nn.TransformerEncoderLayer | nn.MultiheadAttention) -> None:
    expected = in_our_order(theirs)
    parameters = dict(ours.named_parameters())
    assert parameters.keys() == expected.keys()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert_same(parameter.grad, expected[name], name)


# ----------------------------------------------------------------------------------------------- equality with torch.nn


@dtypes
@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
def test_block_equals_torch(norm_first: bool, activation: str, kind: str, dtype: torch.dtype) -> None:
    theirs = torch_block(dtype, norm_first=norm_first, activation=activation, layer_norm_eps=1e-3)
    ours = TransformerBlock.from_torch(theirs)
    mask, direction = make_mask(kind), torch.randn(B, T, E, dtype=dtype)
    x = torch.randn(B, T, E, dtype=dtype, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    output, expected = ours(x, mask), theirs(y, src_mask=for_torch(mask))
    (output * direction).sum().backward()
    (expected * direction).sum().backward()
    assert_same(output, expected)
    assert x.grad is not None
    assert y.grad is not None
    assert_same(x.grad, y.grad, "gradient of the input")
    assert_same_gradients(ours, theirs)


@dtypes
@pytest.mark.parametrize("kind", MASK_KINDS)
def test_heads_equal_torch(kind: str, dtype: torch.dtype) -> None:
    theirs = nn.MultiheadAttention(E, H, batch_first=True, dtype=dtype)
    randomize(theirs)
    ours = MultiHeadAttention.from_torch(theirs)
    mask = make_mask(kind)
    x = torch.randn(B, T, E, dtype=dtype, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    output, weights = ours(x, mask)
    expected, expected_weights = theirs(y, y, y, attn_mask=for_torch(mask), average_attn_weights=False)
    assert weights.shape == (B, H, T, T)
    assert_same(output, expected)
    assert_same(weights, expected_weights, "weights")
    for out, w in ((output, weights), (expected, expected_weights)):
        (out.sin().sum() + w.square().sum()).backward()
    assert x.grad is not None
    assert y.grad is not None
    assert_same(x.grad, y.grad, "gradient of the input")
    assert_same_gradients(ours, theirs)


@dtypes
@pytest.mark.parametrize("kind", MASK_KINDS)
def test_attention_equals_torch(kind: str, dtype: torch.dtype) -> None:
    q, k, v = (torch.randn(B, H, T, 6, dtype=dtype, requires_grad=True) for _ in range(3))
    mask = make_mask(kind)
    ours, theirs = attention(q, k, v, mask)[0], F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert_same(ours, theirs)
    gradients = (torch.autograd.grad(output.sin().sum(), (q, k, v)) for output in (ours, theirs))
    for name, a, b in zip("qkv", *gradients, strict=True):
        assert_same(a, b, f"gradient of {name}")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.data())
def test_attention_equals_torch_for_all_sizes(b: int, h: int, d: int, tq: int, tk: int, data: st.DataObject) -> None:
    """Also fewer queries than keys, every form of mask, and rows that may attend to nothing (torch gives zero too)."""
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    query = torch.randn(b, h, tq, d, dtype=torch.float64)
    key, value = torch.randn(2, b, h, tk, d, dtype=torch.float64)
    sizes = [data.draw(st.sampled_from([1, full])) for full in (b, h, tq, tk)]
    shape = data.draw(st.sampled_from([tuple(sizes), (tq, tk)]))
    mask = torch.rand(shape) < data.draw(st.sampled_from([0.2, 0.5, 0.9]))
    output, weights = attention(query, key, value, mask)
    assert_same(output, F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
    possible = mask.expand(b, h, tq, tk).any(dim=-1).double()
    assert_same(weights.sum(dim=-1), possible, "sum of the weights")
    assert (weights >= 0).all()
    assert (weights[~mask.expand_as(weights)] == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 8), st.integers(1, 4), st.integers(1, 5), st.booleans(), st.integers(0, 2**31))
def test_block_equals_torch_for_all_sizes(b: int, t: int, h: int, d: int, norm_first: bool, seed: int) -> None:
    torch.manual_seed(seed)
    theirs = nn.TransformerEncoderLayer(
        h * d, h, 2 * h * d + 1, batch_first=True, norm_first=norm_first, dtype=torch.float64, layer_norm_eps=1e-2
    ).eval()
    randomize(theirs)
    x = torch.randn(b, t, h * d, dtype=torch.float64)
    assert_same(TransformerBlock.from_torch(theirs)(x), theirs(x))


@dtypes
def test_simple_self_attention_is_the_formula(dtype: torch.dtype) -> None:
    layer = SimpleSelfAttention(E).to(dtype)
    randomize(layer)
    x = torch.randn(B, T, E, dtype=dtype)
    q, k, v = (x @ linear.weight.T + linear.bias for linear in (layer.query, layer.key, layer.value))
    expected_weights = torch.softmax(q @ k.mT / math.sqrt(E), dim=-1)
    output, weights = layer(x)
    assert_same(weights, expected_weights, "weights")
    assert_same(output, expected_weights @ v)
    assert_same(weights.sum(dim=-1), torch.ones(B, T, dtype=dtype), "sum of the weights")
    output, weights = layer(x, make_mask("both"))
    assert_same(output, F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], make_mask("both"))[:, 0])
    assert (output.shape, weights.shape) == ((B, T, E), (B, T, T))


def test_rungs_of_the_ladder_agree() -> None:
    q, k, v = torch.randn(3, T, 5, dtype=torch.float64)
    output, weights = attention_by_loops(q, k, v)
    batched_output, batched_weights = attention(q[None, None], k[None, None], v[None, None])
    assert_same(output, batched_output[0, 0])
    assert_same(weights, batched_weights[0, 0], "weights")
    heads, x = MultiHeadAttention(E, H).double(), torch.randn(B, T, E, dtype=torch.float64)
    assert_same(multi_head_by_loop(heads, x), heads(x)[0])


# ---------------------------------------------------------------------------------------------- properties and pitfalls


def test_scale_is_the_root_of_the_head_size() -> None:
    """Likely mistake: sqrt(embed_dim). Scores of exactly ln 3 and 0 must give weights of 3/4 and 1/4."""
    d, heads = 4, 3
    query = torch.zeros(1, heads, 1, d, dtype=torch.float64)
    query[..., 0] = math.log(3) * math.sqrt(d)
    key = torch.zeros(1, heads, 2, d, dtype=torch.float64)
    key[:, :, 0, 0] = 1.0
    assert_same(attention(query, key, key)[1][0, 0, 0], torch.tensor([0.75, 0.25], dtype=torch.float64))
    layer = MultiHeadAttention(heads * d, heads).double()
    for linear in (layer.query, layer.key):  # every query is ln 3 * sqrt(d) in each head's first place, keys are x
        nn.init.zeros_(linear.bias)
    nn.init.eye_(layer.key.weight)
    nn.init.zeros_(layer.query.weight)
    with torch.no_grad():
        layer.query.bias[::d] = math.log(3) * math.sqrt(d)
    x = torch.zeros(1, 2, heads * d, dtype=torch.float64)
    x[0, 0] = 1.0
    expected = torch.tensor([0.75, 0.25], dtype=torch.float64).expand(1, heads, 2, 2)
    assert_same(layer(x)[1], expected, "weights")


def test_true_means_allowed() -> None:
    """Likely mistake: torch.nn's polarity, where True is forbidden."""
    mask = torch.zeros(T, T, dtype=torch.bool)
    mask[:, 2] = True
    layer, x = SimpleSelfAttention(E), torch.randn(B, T, E)
    output, weights = layer(x, mask)
    assert (weights[..., 2] == 1).all()
    assert_same(output, layer.value(x)[:, 2:3].expand(B, T, E))


@pytest.mark.parametrize("norm_first", [False, True])
def test_no_position_sees_a_later_one(norm_first: bool) -> None:
    block, x, mask = TransformerBlock(E, H, FF, norm_first=norm_first).eval(), torch.randn(B, T, E), causal_mask(T)
    before = block(x, mask)
    for changed in range(1, T):
        y = torch.cat([x[:, :changed], torch.randn(B, T - changed, E)], dim=1)
        after = block(y, mask)
        assert torch.equal(before[:, :changed], after[:, :changed])
        assert not torch.allclose(before[:, changed:], after[:, changed:])
        assert not torch.allclose(block(x)[:, 0], block(y)[:, 0])  # without the mask the future does leak


def test_order_is_invisible_without_a_mask() -> None:
    """Permuting the positions permutes the output: attention needs position embeddings to know the order."""
    block, x, order = TransformerBlock(E, H, FF).double().eval(), torch.randn(B, T, E).double(), torch.randperm(T)
    assert_same(block(x[:, order]), block(x)[:, order])
    assert not torch.allclose(block(x[:, order], causal_mask(T)), block(x, causal_mask(T))[:, order])


def test_content_of_padding_has_no_influence() -> None:
    block, x = TransformerBlock(E, H, FF).eval(), torch.randn(B, T, E)
    real = tokens_and_padding().bool()
    y = torch.where(real[..., None], x, 1000.0 * torch.randn(B, T, E))
    mask = padding_mask(tokens_and_padding())
    assert torch.equal(block(x, mask)[real], block(y, mask)[real])
    assert not torch.allclose(block(x)[real], block(y)[real])
    for row, length in enumerate(LENGTHS):  # and it equals the sequence without its padding
        assert_same(block(x, mask)[row, :length], block(x[row : row + 1, :length])[0])


@dtypes
def test_rows_that_may_attend_to_nothing_are_zero(dtype: torch.dtype) -> None:
    """Likely mistakes: NaN from -inf alone, uniform attention from a large negative number."""
    mask = causal_mask(T).clone()
    mask[3] = False
    q, k, v = (torch.randn(B, H, T, 6, dtype=dtype, requires_grad=True) for _ in range(3))
    output, weights = attention(q, k, v, mask)
    assert (weights[:, :, 3] == 0).all()
    assert (output[:, :, 3] == 0).all()
    assert_same(weights[:, :, 4].sum(-1), torch.ones(B, H, dtype=dtype), "sum of the next row")
    with torch.autograd.set_detect_anomaly(True):  # raises at any intermediate NaN, even one that is overwritten later
        attention(q, k, v, mask)[0].square().sum().backward()
    for tensor in (q, k, v):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    assert q.grad is not None
    assert (q.grad[:, :, 3] == 0).all()
    heads = MultiHeadAttention(E, H).to(dtype)
    assert_same(heads(torch.randn(B, T, E, dtype=dtype), mask)[0][:, 3], heads.output.bias.expand(B, E))


def test_a_sequence_of_padding_alone_gives_finite_numbers_and_gradients() -> None:
    block = TransformerBlock(E, H, FF)
    real = tokens_and_padding()
    real[1] = 0
    block(torch.randn(B, T, E), padding_mask(real)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


def test_heads_are_slices_of_the_embedding() -> None:
    x = torch.randn(B, T, E)
    heads = split_heads(x, H)
    assert heads.shape == (B, H, T, E // H)
    for head in range(H):
        size = E // H
        assert torch.equal(heads[:, head], x[:, :, head * size : (head + 1) * size])
    assert torch.equal(merge_heads(heads), x)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 5), (3, 5), (5, 5)])
def test_the_queries_of_a_causal_mask_are_the_last_of_the_keys(queries: int, keys: int) -> None:
    mask = causal_mask(queries, keys)
    assert mask.dtype == torch.bool
    expected = [[key <= query for key in range(keys)] for query in range(keys - queries, keys)]
    assert mask.tolist() == expected


@pytest.mark.parametrize(("queries", "keys"), [(0, 0), (0, 3), (4, 3)])
def test_a_causal_mask_of_invalid_sizes_is_refused(queries: int, keys: int) -> None:
    with pytest.raises(UserError, match="1 <= queries <= keys"):
        causal_mask(queries, keys)


def test_large_scores_in_half_precision_stay_exact() -> None:
    q = torch.full((1, 1, 2, 4), 100.0, dtype=torch.bfloat16)
    output, weights = attention(q, q, torch.ones_like(q), causal_mask(2))
    assert torch.equal(weights[0, 0].float(), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert (output == 1).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_new_positions_can_use_cached_keys_and_values(norm_first: bool) -> None:
    """One position at a time with a cache equals all at once."""
    block, x = TransformerBlock(E, H, FF, norm_first=norm_first).double().eval(), torch.randn(B, T, E).double()
    expected, (_, expected_weights) = block(x, causal_mask(T)), block.attention(x, causal_mask(T))
    keys = values = torch.empty(B, H, 0, E // H, dtype=torch.float64)

    def cache(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal keys, values
        keys, values = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        return keys, values

    for t in range(T):
        output = block(x[:, t : t + 1], causal_mask(1, t + 1), cache)
        assert_same(output[:, 0], expected[:, t])
    keys = values = torch.empty(B, H, 0, E // H, dtype=torch.float64)
    for t in range(T):
        _, weights = block.attention(x[:, t : t + 1], causal_mask(1, t + 1), cache)
        assert weights.shape == (B, H, 1, t + 1)
        assert_same(weights[:, :, 0], expected_weights[:, :, t, : t + 1])


# -------------------------------------------------------------------------------------------------------------- dropout


def test_dropout_is_off_in_evaluation() -> None:
    theirs = torch_block(dropout=0.5).eval()
    block, x = TransformerBlock.from_torch(theirs), torch.randn(B, T, E)
    assert not block.training
    assert torch.equal(block(x), block(x))
    assert_same(block(x), TransformerBlock.from_torch(theirs.train()).eval()(x))
    with torch.no_grad():
        assert_same(block(x), theirs.eval()(x))  # torch's fused path, which it takes without gradients


def test_dropout_on_the_weights_is_unbiased_and_of_the_right_rate() -> None:
    p, layer = 0.3, MultiHeadAttention(1, 1, dropout=0.3)
    for linear, value in ((layer.query, 0.0), (layer.key, 0.0), (layer.value, 1.0), (layer.output, 1.0)):
        nn.init.constant_(linear.weight, value)
        nn.init.zeros_(linear.bias)
    x = torch.ones(4000, 10, 1)  # 10 weights of 1/10 each: the output is the fraction kept, over 1 - p
    output, weights = layer(x)
    assert_same(weights, torch.full_like(weights, 0.1), "weights before dropout")
    assert abs(output.mean().item() - 1.0) < 0.01
    assert abs(output.var().item() - p / (1 - p) / 10) < 0.003


def test_dropout_has_the_same_statistics_as_torch() -> None:
    """All four places: mean and spread over draws, of each of the 5 x 8 outputs, in both orders."""
    torch.manual_seed(1)
    for norm_first in (False, True):
        theirs = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.4, batch_first=True, norm_first=norm_first)
        randomize(theirs)
        x = torch.randn(1, 5, 8).expand(6000, 5, 8)
        ours = TransformerBlock.from_torch(theirs)
        assert ours.training
        with torch.no_grad():
            a, b = ours(x), theirs(x)
        error = (a.var(0) / 6000 + b.var(0) / 6000).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 5 * error).all()
        assert ((a.std(0) / b.std(0)) - 1).abs().max() < 0.12


@pytest.mark.parametrize("place", ["attention weights", "feed-forward", "residuals"])
def test_dropout_is_in_every_place(place: str) -> None:
    block, x = TransformerBlock(E, H, FF, dropout=0.9), torch.randn(B, T, E)
    if place == "attention weights":
        block.dropout.p = 0.0
        assert not torch.equal(block.attention(x)[0], block.attention(x)[0])
    elif place == "feed-forward":
        assert not torch.equal(block.feed_forward(x), block.feed_forward(x))
    else:
        block.attention.dropout.p = 0.0
        block.feed_forward = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        assert not torch.equal(block(x), block(x))


# ----------------------------------------------------------------------------------------------------------- from_torch


def test_copy_takes_batch_first_whatever_the_original_takes() -> None:
    for norm_first in (False, True):
        theirs, x = torch_block(batch_first=False, norm_first=norm_first), torch.randn(B, T, E)
        assert_same(TransformerBlock.from_torch(theirs)(x), theirs(x.transpose(0, 1)).transpose(0, 1))


def test_copy_keeps_settings_and_shares_nothing() -> None:
    theirs = torch_block(torch.float64, dropout=0.25, norm_first=True, layer_norm_eps=1e-7, activation="gelu").eval()
    theirs.norm2.eps, theirs.self_attn.dropout = 1e-3, 0.5
    ours = TransformerBlock.from_torch(theirs)
    assert (ours.dropout.p, ours.attention.dropout.p, ours.norm_first, ours.activation) == (0.25, 0.5, True, "gelu")
    assert (ours.norm1.eps, ours.norm2.eps, ours.ff_in.weight.dtype) == (1e-7, 1e-3, torch.float64)
    x = torch.randn(B, T, E).double()
    before = ours(x)
    nn.init.zeros_(theirs.linear1.weight)
    nn.init.zeros_(theirs.self_attn.in_proj_weight)
    nn.init.zeros_(theirs.norm1.weight)
    assert torch.equal(ours(x), before)


def test_copy_without_biases() -> None:
    theirs, x = torch_block(torch.float64, bias=False), torch.randn(B, T, E).double()
    ours = TransformerBlock.from_torch(theirs)
    assert_same(ours(x), theirs(x))
    assert [name for name, _ in ours.named_parameters() if "bias" in name] == []


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (F.relu, "relu"),
        (torch.relu, "relu"),
        (nn.ReLU(), "relu"),
        (F.gelu, "gelu"),
        (nn.GELU(), "gelu"),
        (nn.GELU(approximate="tanh"), "gelu_tanh"),
    ],
)
def test_copy_recognizes_activations(activation: object, name: str) -> None:
    theirs, x = torch_block(torch.float64, activation=activation), torch.randn(B, T, E).double()
    ours = TransformerBlock.from_torch(theirs)
    assert ours.activation == name
    assert_same(ours(x), theirs(x))


def test_gelu_tanh_is_the_published_approximation() -> None:
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    expected = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    assert_same(ACTIVATIONS["gelu_tanh"](x), expected)
    assert_same(ACTIVATIONS["gelu"](x), 0.5 * x * (1 + torch.erf(x / math.sqrt(2))))


class Subclass(nn.TransformerEncoderLayer):
    """A subclass, which could compute anything."""


def _with(**attributes: object) -> nn.TransformerEncoderLayer:
    layer = torch_block()
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: torch_block(activation=F.silu), "activation"),
        (lambda: torch_block(activation=lambda x: x), "activation"),
        (lambda: Subclass(E, H), "Subclass"),
        (lambda: nn.Linear(2, 2), "Linear"),
        (lambda: _with(dropout1=nn.Dropout(0.7)), "dropout"),
        (lambda: _with(self_attn=nn.MultiheadAttention(E, H, add_zero_attn=True)), "add_zero_attn"),
        (lambda: _with(self_attn=nn.MultiheadAttention(E, H, add_bias_kv=True)), "add_bias_kv"),
        (lambda: _with(self_attn=nn.MultiheadAttention(E, H, kdim=5)), "kdim"),
    ],
)
def test_copy_refuses_what_it_cannot_represent(layer, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TransformerBlock.from_torch(layer())


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiHeadAttention(10, 3), "embed_dim 10 must be a multiple of num_heads 3"),
        (lambda: MultiHeadAttention(8, 0), "num_heads must be at least 1, not 0"),
        (lambda: MultiHeadAttention(8, -2), "num_heads"),
        (lambda: MultiHeadAttention(8, 2, dropout=1.5), "dropout must be between 0 and 1"),
        (lambda: SimpleSelfAttention(0), "embed_dim"),
        (lambda: TransformerBlock(10, 3, 8), "multiple"),
        (lambda: TransformerBlock(8, 2, 0), "ff_dim"),
        (
            lambda: TransformerBlock(8, 2, 8, activation="swish"),
            "activation must be one of relu, gelu, gelu_tanh: 'swish'",
        ),
        (lambda: causal_mask(0), "queries"),
        (lambda: padding_mask(torch.ones(3)), "attention_mask"),
        (lambda: padding_mask(torch.tensor([[0.0, -1e9]])), "1 for tokens and 0 for padding"),
        (lambda: TransformerBlock(E, H, FF)(torch.randn(T, E)), r"x must be \(batch, time, 24\), not \(7, 24\)"),
        (lambda: TransformerBlock(E, H, FF)(torch.randn(B, T, E + 1)), "x must be"),
        (lambda: SimpleSelfAttention(E)(torch.ones(B, T, dtype=torch.long)), "x must be"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(make, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8], ids=str)
def test_masks_that_are_not_boolean_are_refused(dtype: torch.dtype) -> None:
    for layer in (SimpleSelfAttention(E), MultiHeadAttention(E, H), TransformerBlock(E, H, FF)):
        with pytest.raises(UserError, match=r"boolean.*True where attention is allowed"):
            layer(torch.randn(B, T, E), torch.ones(T, T, dtype=dtype))


@pytest.mark.parametrize(
    "shape",
    [
        (T + 1,),
        (B, T),
        (T + 1, T),
        (B, T, T),
        (B * H, T, T),
        (B, 1, 1, T + 1),
        (2, 1, T, T),
        (B, 2, T, T),
        (B, 1, 2, T),
        (1, B, H, T, T),
    ],
    ids=str,
)
def test_masks_that_do_not_broadcast_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="does not broadcast"):
        MultiHeadAttention(E, H)(torch.randn(B, T, E), torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize(
    "shape",
    [(), (T,), (1, T), (T, 1), (T, T), (H, T, T), (B, 1, 1, T), (B, 1, T, T), (1, H, T, T), (B, H, T, T), (1, 1, 1, T)],
    ids=str,
)
def test_masks_mean_what_they_broadcast_to(shape: tuple[int, ...]) -> None:
    layer, x, mask = MultiHeadAttention(E, H), torch.randn(B, T, E), torch.rand(shape) < 0.6
    for given_mask, full in zip(layer(x, mask), layer(x, mask.expand(B, H, T, T).clone()), strict=True):
        assert torch.equal(given_mask, full)


def test_padding_mask_takes_numbers_and_booleans() -> None:
    mask = padding_mask(tokens_and_padding())
    assert mask.shape == (B, 1, 1, T)
    assert mask.dtype == torch.bool
    assert mask[1, 0, 0].tolist() == [True] * 4 + [False] * 3
    assert torch.equal(padding_mask(tokens_and_padding().bool()), mask)


# ----------------------------------------------------------------------------------------------------- running the file


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "transformer_block.py", *arguments]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False)


def test_running_the_file(tmp_path: Path) -> None:
    done = run("--output_dir", str(tmp_path), "--seed", "5", "--num_heads", "2", "--length", "6")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "transformer_block.json").read_text(encoding="utf-8"))
    (figure,) = record["figures"]
    assert figure["ok"]
    assert 0 < figure["value"] <= 1e-5
    assert len(record["results"]["ladder"]) == 6
    assert all(row["rung"] in done.stdout and row["to_torch"] in done.stdout for row in record["results"]["ladder"])
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attention.png", "transformer_block.json"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--num_heads", "3"], "embed_dim 64 must be a multiple of num_heads 3"), (["--length", "0"], "length")],
)
def test_an_invalid_flag_is_refused_in_one_line(tmp_path: Path, flags: list[str], message: str) -> None:
    done = run("--output_dir", str(tmp_path / "new"), *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_the_lessons_show_what_the_committed_run_printed(tmp_path: Path) -> None:
    """The ladder in README.md is the one in results/transformer_block.json, and the names it points to exist."""
    lesson = (FOLDER / "README.md").read_text(encoding="utf-8")
    # as committed: the reader's runs may have replaced the file, and rounding differs between processors
    committed = extract_committed(tmp_path, f"{FOLDER.name}/results/transformer_block.json") / FOLDER.name
    record = json.loads((committed / "results/transformer_block.json").read_text(encoding="utf-8"))
    for row in record["results"]["ladder"]:
        (line,) = [line for line in lesson.splitlines() if line.strip().startswith(row["rung"])]
        before, to_torch, reference = line.split()[-3:]
        assert [before, to_torch, reference] == [row["to_before"], row["to_torch"], row["reference"]]
    assert f"largest difference from torch.nn: {record['figures'][0]['value']}" in lesson
    code = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "tests").glob("test_*.py"))
    lessons = [FOLDER / "README.md", *FOLDER.glob("*/README.md")]
    pointed_to = [name for page in lessons for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))]
    assert len(pointed_to) >= 20
    assert [name for name in pointed_to if f"def {name}(" not in code] == []


def test_the_approximate_gelu_and_its_gradient_are_torchs() -> None:
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64, requires_grad=True)
    ours, theirs = ACTIVATIONS["gelu_tanh"](x), F.gelu(x, approximate="tanh")
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    weights = torch.linspace(1, 2, 1001, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(ours, x, weights)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, x, weights)[0], atol=1e-12, rtol=1e-12)
    with torch.no_grad():
        assert torch.equal(ACTIVATIONS["gelu_tanh"](x), theirs)
