"""Linear layers for inference with weights in 32, 16 or 8 bits: a generation step reads every weight once, so fewer
bytes mean more tokens per second.

float16 and bfloat16 round each weight. int8 stores, for every output, its weights as integers from -127 to 127 times
one scale; the packed form also rounds the inputs of a product at run time ("dynamic quantization"), and so multiplies
integers. Everything around the linear layers (embeddings, norms, softmax, residuals, cache) stays float32.

On x86 processors the packed layers use the kernels of FBGEMM, which PyTorch ships. Elsewhere the plain ones do the same
with PyTorch's own product; the tests compare the two. On NVIDIA GPUs what lies between two layers in 16 bits, the cache
too, is in 16 bits.

Shapes: O outputs, I inputs.

Sources: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 2; one scale per output: Krishnamoorthi 2018, "Quantizing deep convolutional networks", section 2.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import speed.kernels as kernels
from lab.errors import UserError

PRECISIONS = ("float32", "float16", "bfloat16", "int8")


def check_precision(precision: str) -> None:
    """Raise UserError for an unknown precision."""
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 weights (O, I) and a scale per output (O,), so that weight is about q_weight * scale."""
    scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127  # (O, I) -> (O,)
    return (weight / scale[:, None]).round().to(torch.int8), scale  # Jacob et al. equation 1, zero point 0


class TypedLinear(nn.Module):
    """A linear layer whose weights and outputs, and inputs at run time, are of type `dtype`: (..., I) -> (..., O).

    For GPUs, where converting one position takes as long as a small product: a layer in 16 bits reads what the one
    before it wrote, and adding its outputs to the float32 residual stream converts them.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = weight.to(dtype).contiguous()  # (O, I)
        self.bias = None if bias is None else bias.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)  # (..., I) -> (..., O)


class HalfLinear(TypedLinear):
    """A `TypedLinear` in float16 or bfloat16 whose outputs have the type of its inputs: (..., I) -> (..., O)."""

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
