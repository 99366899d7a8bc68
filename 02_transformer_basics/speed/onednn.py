"""float32 matrix products on x86 processors by oneDNN, a library that PyTorch brings along and leaves idle there.

PyTorch gives these products to Intel's MKL, which uses the wide registers (AVX-512) of Intel's processors alone. oneDNN
uses them wherever they are: on AMD's a product takes half the time where a unit is as wide as a register (Zen 5), a
tenth less where it takes two turns (Zen 4), on others about as long. The sums are added up in another order, so results
differ in the last bits.

    with FastProducts():
        logits = model(input_ids)      # every nn.Linear, forwards and, whenever that comes, backwards

Shapes: R rows, I inputs, O outputs; (..., I) has rows of any number of dimensions.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

AVAILABLE = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # the latter is oneDNN
LEAST = 2**20  # measured: multiplications from which on a product takes longer than the call of it
WORTH_TURNING = 200  # measured: multiplications a number that is turned, from which on turning matrices pays
PICTURES = 16  # with so many, PyTorch gives a convolution to oneDNN whatever the number of threads


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., I), weight (O, I), bias (O,) -> x weight^T + bias, (..., O), without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """`product` with its gradients, which are products too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x, weight), given = ctx.saved_tensors, gradients[0]  # given (..., O)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        x_rows, rows = x.flatten(0, -2), given.flatten(0, -2)  # (..., I) -> (R, I); (..., O) -> (R, O)
        of_x = product(rows, weight.t()).view(x.shape) if needs_x else None  # (R, O) -> (R, I) -> (..., I)
        of_weight, of_bias = None, None
        inputs, outputs = weight.shape[1], weight.shape[0]
        if needs_weight and inputs * outputs < WORTH_TURNING * (inputs + outputs):
            of_weight, of_bias = of_convolution(x_rows, rows, needs_bias)
        elif needs_weight and outputs <= inputs:  # the faster way round, by much, is the one with the longer rows
            of_weight = product(rows.t(), x_rows.t())  # -> (O, I)
        elif needs_weight:
            of_weight = product(x_rows.t(), rows.t()).t()  # -> (I, O) -> (O, I)
        if needs_bias and of_bias is None:
            of_bias = rows.sum(dim=0)  # (R, O) -> (O,)
        return of_x, of_weight, of_bias


def of_convolution(x: Tensor, given: Tensor, needs_bias: bool) -> tuple[Tensor, Tensor | None]:
    """The gradients of weight (O, I) and bias (O,) from inputs x (R, I) and what their outputs are given, (R, O).

    A product does this only after turning x or `given`, which takes longer than a product with a small weight gains.
    The same is the gradient of a convolution that looks at one pixel at a time, which turns nothing.
    """
    count = math.gcd(len(x), PICTURES)
    x_pictures, pictures = (  # one pixel wide, as they lie in memory: (R, C) -> (N, R / N, 1, C) -> (N, C, R / N, 1)
        each.contiguous().view(count, -1, 1, each.shape[1]).permute(0, 3, 1, 2) for each in (x, given)
    )
    weight = x.new_empty(given.shape[1], x.shape[1], 1, 1)  # (O, I, 1, 1): its size alone is looked at
    step, edge = [1, 1], [0, 0]
    settings = (step, edge, step, False, edge, 1)  # stride, padding, dilation, transposed, its padding, groups
    _, of_weight, of_bias = torch.ops.aten.convolution_backward(
        pictures, x_pictures, weight, [len(weight)], *settings, [False, True, needs_bias]
    )
    return of_weight.flatten(1), of_bias  # (O, I, 1, 1) -> (O, I)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, by oneDNN where that is faster."""
    if not suits(x, weight):
        return F.linear(x, weight, bias)
    compute: Any = _Linear.apply if torch.is_grad_enabled() else product
    return compute(x, weight, bias)


class FastProducts(TorchFunctionMode):
    """A context in which oneDNN computes `F.linear`, and so `nn.Linear`, where that is faster; PyTorch the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (linear if func is F.linear else func)(*args, **(kwargs or {}))


def suits(x: Tensor, weight: Tensor) -> bool:
    """Whether x (..., I) times weight (O, I) is for oneDNN; most products are too small, so that comes first."""
    return (
        x.numel() * len(weight) >= LEAST
        and AVAILABLE
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.ndim >= 2
        and weight.ndim == 2
        and x.shape[-1] == weight.shape[1]  # if not, PyTorch says it best
        and x.numel() > x.shape[-1]  # one row takes as long as reading the weights, whoever does it
        and not torch.is_autocast_enabled("cpu")
    )
