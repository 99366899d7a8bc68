"""Fast products equal the plain ones; 16 and 8 bits stay as close as their rounding allows, and cost little."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lab.errors import UserError
from lab.files import ROOT
from models.generation import LayerCache
from models.gpt2 import GPT2
from speed import quantization
from speed.quantization import (
    PRECISIONS,
    EightBits,
    FastBlock,
    PackedFloat16,
    PackedInt8,
    Shared,
    SixteenBits,
    maker,
    quantize,
    side_by_side,
)
from transformer_block import CAUSAL, TransformerBlock, causal_mask, padding_mask

FBGEMM = pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="needs FBGEMM")
SHIPPED = ROOT / "assets/models/language"


@pytest.fixture(autouse=True)
def _seed_and_threads() -> Iterator[None]:
    """One thread, but where products are shared out among several."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stored_by_inputs(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    linear.weight = nn.Parameter(torch.randn(inputs, outputs).t())
    return linear


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(24,), (1, 1, 24), (3, 24), (2, 5, 24), (8, 4, 24), (33, 24)], ids=str)
def test_sharing_out_the_inputs_gives_the_same_product(shape: tuple[int, ...], threads: int) -> None:
    torch.set_num_threads(threads)
    linear, x = stored_by_inputs(24, 31), torch.randn(shape)
    torch.testing.assert_close(Shared(linear)(x), linear(x))
    embedding = nn.Embedding(31, 24, _weight=linear.weight.detach())
    torch.testing.assert_close(Shared(embedding)(x), x @ linear.weight.t())


def test_a_row_is_really_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    calls: list[tuple[int, ...]] = []
    batched = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: calls.append((*a.shape, b.shape[2])) or batched(a, b))
    Shared(stored_by_inputs(24, 31))(torch.randn(1, 1, 24))
    assert calls == [(2, 1, 12, 31)]


@pytest.mark.parametrize("shape", [(4, 3), (6,)], ids=str)
def test_tensors_side_by_side_are_one_without_a_copy(shape: tuple[int, ...]) -> None:
    whole = torch.randn(3 * shape[0], *shape[1:]).t().contiguous().t()
    parts = list(whole.split(shape[0]))
    assert torch.equal(side_by_side(parts), whole)
    assert side_by_side(parts).data_ptr() == whole.data_ptr()
    for other in (parts[::-1], [parts[0], parts[2]], [part.clone() for part in parts]):
        assert torch.equal(side_by_side(other), torch.cat(other))


def a_block(activation: str, scale: float = 0.4) -> TransformerBlock:
    block = TransformerBlock(24, 4, 40, dropout=0.3, activation=activation, norm_first=True, eps=1e-3).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=scale)
    return block


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "relu"])
@torch.inference_mode()
def test_a_fast_block_equals_the_block(activation: str, precision: str) -> None:
    plain, limit = a_block(activation), {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2, "int8": 0.1}[precision]
    fast, x = FastBlock(plain, maker(precision, torch.device("cpu"))), torch.randn(3, 7, 24)
    padding = padding_mask((torch.arange(7) >= torch.tensor([[0], [3], [7]])).long())
    for mask in (None, causal_mask(7), CAUSAL, causal_mask(7) & padding):
        expected, expected_weights = plain.run(x, mask)
        for need_weights in (True, False):
            found, weights = fast.run(x, mask, need_weights=need_weights)
            assert relative_error(found, expected) < limit
        assert weights is None
        assert expected_weights is not None
        inside = fast.run(x, mask)[1]
        assert inside is not None
        assert relative_error(inside, expected_weights) < limit


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.inference_mode()
def test_a_fast_block_with_a_cache_in_pieces_of_any_length_equals_all_at_once(precision: str) -> None:
    fast = FastBlock(a_block("gelu_tanh"), maker(precision, torch.device("cpu")))
    x, mask = torch.randn(2, 12, 24), causal_mask(12)
    expected, _ = fast.run(x, mask, need_weights=False)
    for lengths in ([12], [1] * 12, [5, 1, 1, 1, 3, 1], [3, 4, 5]):
        cache = LayerCache(torch.full((2, 2, 4, 12, 6), torch.nan))
        found, start = [], 0
        for length in lengths:
            end = start + length
            rows = None if length == 1 else mask[start:end, :end]
            found.append(fast.run(x[:, start:end], rows, cache, need_weights=False)[0])
            start = end
        assert cache.length == 12
        limit = 0.05 if precision == "int8" else 1e-2 if precision == "bfloat16" else 1e-5  # inputs are rounded
        assert relative_error(torch.cat(found, 1), expected) < limit


