"""Accelerated models equal the plain ones; 16 and 8 bits stay within their rounding error, and cost little accuracy."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lab.errors import UserError
from lab.files import ROOT
from models.distilbert import DistilBertClassifier
from models.generation import KVCache, Sampling, generate
from models.gpt2 import GPT2
from speed import PRECISIONS, accelerate, kernels
from speed.accelerated import layer_sizes
from speed.choice import LinearFactory, choose, linear_factory
from speed.inference_block import ScriptedBlock
from speed.linear_layers import (
    BagLinear,
    OneDnnBagLinear,
    OneDnnRows,
    OneDnnSplitLinear,
    SplitLinear,
    concat_views,
    layers_of,
    stacked_parameters,
)
from speed.quantization import Int8Linear, PackedInt8Linear, quantize
from transformer_block import TransformerBlock, causal_mask, padding_mask

CPU = torch.zeros(())
FBGEMM = pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="needs FBGEMM")
BUNDLED = ROOT / "assets/models/language"
CLASSIFIER = ROOT / "assets/models/sentiment"


@pytest.fixture(autouse=True)
def _seed_and_threads() -> Iterator[None]:
    """One thread, except where products are split over several."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stored_by_inputs(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    linear.weight = nn.Parameter(torch.randn(inputs, outputs).t())
    return linear


@pytest.mark.parametrize("kind", [SplitLinear, OneDnnSplitLinear, BagLinear, OneDnnBagLinear])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (1, 1, 24), (3, 24), (2, 5, 24), (8, 4, 24), (33, 24)], ids=str)
@torch.no_grad()
def test_splitting_the_inputs_gives_the_same_product(shape: tuple[int, ...], threads: int, kind: type) -> None:
    if issubclass(kind, OneDnnRows) and kernels.onednn_linear is None:
        pytest.skip("PyTorch was built without oneDNN")
    torch.set_num_threads(threads)
    linear, x = stored_by_inputs(24, 31), torch.randn(shape)
    layer = kind(*stacked_parameters(linear))
    for form in (layer, kernels.scripted(layer, CPU.device)):
        torch.testing.assert_close(form(x), linear(x))
    embedding = nn.Embedding(31, 24, _weight=linear.weight.detach())
    torch.testing.assert_close(kind(*stacked_parameters(embedding))(x), x @ linear.weight.t())


@pytest.mark.parametrize(
    ("inputs", "threads", "bags"), [(24, 2, [0, 12]), (25, 2, [0, 13]), (1, 4, [0]), (9, 4, [0, 3, 6])]
)
def test_each_thread_has_a_bag_of_embeddings(inputs: int, threads: int, bags: list[int]) -> None:
    torch.set_num_threads(threads)
    linear, x = stored_by_inputs(inputs, 31), torch.randn(1, 1, inputs)
    layer = BagLinear(*stacked_parameters(linear))
    assert layer.starts.tolist() == bags
    assert layer.weight.data_ptr() == linear.weight.data_ptr()
    parts = layer.partial_sums(x.flatten())
    for number, start in enumerate(bags):
        end = [*bags, inputs][number + 1]
        torch.testing.assert_close(parts[number], linear.weight[:, start:end] @ x[0, 0, start:end])
    torch.testing.assert_close(layer(x), linear(x))


def test_a_single_row_is_really_split(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    calls: list[tuple[int, ...]] = []
    batched = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: calls.append((*a.shape, b.shape[2])) or batched(a, b))
    linear = stored_by_inputs(24, 31)
    layer = SplitLinear(*stacked_parameters(linear))
    layer(torch.randn(1, 1, 24))
    assert calls == [(2, 1, 12, 31)]
    assert layer.weight.data_ptr() == linear.weight.data_ptr()
    with pytest.raises(ValueError, match="25 inputs cannot be divided by 2 threads"):
        SplitLinear(torch.randn(31, 25), None)


