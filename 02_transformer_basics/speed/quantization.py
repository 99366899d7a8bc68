"""Linear layers for inference with weights in 32, 16 or 8 bits: a generation step reads every weight once, so fewer
bytes mean more tokens per second.

float16 and bfloat16 round each weight. int8 stores, for every output, its weights as integers from -127 to 127 times
one scale; the packed form also rounds the inputs of a product at run time ("dynamic quantization"), and so multiplies
integers. Everything around the linear layers (embeddings, norms, softmax, residuals, cache) stays float32.

On x86 processors the packed layers use the kernels of FBGEMM, which PyTorch ships. Elsewhere, and on GPUs, the plain
ones do the same with PyTorch's own product; the tests compare the two.

Shapes: O outputs, I inputs, P threads, R rows.

Sources: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 2; one scale per output: Krishnamoorthi 2018, "Quantizing deep convolutional networks", section 2.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import speed.kernels as kernels
from lab.errors import UserError
from speed.onednn import is_supported, onednn_linear

PRECISIONS = ("float32", "float16", "bfloat16", "int8")
LinearFn = Callable[[Tensor], Tensor]  # (..., I) -> (..., O)
LinearFactory = Callable[..., LinearFn]  # from one or several nn.Linear of the same input


def check_precision(precision: str) -> None:
    """Raise UserError for an unknown precision."""
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 weights (O, I) and a scale per output (O,), so that weight is about q_weight * scale."""
    scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127  # (O, I) -> (O,)
    return (weight / scale[:, None]).round().to(torch.int8), scale  # Jacob et al. equation 1, zero point 0


class StackedLinear:
    """A float32 linear layer that uses all threads for a single row: (..., I) -> (..., O).

    A product with one row takes as long as reading the weights. PyTorch computes it on one thread, but a batch of
    products on all threads: so each thread gets a part of the inputs, and the partial sums are added.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias  # (O, I), (O,)

    def __call__(self, x: Tensor) -> Tensor:
        threads = torch.get_num_threads()
        inputs = x.shape[-1]
        stored = self.weight.t()  # (I, O)
        is_single_row = x.numel() == inputs
        can_be_split = x.device.type == "cpu" and stored.is_contiguous() and inputs % threads == 0
        if threads == 1 or not is_single_row or not can_be_split:
            multiply = onednn_linear if is_supported(x, self.weight) else F.linear
            return multiply(x, self.weight, self.bias)  # (..., I) -> (..., O)
        parts = x.reshape(threads, 1, -1)  # (..., I) -> (P, 1, I / P)
        products = torch.bmm(parts, stored.view(threads, inputs // threads, -1))  # (P, 1, O)
        product = products.sum(dim=0)  # (P, 1, O) -> (1, O)
        if self.bias is not None:
            product = product.add_(self.bias)
        return product.view(*x.shape[:-1], -1)  # (1, O) -> (..., O)


class HalfLinear(nn.Module):
    """A linear layer whose weights, and inputs at run time, are float16 or bfloat16: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = weight.to(dtype).contiguous()  # (O, I)
        self.bias = None if bias is None else bias.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)  # (..., I) -> (..., O)


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8, converted to float for each product: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.q_weight, self.scale = quantize(weight)  # (O, I), (O,)
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.q_weight.to(x.dtype)) * self.scale + self.bias  # (..., I) -> (..., O)


class PackedFloat16Linear(nn.Module):
    """`HalfLinear` in float16, with weights in the layout of FBGEMM's kernel; its sums are float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = kernels.prepack_float16(weight.contiguous(), bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)  # (..., I) -> (..., O)


class PackedInt8Linear(nn.Module):
    """`Int8Linear` in the layout of FBGEMM's kernel, which rounds the inputs to 7 bits, so that no sum overflows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        q_weight, scale = quantize(weight)
        zero_points = torch.zeros(len(scale), dtype=torch.long)
        with warnings.catch_warnings(action="ignore"):  # PyTorch deprecates quantized tensors
            quantized = kernels.quantized_tensor(q_weight, scale.double(), zero_points, 0)
        self.packed = kernels.prepack_int8(quantized, bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x, self.packed, reduce_range=True)  # (..., I) -> (..., O)


def concat_views(tensors: list[Tensor]) -> Tensor:
    """Return tensors of one shape concatenated along dimension 0: a view if adjacent in memory, else a copy."""
    first, step = tensors[0], tensors[0].stride(0) * tensors[0].shape[0]
    storage = first.untyped_storage().data_ptr()
    for number, tensor in enumerate(tensors):
        same_storage = tensor.untyped_storage().data_ptr() == storage and tensor.stride() == first.stride()
        if not same_storage or tensor.storage_offset() != first.storage_offset() + number * step:
            return torch.cat(tensors)
    return first.as_strided((len(tensors) * first.shape[0], *first.shape[1:]), first.stride())


def stacked_parameters(*layers: nn.Linear | nn.Embedding) -> tuple[Tensor, Tensor | None]:
    """Return weight (O, I) and bias (O,) of several layers as of one; an embedding is a layer without a bias."""
    weights = [layer.weight.detach() for layer in layers]
    biases: list[Any] = [getattr(layer, "bias", None) for layer in layers]
    bias = None if biases[0] is None else concat_views([bias.detach() for bias in biases])
    return concat_views(weights), bias


def linear_factory(precision: str, device: torch.device) -> LinearFactory:
    """Return a function that makes linear layers of `precision` on `device` from plain ones."""
    on_cpu = device.type == "cpu"
    kinds: dict[str, Callable[[Tensor, Tensor | None], LinearFn]] = {
        "float32": StackedLinear,
        "float16": partial(HalfLinear, dtype=torch.float16),
        "bfloat16": partial(HalfLinear, dtype=torch.bfloat16),
        "int8": Int8Linear,
    }
    if on_cpu and kernels.has_packed_float16():
        kinds["float16"] = PackedFloat16Linear
    if on_cpu and kernels.has_packed_int8():
        kinds["int8"] = PackedInt8Linear
    return lambda *layers: kinds[precision](*stacked_parameters(*layers))
