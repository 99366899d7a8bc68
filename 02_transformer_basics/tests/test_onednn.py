"""`use_onednn_linear` equals PyTorch, forward and backward, and does not affect other operations."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from language_model.training import evaluate_nll
from models.distilbert import DistilBertClassifier, DistilBertConfig
from models.gpt2 import GPT2, GPT2Config
from sentiment.metrics import logits_of
from speed import kernels, onednn
from speed.onednn import MIN_FLOPS, MIN_FLOPS_PER_TRANSPOSED_ELEMENT, is_supported, onednn_linear, use_onednn_linear

needs_onednn = pytest.mark.skipif(
    kernels.onednn_linear is None, reason="PyTorch was built without MKL or without oneDNN"
)
SMALL_BERT = DistilBertConfig(vocab_size=9, max_position_embeddings=8, dim=16, n_heads=2, n_layers=2, hidden_dim=16)
SHAPES = [
    ((300, 96), 160, "more outputs"),
    ((3, 100, 160), 96, "more inputs"),
    ((2, 3, 50, 64), 128, "four dimensions"),
    ((1100, 32), 32, "square"),
]


@pytest.fixture(autouse=True, params=[0, MIN_FLOPS_PER_TRANSPOSED_ELEMENT], ids=["all by oneDNN", "small by MKL"])
def every_product_is_large_enough(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(onednn, "MIN_FLOPS", 1)
    monkeypatch.setattr(onednn, "HAS_AVX512", True)
    monkeypatch.setattr(onednn, "MIN_FLOPS_PER_TRANSPOSED_ELEMENT", request.param)


def gradients(x: Tensor, weight: Tensor, bias: Tensor | None, grad_output: Tensor) -> list[Tensor]:
    """The product, then the gradients of its inputs."""
    inputs = [each.detach().clone().requires_grad_() for each in (x, weight, bias) if each is not None]
    output = F.linear(*inputs)
    return [output.detach(), *torch.autograd.grad(output, inputs, grad_output)]


@needs_onednn
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(("shape", "outputs", "name"), SHAPES)
def test_product_and_gradients_are_those_of_float64(
    shape: tuple[int, ...], outputs: int, name: str, has_bias: bool
) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(outputs, shape[-1])
    bias, grad_output = torch.randn(outputs) if has_bias else None, torch.randn(*shape[:-1], outputs)
    with use_onednn_linear():
        actual = gradients(x, weight, bias, grad_output)
    exact_values = gradients(x.double(), weight.double(), None if bias is None else bias.double(), grad_output.double())
    for ours, exact in zip(actual, exact_values, strict=True):
        torch.testing.assert_close(ours.double(), exact, atol=2e-4, rtol=1e-5)


@needs_onednn
@pytest.mark.parametrize(("inputs", "outputs", "by_onednn"), [(128, 512, 2), (256, 256, 2), (256, 2048, 3)])
def test_gradients_of_small_weights_are_left_to_mkl(
    inputs: int, outputs: int, by_onednn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN always computes the output and the gradient of the input; that of the weights only if they are large."""
    calls: list[int] = []
    monkeypatch.setattr(onednn, "MIN_FLOPS_PER_TRANSPOSED_ELEMENT", MIN_FLOPS_PER_TRANSPOSED_ELEMENT)
    monkeypatch.setattr(onednn, "onednn_linear", lambda *each: calls.append(1) or onednn_linear(*each))
    with use_onednn_linear():
        gradients(torch.randn(64, inputs), torch.randn(outputs, inputs), None, torch.randn(64, outputs))
    assert len(calls) == by_onednn