@pytest.mark.parametrize("shape", [(4, 3), (6,)], ids=str)
def test_tensors_concat_views_are_one_without_a_copy(shape: tuple[int, ...]) -> None:
    whole = torch.randn(3 * shape[0], *shape[1:]).t().contiguous().t()
    parts = list(whole.split(shape[0]))
    assert torch.equal(concat_views(parts), whole)
    assert concat_views(parts).data_ptr() == whole.data_ptr()
    for other in (parts[::-1], [parts[0], parts[2]], [part.clone() for part in parts]):
        assert torch.equal(concat_views(other), torch.cat(other))


def first_layers(precision: str) -> LinearFactory:
    """Return a function that makes the layers that work everywhere."""
    make = next(iter(layers_of(precision, CPU, 1).values()))
    return lambda *plain: make(*stacked_parameters(*plain))


def a_block(activation: str, norm_first: bool, scale: float = 0.4) -> TransformerBlock:
    block = TransformerBlock(24, 4, 40, dropout=0.3, activation=activation, norm_first=norm_first, eps=1e-3).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=scale)
    return block


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "relu"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
@torch.inference_mode()
def test_a_scripted_block_equals_the_block(norm_first: bool, activation: str, precision: str) -> None:
    limit = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2, "int8": 0.1}[precision]
    plain = a_block(activation, norm_first)
    make = linear_factory(precision, choose(precision, layer_sizes([plain]), 8, CPU), CPU)
    x = torch.randn(3, 7, 24)
    padding = padding_mask((torch.arange(7) >= torch.tensor([[0], [3], [7]])).long())
    for mask in (None, causal_mask(7), causal_mask(7) & padding):
        expected = plain(x, mask)
        assert relative_error(ScriptedBlock(plain, make)(x, mask), expected) < limit
    first = ScriptedBlock(plain, make, first_only=True)(x, padding)
    assert first.shape == (3, 1, 24)
    assert relative_error(first, plain(x, padding)[:, :1]) < limit


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.inference_mode()
def test_a_scripted_block_with_a_cache_in_pieces_of_any_length_equals_all_at_once(precision: str) -> None:
    fast = ScriptedBlock(a_block("gelu_tanh", True), first_layers(precision))
    x, mask = torch.randn(2, 12, 24), causal_mask(12)
    expected = fast(x, mask)
    for lengths in ([12], [1] * 12, [5, 1, 1, 1, 3, 1], [3, 4, 5]):
        cache = KVCache(torch.full((2, 2, 4, 12, 6), torch.nan))
        outputs, start = [], 0
        for length in lengths:
            end = start + length
            rows = None if length == 1 else mask[start:end, :end]
            outputs.append(fast(x[:, start:end], rows, cache))
            start = end
        assert cache.length == 12
        limit = 0.05 if precision == "int8" else 1e-2 if precision == "bfloat16" else 1e-5  # inputs are rounded
        assert relative_error(torch.cat(outputs, 1), expected) < limit