# ------------------------------------------------------------------------------------------------------- 16 and 8 bits


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(1e-6, 1e6), st.integers(0, 2**31))
def test_int8_is_off_by_half_a_step_at_most(outputs: int, inputs: int, size: float, seed: int) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(outputs, inputs) * size
    weight[0] = 0.0
    numbers, scale = quantize(weight)
    assert numbers.dtype == torch.int8
    assert numbers.abs().max() <= 127
    assert ((numbers * scale[:, None] - weight).abs() <= 0.5001 * scale[:, None]).all()
    largest = weight.abs().amax(1)
    torch.testing.assert_close(scale[1:] * 127, largest[1:])


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", [(1, 1, 768), (3, 5, 768)], ids=str)
@pytest.mark.parametrize(
    ("kind", "options", "limit"),
    [
        pytest.param(PackedFloat16, {}, 5e-4, marks=FBGEMM),
        (SixteenBits, {"dtype": torch.float16}, 1e-3),
        (SixteenBits, {"dtype": torch.bfloat16}, 6e-3),
        pytest.param(PackedInt8, {}, 2.5e-2, marks=FBGEMM),
        (EightBits, {}, 1.2e-2),
    ],
)
def test_a_product_is_as_close_as_its_bits(
    kind: Any, options: dict[str, Any], limit: float, shape: tuple[int, ...]
) -> None:
    weight, bias, x = torch.randn(300, 768) * 0.02, torch.randn(300), torch.randn(shape)
    expected = F.linear(x, weight, bias)
    found = kind(weight, bias, **options)(x)
    assert found.dtype == torch.float32
    assert 0 < relative_error(found, expected) < limit
    assert relative_error(kind(weight, None, **options)(x), expected - bias) < 2 * limit


@FBGEMM
def test_packed_int8_is_the_plain_one_with_rounded_inputs() -> None:
    """Rounding the inputs to 8 bits by hand, 7 of which are used on x86, and then the plain rung: nothing else differs.

    The kernel's scale is (max - min) / 127, its zero the whole number that stands for 0.
    """
    weight, bias, x = torch.randn(40, 64), torch.randn(40), torch.randn(3, 64)
    scale = (x.max() - x.min()) / 127
    zero = (-x.min() / scale).round()
    rounded = ((x / scale).round() + zero).clamp(0, 127).sub(zero) * scale
    torch.testing.assert_close(PackedInt8(weight, bias)(x), EightBits(weight, bias)(rounded), rtol=1e-3, atol=1e-3)


def bits_a_token(model: GPT2) -> float:
    """Cross-entropy of the shipped model on tokens that it likes: those it drew itself, in float32."""
    generator = torch.Generator().manual_seed(0)
    tokens = GPT2.from_pretrained(SHIPPED).generate(
        torch.zeros(4, 1, dtype=torch.long), max_new_tokens=100, temperature=1.0, generator=generator
    )
    with torch.no_grad():
        logits = model(tokens[:, :-1])  # (B, T, V)
    return float(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()) / torch.tensor(2.0).log())


@pytest.mark.parametrize("plain", [False, True], ids=["fast", "plain"])
@pytest.mark.parametrize(("precision", "limit"), [("float16", 0.002), ("bfloat16", 0.02), ("int8", 0.05)])
def test_the_shipped_model_loses_little(
    precision: str, limit: float, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr(quantization, "HAS_FBGEMM", False)
    expected, model = bits_a_token(GPT2.from_pretrained(SHIPPED)), GPT2.from_pretrained(SHIPPED, precision)
    kinds = {"float16": SixteenBits, "bfloat16": SixteenBits, "int8": EightBits}
    assert isinstance(model.head, kinds[precision]) or not plain
    assert abs(bits_a_token(model) - expected) <= limit * expected


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_a_packed_model_generates_with_and_without_a_cache(precision: str) -> None:
    model, prompt = GPT2.from_pretrained(SHIPPED, precision), torch.tensor([[5, 6, 7]])
    found = model.generate(prompt, max_new_tokens=30)
    assert found.shape == (1, 33)
    if precision != "int8":  # there, the rounding of the inputs depends on what else is in the product
        assert found.tolist() == model.generate(prompt, max_new_tokens=30, use_cache=False).tolist()
    inside = model.look_inside(prompt)
    with torch.no_grad():
        torch.testing.assert_close(inside.logits, model(prompt), rtol=1e-3, atol=1e-3)


def test_a_packed_model_has_freed_its_plain_blocks() -> None:
    model = GPT2.from_pretrained(SHIPPED, "int8")
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"tokens", "positions", "norm"}


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="float32, float16, bfloat16, int8, not 'int4'"):
        GPT2.from_pretrained(tmp_path, "int4")
