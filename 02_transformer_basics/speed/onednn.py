"""float32 linear layers on x86 processors by oneDNN, a library that PyTorch ships but does not use for them.

PyTorch gives these products to Intel's MKL, which uses the wide registers (AVX-512) on Intel's processors only; oneDNN
uses them everywhere. On a processor without them (AVX2) it was measured to be faster for few rows only, so it is used
for few rows there. How much it brings depends on the processor (EXPERIMENTS.md). The sums are added in another order,
so results differ in the last bits.

    with use_onednn_linear():
        logits = model(input_ids)      # every nn.Linear, forward and, whenever it runs, backward

Shapes: R rows, I inputs, O outputs; (..., I) has any number of leading dimensions.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

import speed.kernels as kernels

MIN_FLOPS = 2**20  # measured: multiplications above which the product takes longer than the call
MAX_ROWS_AVX2 = 128  # measured on an AMD Zen 3: with more rows MKL is faster
HAS_AVX512 = "AVX512" in torch.backends.cpu.get_cpu_capability()
MIN_FLOPS_PER_TRANSPOSED_ELEMENT = 200  # measured: above this, transposing both operands is worth its time


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias without a gradient: x (..., I), weight (O, I), bias (O,) -> (..., O)."""
    return kernels.onednn_linear(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """`onednn_linear` with its gradients, which are matrix products, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        grad_output = grad_outputs[0].flatten(0, -2)  # (..., O) -> (R, O)
        grad_input, grad_weight, grad_bias = None, None, None
        if needs_input:
            grad_input = onednn_linear(grad_output, weight.t()).view(x.shape)  # (R, O) -> (R, I) -> (..., I)
        if needs_weight:
            grad_weight = _weight_gradient(x.flatten(0, -2), grad_output)  # (O, I)
        if needs_bias:
            grad_bias = grad_output.sum(dim=0)  # (R, O) -> (O,)
        return grad_input, grad_weight, grad_bias


def _weight_gradient(x: Tensor, grad_output: Tensor) -> Tensor:
    """Return grad_output^T x: x (R, I), grad_output (R, O) -> (O, I)."""
    inputs, outputs = x.shape[1], grad_output.shape[1]
    if inputs * outputs < MIN_FLOPS_PER_TRANSPOSED_ELEMENT * (inputs + outputs):
        return grad_output.t() @ x  # small: oneDNN would transpose both operands first
    if outputs <= inputs:  # the order with the longer rows is much faster
        return onednn_linear(grad_output.t(), x.t())  # (O, R) and (I, R) -> (O, I)
    return onednn_linear(x.t(), grad_output.t()).t()  # (I, O) -> (O, I)


class use_onednn_linear(TorchFunctionMode):
    """A context in which oneDNN computes `F.linear`, and so `nn.Linear`, where it is supported and large enough.

    It has first derivatives by `backward` and `torch.autograd.grad` only: no second ones, and none of `torch.func`.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            return linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `F.linear` of the same arguments, by oneDNN where it is supported and large enough, with its gradients."""
    if not is_supported(input, weight, bias):
        return F.linear(input, weight, bias)
    return _Linear.apply(input, weight, bias)  # pyright: ignore[reportReturnType]


def is_supported(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Return True if oneDNN should compute x (..., I) times weight (O, I) plus bias (O,)."""
    return (
        x.numel() * len(weight) >= MIN_FLOPS  # most are too small, so this test comes first
        and kernels.onednn_linear is not None
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.ndim >= 2
        and weight.ndim == 2
        and x.shape[-1] == weight.shape[1]  # if not, PyTorch's own error message is the best
        and x.numel() > x.shape[-1]  # one row is bound by reading the weights, whichever library does it
        and (bias is None or _is_plain_bias(bias, len(weight)))
        and (HAS_AVX512 or x.numel() <= MAX_ROWS_AVX2 * x.shape[-1])
        and not torch.is_autocast_enabled("cpu")
    )


def _is_plain_bias(bias: Tensor, outputs: int) -> bool:
    """Return True for a float32 bias (O,) on the CPU without gaps: oneDNN takes every other for one."""
    return (
        bias.shape == (outputs,) and bias.dtype == torch.float32 and bias.device.type == "cpu" and bias.is_contiguous()
    )