# -------------------------------------------------------------------------------------------------------- 16 and 8 bits


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(1e-6, 1e6), st.integers(0, 2**31))
def test_int8_is_off_by_half_a_step_at_most(outputs: int, inputs: int, size: float, seed: int) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(outputs, inputs) * size
    weight[0] = 0.0
    q_weight, scale = quantize(weight)
    assert q_weight.dtype == torch.int8
    assert q_weight.abs().max() <= 127
    assert ((q_weight * scale[:, None] - weight).abs() <= 0.5001 * scale[:, None]).all()
    largest = weight.abs().amax(1)
    torch.testing.assert_close(scale[1:] * 127, largest[1:])


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("rows", [1, 8, 256])
@pytest.mark.parametrize("precision", PRECISIONS)
@torch.inference_mode()
def test_a_product_of_every_kernel_is_as_close_as_its_bits(precision: str, rows: int) -> None:
    limit = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 6e-3, "int8": 2.5e-2}[precision]
    weight, bias = torch.randn(300, 768) * 0.02, torch.randn(300)
    computed: list[str] = []
    for name, make in layers_of(precision, CPU, rows).items():
        try:
            layer = kernels.scripted(make(weight, bias), weight.device)
        except RuntimeError:
            if "onednn" in name and precision == "float16":  # on some processors only
                continue
            raise
        for x in (torch.randn(rows, 1, 768), torch.randn(1, rows + 1, 768)):
            actual, expected = layer(x), F.linear(x, weight, bias)
            assert actual.dtype == torch.float32
            assert actual.shape == expected.shape
            assert relative_error(actual, expected) < limit, name
            assert name == "plain" or precision == "float32" or not actual.equal(expected)
            assert relative_error(make(weight, None)(x), expected - bias) < 2 * limit, name
        computed.append(name)
    assert computed[0] == "plain"
    assert {"split", "bag"} & set(computed) == ({"split", "bag"} if precision == "float32" and rows == 1 else set())
    assert sum(name.startswith("float32 ") for name in computed) in (0, len(layers_of("float32", CPU, rows)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from([1, 8, 256]), st.integers(0, 2**31))
def test_every_kernel_computes_or_refuses_every_size(outputs: int, inputs: int, rows: int, seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(2)
    weight, bias, x = torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(rows, 1, inputs)
    expected = F.linear(x, weight, bias)
    for precision in PRECISIONS:
        for name, make in layers_of(precision, CPU, rows).items():
            try:
                actual = make(weight, bias)(x)
            except (RuntimeError, ValueError):
                assert name not in ("plain", "fbgemm", "float32 plain")
                continue
            if precision == "int8":
                limit = torch.full_like(expected, 0.1 * float(weight.abs().max()) * inputs)
            else:  # weights, inputs, bias and result are rounded
                bits = {"float32": 18, "float16": 11, "bfloat16": 8}[precision]
                limit = 4 * 2**-bits * F.linear(x.abs(), weight.abs(), bias.abs())  # (R, 1, I) -> (R, 1, O)
            assert ((actual - expected).abs() <= limit + 1e-4).all(), (name, precision)


@FBGEMM
def test_packed_int8_is_the_plain_one_with_rounded_inputs() -> None:
    """Equal to the plain layer with its inputs rounded to 8 bits by hand, of which x86 uses 7: nothing else differs.

    The kernel's scale is (max - min) / 127, its zero the whole number that stands for 0.
    """
    weight, bias, x = torch.randn(40, 64), torch.randn(40), torch.randn(3, 64)
    scale = (x.max() - x.min()) / 127
    zero = (-x.min() / scale).round()
    rounded = ((x / scale).round() + zero).clamp(0, 127).sub(zero) * scale
    torch.testing.assert_close(
        PackedInt8Linear(weight, bias)(x), Int8Linear(weight, bias)(rounded), rtol=1e-3, atol=1e-3
    )


def bits_per_token(model: GPT2) -> float:
    """Cross-entropy of the bundled model on tokens that it sampled itself, in float32."""
    generator = torch.Generator().manual_seed(0)
    start = torch.zeros(4, 1, dtype=torch.long)
    plain = GPT2.from_pretrained(BUNDLED)
    tokens = generate(plain, start, max_new_tokens=100, sampling=Sampling(temperature=1.0), generator=generator)
    with torch.no_grad():
        logits = model(tokens[:, :-1])  # (B, T, V)
    return float(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()) / torch.tensor(2.0).log())


def without_fbgemm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prepack_float16", "linear_float16", "prepack_int8", "linear_int8"):
        monkeypatch.setattr(kernels, name, None)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("precision", "limit"), [("float16", 0.002), ("bfloat16", 0.02), ("int8", 0.05)])
