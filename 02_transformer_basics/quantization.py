"""Weights in 16 or 8 bits. A step of generation reads every weight once, so fewer bytes mean more tokens a second.

float16 and bfloat16 round each weight. int8 keeps, for every output, its weights as whole numbers from -127 to 127
times one scale; the packed form rounds the inputs of a product too, while it runs ("dynamic"), and so computes with
whole numbers. What surrounds the products (embeddings, norms, softmax, residuals, cache) stays float32.

On x86 processors the packed maps use the kernels of FBGEMM, which PyTorch brings along. Elsewhere, and on GPUs, the
plain ones do the same with a PyTorch product; they are the rung below, which the tests compare the packed ones with.

Shapes: O outputs, I inputs of a map; B batch, T time, H heads, D head size, E embedding.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 2; one scale an output: Krishnamoorthi 2018, "Quantizing deep convolutional networks", section 2.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError
from transformer_block import Answer, Cache, Mask, MultiHeadAttention, attention, fused_attention

if TYPE_CHECKING:
    from gpt2 import GPT2

PRECISIONS = ("float32", "float16", "bfloat16", "int8")
Packer = Callable[[Tensor, Tensor | None], nn.Module]  # weight (O, I) and bias (O,) -> the map x (..., I) to (..., O)


def check_precision(precision: str) -> None:
    """Raise UserError for a precision that there is not."""
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (O, I) -> whole numbers int8 (O, I) and a scale for each output (O,), so that weight = numbers * scale."""
    scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127  # (O, I) -> (O,)
    return (weight / scale[:, None]).round().to(torch.int8), scale  # Jacob et al. equation 1, zero point 0


class SixteenBits(nn.Module):
    """A map whose weights, and inputs while it runs, are float16 or bfloat16. `forward(x)`: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight.to(dtype).contiguous())  # (O, I)
        self.bias = None if bias is None else nn.Buffer(bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)  # (..., I) -> (..., O)


class EightBits(nn.Module):
    """A map whose weights are int8, made float again for each product. `forward(x)`: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        numbers, scale = quantize(weight)
        self.numbers, self.scale = nn.Buffer(numbers), nn.Buffer(scale)  # (O, I), (O,)
        self.bias = None if bias is None else nn.Buffer(bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        product = F.linear(x, self.numbers.to(x.dtype)) * self.scale.to(x.dtype)  # (..., I) -> (..., O)
        return product if self.bias is None else product + self.bias.to(x.dtype)


class Packed(nn.Module):
    """A map whose weights FBGEMM has put into the order that its kernel reads. `forward(x)`: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: str) -> None:
        super().__init__()
        if precision == "float16":  # sums in float32, by a kernel that widens the weights on the way
            self.packed = torch.ops.quantized.linear_prepack_fp16(weight.contiguous(), bias)
            self.product = torch.ops.quantized.linear_dynamic_fp16
        else:
            numbers, scale = quantize(weight)
            with warnings.catch_warnings(action="ignore"):  # PyTorch will drop this type some day; it is pinned here
                zeros = torch.zeros(len(scale), dtype=torch.long)
                quantized = torch._make_per_channel_quantized_tensor(numbers, scale.double(), zeros, 0)
            self.packed = torch.ops.quantized.linear_prepack(quantized, bias)
            self.product = torch.ops.quantized.linear_dynamic

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.packed)  # (..., I) -> (..., O)


class PackedAttention(nn.Module):
    """`MultiHeadAttention` whose three input maps are one: a third of the calls. `forward` as there."""

    def __init__(self, plain: MultiHeadAttention, make: Packer) -> None:
        super().__init__()
        maps = (plain.query, plain.key, plain.value)
        self.stacked = make(
            torch.cat([each.weight for each in maps]), torch.cat([each.bias for each in maps])
        )  # (3E, E)
        self.output, self.num_heads = make(plain.output.weight, plain.output.bias), plain.num_heads

    def forward(self, x: Tensor, mask: Mask = None, cache: Cache | None = None, need_weights: bool = True) -> Answer:
        separate = self.stacked(x).unflatten(-1, (3, self.num_heads, -1))  # (B, T, E) -> (B, T, 3, H, D)
        query, key, value = separate.permute(2, 0, 3, 1, 4)  # (B, T, 3, H, D) -> three times (B, H, T, D)
        if cache is not None:
            key, value = cache(key, value)  # (B, H, T, D) -> (B, H, Tk, D)
        if need_weights:
            heads, weights = attention(query, key, value, mask)
        else:
            heads, weights = fused_attention(query, key, value, mask), None
        return self.output(heads.transpose(1, 2).flatten(2)), weights  # (B, H, T, D) -> (B, T, E)


def packer(precision: str, device: torch.device) -> Packer:
    """What turns a map into one of `precision` on `device`: the fastest that there is for it."""
    fbgemm = device.type == "cpu" and "fbgemm" in torch.backends.quantized.supported_engines
    if precision in ("float16", "int8") and fbgemm:
        return lambda weight, bias: Packed(weight, bias, precision)
    if precision == "int8":
        return EightBits
    return lambda weight, bias: SixteenBits(weight, bias, getattr(torch, precision))


@torch.no_grad()
def pack(model: "GPT2", precision: str) -> "GPT2":
    """Replace all maps of `model` by ones of `precision`, for inference only, where it is. Gives `model` back."""
    make = packer(precision, model.norm.weight.device)
    for block in model.blocks:
        block.attention = PackedAttention(block.attention, make)
        for name in ("ff_in", "ff_out"):
            setattr(block, name, make(getattr(block, name).weight, getattr(block, name).bias))
    model.head = make(model.tokens.weight, None)
    return model