@needs_onednn
@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.booleans(), st.integers(0, 9))
def test_any_size_and_any_order_in_memory(
    rows: int, inputs: int, outputs: int, x_transposed: bool, weight_transposed: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*((inputs, rows) if x_transposed else (rows, inputs)), generator=generator)
    weight = torch.randn(*((inputs, outputs) if weight_transposed else (outputs, inputs)), generator=generator)
    x, weight = x.t() if x_transposed else x, weight.t() if weight_transposed else weight
    grad_output = torch.randn(rows, outputs, generator=generator)
    with use_onednn_linear():
        actual = gradients(x, weight, None, grad_output)
    for ours, theirs in zip(actual, gradients(x, weight, None, grad_output), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@needs_onednn
@pytest.mark.parametrize("frozen", ["x", "weight", "bias", "all"])
def test_inputs_that_need_no_gradient_get_none(frozen: str) -> None:
    tensors = {"x": torch.randn(8, 16), "weight": torch.randn(4, 16), "bias": torch.randn(4)}
    for name, tensor in tensors.items():
        tensor.requires_grad_(frozen not in (name, "all"))
    with use_onednn_linear():
        output = F.linear(*tensors.values())
    assert output.requires_grad == (frozen != "all")
    if frozen != "all":
        output.sum().backward()
    assert {name for name, tensor in tensors.items() if tensor.grad is None} == (
        set(tensors) if frozen == "all" else {frozen}
    )


def by_onednn(x: Tensor, weight: Tensor, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return True if oneDNN computes this product within the context."""
    called: list[int] = []

    def recorded(*tensors: Tensor) -> Tensor:
        called.append(1)
        return onednn_linear(*tensors)

    monkeypatch.setattr(onednn, "onednn_linear", recorded)
    with use_onednn_linear():
        F.linear(x, weight)
    return bool(called)


@needs_onednn
def test_large_float32_products_on_the_cpu_use_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "MIN_FLOPS", MIN_FLOPS)
    assert by_onednn(torch.randn(64, 128), torch.randn(128, 128), monkeypatch)
    assert by_onednn(torch.randn(2, 32, 128), torch.randn(128, 128, requires_grad=True), monkeypatch)


def measured() -> None:
    logits_of(DistilBertClassifier(SMALL_BERT), [[1, 2, 3]])


def validated() -> None:
    evaluate_nll(GPT2(GPT2Config(9, 8, 16, 1, 2)), torch.arange(9), 8)


@needs_onednn
@pytest.mark.parametrize("work", [measured, validated])
def test_evaluation_uses_onednn(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    monkeypatch.setattr(onednn, "onednn_linear", lambda *each: called.append(1) or onednn_linear(*each))
    work()
    assert called


@needs_onednn
@pytest.mark.parametrize(("rows", "avx512", "expected"), [(128, False, True), (129, False, False), (129, True, True)])
def test_without_avx512_only_few_rows_use_onednn(
    rows: int, avx512: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "HAS_AVX512", avx512)
    assert by_onednn(torch.randn(rows, 64), torch.randn(32, 64), monkeypatch) is expected
    assert by_onednn(torch.randn(1, rows, 64), torch.randn(32, 64), monkeypatch) is expected


@pytest.mark.parametrize("why", ["small", "float64", "one row", "one dimension", "autocast", "not there"])
def test_all_other_products_use_pytorch(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(64, 128), torch.randn(128, 128)
    if why == "small":
        monkeypatch.setattr(onednn, "MIN_FLOPS", x.numel() * 128 + 1)
    if why == "float64":
        x, weight = x.double(), weight.double()
    if why == "one row":
        x = x[:1]
    if why == "one dimension":
        x = x[0]
    if why == "not there":
        monkeypatch.setattr(kernels, "onednn_linear", None)
    with torch.autocast("cpu", torch.bfloat16, enabled=why == "autocast"):
        assert not by_onednn(x, weight, monkeypatch)
        assert not is_supported(x.to("meta"), weight.to("meta"))


BIASES: dict[str, Callable[[], Tensor]] = {
    "every fourth": lambda: torch.randn(512)[::4],
    "expanded": lambda: torch.randn(1).expand(128),
    "one number": lambda: torch.randn(1),
    "one row": lambda: torch.randn(1, 128),
    "a row for each": lambda: torch.randn(64, 128),
}


@pytest.mark.parametrize("kind", BIASES)
def test_any_bias_gives_what_pytorch_gives(kind: str) -> None:
    x, weight, bias = torch.randn(64, 256), torch.randn(128, 256), BIASES[kind]()
    expected = F.linear(x, weight, bias)
    with use_onednn_linear():
        torch.testing.assert_close(F.linear(input=x, weight=weight, bias=bias), expected, atol=1e-4, rtol=1e-4)


def test_outside_of_the_context_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "onednn_linear", None)
    x, weight = torch.randn(64, 128), torch.randn(128, 128)
    with use_onednn_linear():
        pass
    assert F.linear(x, weight).shape == (64, 128)


def test_sizes_that_do_not_fit_get_pytorchs_message() -> None:
    with use_onednn_linear(), pytest.raises(RuntimeError, match="cannot be multiplied"):
        F.linear(torch.randn(64, 128), torch.randn(128, 127))


@needs_onednn
def test_the_same_product_has_the_same_bits() -> None:
    x, weight, grad_output = torch.randn(500, 128), torch.randn(96, 128), torch.randn(500, 96)
    with use_onednn_linear():
        first, second = (gradients(x, weight, None, grad_output) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@needs_onednn
def test_a_gradient_of_a_gradient_is_refused_and_not_wrong() -> None:
    x, weight = torch.randn(8, 16, requires_grad=True), torch.randn(4, 16, requires_grad=True)
    with use_onednn_linear():
        output = F.linear(x, weight)
    gradient = torch.autograd.grad(output.square().sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