def test_the_bundled_model_loses_little(
    precision: str, limit: float, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packed:
        without_fbgemm(monkeypatch)
    plain = GPT2.from_pretrained(BUNDLED)
    expected, model = bits_per_token(plain), accelerate(plain, precision)
    assert abs(bits_per_token(model) - expected) <= limit * expected


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("precision", "limit"), [("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 5e-2), ("int8", 0.1)]
)
def test_the_bundled_classifier_gives_nearly_the_same_probabilities(
    precision: str, limit: float, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packed:
        without_fbgemm(monkeypatch)
    plain = DistilBertClassifier.from_pretrained(CLASSIFIER)
    texts = [[2, *range(10 * size, 11 * size), 3] for size in range(5, 40)]
    expected = plain.predict(texts)
    assert (accelerate(plain, precision).predict(texts) - expected).abs().max() <= limit


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_accelerated_model_generates_with_and_without_a_cache(precision: str) -> None:
    plain, prompt = GPT2.from_pretrained(BUNDLED), torch.tensor([[5, 6, 7]])
    model = accelerate(plain, precision)
    tokens = generate(model, prompt, max_new_tokens=30)
    assert tokens.shape == (1, 33)
    if precision == "float32":
        assert tokens.tolist() == generate(plain, prompt, max_new_tokens=30).tolist()
    if precision != "int8":  # there, the rounding of the inputs depends on what else is in the product
        assert tokens.tolist() == generate(model, prompt, max_new_tokens=30, use_cache=False).tolist()


def test_an_accelerated_model_in_few_bits_holds_no_plain_blocks() -> None:
    model = accelerate(GPT2.from_pretrained(BUNDLED), "int8")
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"token_embeddings", "position_embeddings", "norm"}


def test_only_the_last_block_of_a_classifier_computes_its_first_position_only() -> None:
    model = accelerate(DistilBertClassifier.from_pretrained(CLASSIFIER))
    assert len(model.blocks) > 1
    *others, last = [block(torch.randn(2, 5, model.config.dim)) for block in model.blocks]
    assert [tuple(output.shape[:2]) for output in others] == [(2, 5)] * len(others)
    assert last.shape[:2] == (2, 1)


def test_an_accelerated_model_has_no_gradients() -> None:
    for model, ids in (
        (GPT2.from_pretrained(BUNDLED), [[5, 6]]),
        (DistilBertClassifier.from_pretrained(CLASSIFIER), [[2, 3]]),
    ):
        assert model(torch.tensor(ids)).requires_grad
        assert not accelerate(model)(torch.tensor(ids)).requires_grad


def test_what_cannot_be_accelerated_is_refused() -> None:
    plain = GPT2.from_pretrained(BUNDLED)
    with pytest.raises(UserError, match="float32, float16, bfloat16, int8, not 'int4'"):
        accelerate(plain, "int4")
    with pytest.raises(UserError, match="accelerated already"):
        accelerate(accelerate(plain))
    with pytest.raises(UserError, match=r"call model.float\(\) first"):
        accelerate(GPT2.from_pretrained(BUNDLED).double(), "int8")
    with pytest.raises(UserError, match="not Linear"):
        accelerate(nn.Linear(2, 2))  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("number", [torch.nan, -torch.inf])
def test_weights_that_are_no_numbers_are_not_accelerated(precision: str, number: float) -> None:
    for model in (GPT2.from_pretrained(BUNDLED), DistilBertClassifier.from_pretrained(CLASSIFIER)):
        model.blocks[0].ff_in.weight.data[1, 2] = number
        with pytest.raises(UserError, match="NaN or infinite"):
            accelerate(model, precision)


def test_float16_refuses_weights_beyond_its_range() -> None:
    model = GPT2.from_pretrained(BUNDLED)
    model.blocks[0].ff_in.weight.data[1, 2] = -1e5
    with pytest.raises(UserError, match="float16 holds numbers up to 65504, and the weights reach 100000; choose bfl"):
        accelerate(model, "float16")
    accelerate(model, "bfloat16")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_autocast_changes_nothing_in_an_accelerated_model(precision: str) -> None:
    ids = torch.tensor([[2, 3, 4, 5]])
    for model in (GPT2.from_pretrained(BUNDLED), DistilBertClassifier.from_pretrained(CLASSIFIER)):
        accelerated = accelerate(model, precision)
        expected = accelerated(ids)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(accelerated(ids), expected)
            assert torch.is_autocast_enabled("cpu")


def test_an_accelerated_model_keeps_its_type_and_the_plain_one_its_own() -> None:
    ids = torch.tensor([[2, 3]])
    for model in (GPT2.from_pretrained(BUNDLED), DistilBertClassifier.from_pretrained(CLASSIFIER)):
        expected = model(ids)
        accelerated = accelerate(model)
        for change in (accelerated.double, lambda each=accelerated: each.to("cpu")):
            with pytest.raises(UserError, match="accelerate the plain one again"):
                change()
        assert torch.equal(model(ids), expected)


def test_an_accelerated_model_is_neither_saved_nor_looked_into(tmp_path: Path) -> None:
    gpt2 = accelerate(GPT2.from_pretrained(BUNDLED))
    bert = accelerate(DistilBertClassifier.from_pretrained(CLASSIFIER))
    ids = torch.tensor([[2, 3]])
    for refused in (
        lambda: gpt2.save_pretrained(tmp_path),
        lambda: gpt2.forward_with_internals(ids),
        lambda: bert.forward_with_internals(ids),
    ):
        with pytest.raises(UserError, match="ask the plain model"):
            refused()
    assert list(tmp_path.iterdir()) == []


REMOVED = """
import sys
sys.path[:0] = [{project!r}, {root!r}]
import torch
for namespace, name in (("mkldnn", "_linear_pointwise"), ("mkldnn", "_reorder_linear_weight"),
                        ("quantized", "linear_prepack_fp16"),
                        ("quantized", "linear_dynamic_fp16"), ("quantized", "linear_prepack"),
                        ("quantized", "linear_dynamic")):
    package = getattr(torch.ops, namespace)
    setattr(package, name, None)
del torch._make_per_channel_quantized_tensor, torch.jit.script
from models.distilbert import DistilBertClassifier
from models.generation import generate
from models.gpt2 import GPT2
from speed import PRECISIONS, accelerate, kernels
from speed.onednn import use_onednn_linear
assert kernels.onednn_linear is None and kernels.script is None and not kernels.has_packed_int8()
plain, prompt = GPT2.from_pretrained({language!r}), torch.tensor([[5, 6, 7]])
for precision in PRECISIONS:
    print(precision, *generate(accelerate(plain, precision), prompt, max_new_tokens=8)[0].tolist())
classifier = DistilBertClassifier.from_pretrained({classifier!r})
for precision in PRECISIONS:
    print(precision, *(round(p, 2) for p in accelerate(classifier, precision).predict([[2, 500, 600, 3]])[0].tolist()))
x, weight = torch.randn(2000, 64, requires_grad=True), torch.randn(96, 64)
with use_onednn_linear():
    torch.nn.functional.linear(x, weight).sum().backward()
assert torch.allclose(x.grad, weight.sum(0).expand(2000, 64), atol=1e-3)
"""


def test_all_works_without_the_private_and_deprecated_operators() -> None:
    """In its own process, in which they are removed before anything is imported."""
    project = ROOT / "02_transformer_basics"
    program = REMOVED.format(project=str(project), root=str(ROOT), language=str(BUNDLED), classifier=str(CLASSIFIER))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    plain, prompt = GPT2.from_pretrained(BUNDLED), torch.tensor([[5, 6, 7]])
    expected = generate(plain, prompt, max_new_tokens=8)[0].tolist()
    assert lines[0] == " ".join(["float32", *map(str, expected)])
    assert len(lines) == 8
    classifier = DistilBertClassifier.from_pretrained(CLASSIFIER)
    probabilities = classifier.predict([[2, 500, 600, 3]])[0].tolist()
    for line in lines[4:]:
        assert [float(p) for p in line.split()[1:]] == pytest.approx(probabilities, abs=0.03)
