"""Weights in 16 or 8 bits. A step of generation reads every weight once, so fewer bytes mean more tokens a second.

float16 and bfloat16 round each weight. int8 keeps, for every output, its weights as whole numbers from -127 to 127
times one scale; the packed form rounds the inputs of a product too, while it runs ("dynamic"), and so computes with
whole numbers. What surrounds the products (embeddings, norms, softmax, residuals, cache) stays float32.

On x86 processors the packed maps use the kernels of FBGEMM, which PyTorch brings along. Elsewhere, and on GPUs, the
plain ones do the same with a PyTorch product; they are the rung below, which the tests compare the packed ones with.

Shapes: O outputs, I inputs, R rows of a product, P threads; B batch, T time, H heads, D head size, E embedding.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 2; one scale an output: Krishnamoorthi 2018, "Quantizing deep convolutional networks", section 2.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError
from transformer_block import ACTIVATIONS, Answer, Mask, TransformerBlock, attention, fused_attention

if TYPE_CHECKING:
    from generation import LayerCache
    from gpt2 import GPT2

MOST_ROWS = 32  # measured: with more rows nothing is gained
HAS_FBGEMM = "fbgemm" in torch.backends.quantized.supported_engines
PRECISIONS = ("float32", "float16", "bfloat16", "int8")
Map = Callable[[Tensor], Tensor]  # (..., I) -> (..., O)
Maker = Callable[..., Map]  # from one or several plain maps of the same input


def check_precision(precision: str) -> None:
    """Raise UserError for a precision that there is not."""
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (O, I) -> whole numbers int8 (O, I) and a scale for each output (O,), so that weight = numbers * scale."""
    scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127  # (O, I) -> (O,)
    return (weight / scale[:, None]).round().to(torch.int8), scale  # Jacob et al. equation 1, zero point 0


class FewRows:
    """A float32 map on the parameters of plain modules whose weights lie in memory as (I, O): (..., I) -> (..., O).

    PyTorch gives a product with one row to one thread, whatever their number, and packs the weights anew for a few
    rows. A batch of products it shares out and packs nothing: so each thread takes a part of the inputs, then they add.
    """

    def __init__(self, *plain: nn.Linear | nn.Embedding) -> None:
        self.plain = plain  # several maps of the same input are one, and what training does to them is done here

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = parameters(*self.plain)  # (O, I), (O,)
        parts, inputs = torch.get_num_threads(), x.shape[-1]
        rows, stored = x.numel() // inputs, weight.t()  # (I, O)
        if parts == 1 or rows > MOST_ROWS or inputs % parts or not stored.is_contiguous() or x.is_cuda:
            return F.linear(x, weight, bias)  # (..., I) -> (..., O)
        shares = x.reshape(rows, parts, -1).transpose(0, 1)  # (..., I) -> (R, P, I / P) -> (P, R, I / P)
        product = torch.bmm(shares, stored.view(parts, inputs // parts, -1)).sum(dim=0)  # (P, R, O) -> (R, O)
        product = product if bias is None else product.add_(bias)
        return product.view(*x.shape[:-1], -1)  # (R, O) -> (..., O)


def parameters(*plain: nn.Linear | nn.Embedding) -> tuple[Tensor, Tensor | None]:
    """Weight (O, I) and bias (O,) of several maps as of one, and of an embedding as a map without bias."""
    if len(plain) == 1:
        return plain[0].weight, getattr(plain[0], "bias", None)
    return side_by_side([each.weight for each in plain]), side_by_side([each.bias for each in plain])


def side_by_side(tensors: list[Any]) -> Tensor:
    """Tensors of one shape put together along their first dimension; a view of them where they lie so in memory."""
    first, step = tensors[0], tensors[0].stride(0) * tensors[0].shape[0]
    storage = first.untyped_storage().data_ptr()
    for number, each in enumerate(tensors):
        here = each.untyped_storage().data_ptr() == storage and each.stride() == first.stride()
        if not here or each.storage_offset() != first.storage_offset() + number * step:
            return torch.cat(tensors)
    return first.as_strided((len(tensors) * first.shape[0], *first.shape[1:]), first.stride())


class SixteenBits:
    """A map whose weights, and inputs while it runs, are float16 or bfloat16: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight = weight.to(dtype).contiguous()  # (O, I)
        self.bias = None if bias is None else bias.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)  # (..., I) -> (..., O)


class EightBits:
    """A map whose weights are int8, made float again for each product: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.numbers, self.scale = quantize(weight)  # (O, I), (O,)
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        product = F.linear(x, self.numbers.to(x.dtype)) * self.scale  # (..., I) -> (..., O)
        return product if self.bias is None else product + self.bias


class Packed:
    """A map whose weights FBGEMM has put into the order that its kernel reads: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: str) -> None:
        if precision == "float16":  # sums in float32, by a kernel that widens the weights on the way
            self.packed = torch.ops.quantized.linear_prepack_fp16(weight.contiguous(), bias)
            self.product = torch.ops.quantized.linear_dynamic_fp16
        else:
            numbers, scale = quantize(weight)
            with warnings.catch_warnings(action="ignore"):  # PyTorch will drop this type some day; it is pinned here
                zeros = torch.zeros(len(scale), dtype=torch.long)
                make = torch._make_per_channel_quantized_tensor  # pyright: ignore[reportPrivateImportUsage]
                quantized = make(numbers, scale.double(), zeros, 0)
            self.packed = torch.ops.quantized.linear_prepack(quantized, bias)
            self.product = partial(torch.ops.quantized.linear_dynamic, reduce_range=True)  # 7 bits: no sum overflows

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x, self.packed)  # (..., I) -> (..., O)


class FastBlock:
    """A pre-norm `TransformerBlock` for inference alone, with the same `run`: its maps as they are given, query, key
    and value as one of them, and none of the calls that make no difference then. A step of generation makes hundreds.
    """

    def __init__(self, plain: TransformerBlock, make: Maker) -> None:
        self.stacked = make(plain.attention.query, plain.attention.key, plain.attention.value)  # E to 3E
        self.output, self.ff_in, self.ff_out = make(plain.attention.output), make(plain.ff_in), make(plain.ff_out)
        self.activation, self.num_heads = ACTIVATIONS[plain.activation], plain.attention.num_heads
        self.norm1, self.norm2 = plain.norm1, plain.norm2

    def run(self, x: Tensor, mask: Mask = None, cache: "LayerCache | None" = None, need_weights: bool = True) -> Answer:
        """x (B, T, E) -> output (B, T, E), weights (B, H, T, Tk) where they are asked for."""
        stacked = self.stacked(_norm(self.norm1, x))  # (B, T, E) -> (B, T, 3E)
        separate = stacked.unflatten(-1, (3, self.num_heads, -1)).permute(
            2, 0, 3, 1, 4
        )  # (B, T, 3E) -> (3, B, H, T, D)
        query, both = separate[0], separate[1:]  # (B, H, T, D), (2, B, H, T, D)
        key, value = both if cache is None else cache.extend(both)  # (2, B, H, T, D) -> twice (B, H, Tk, D)
        heads, weights = None, None
        if need_weights:
            heads, weights = attention(query, key, value, mask)
        else:
            heads = fused_attention(query, key, value, mask)  # (B, H, T, D)
        x = x + self.output(heads.transpose(1, 2).flatten(2))  # (B, H, T, D) -> (B, T, H, D) -> (B, T, E)
        return x + self.ff_out(self.activation(self.ff_in(_norm(self.norm2, x)))), weights


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return torch.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)  # `norm(x)` without its hooks


def maker(precision: str, device: torch.device) -> Maker:
    """What makes a map of `precision` on `device`: the fastest that there is for it."""
    if precision == "float32":
        return FewRows
    fbgemm = device.type == "cpu" and HAS_FBGEMM
    kinds: dict[str, Callable[[Tensor, Tensor | None], Map]] = {
        "float16": partial(Packed, precision=precision) if fbgemm else partial(SixteenBits, dtype=torch.float16),
        "bfloat16": partial(SixteenBits, dtype=torch.bfloat16),
        "int8": partial(Packed, precision=precision) if fbgemm else EightBits,
    }
    return lambda *plain: kinds[precision](*parameters(*plain))


@torch.no_grad()
def pack(model: "GPT2", precision: str) -> "GPT2":
    """Give `model` fast blocks and a fast head of `precision`, where it is; gives `model` back.

    In float32 they work on its own parameters, and it can be trained as before. Otherwise they take the place of its
    blocks, whose memory is freed, and it is for inference only.
    """
    make = maker(precision, model.norm.weight.device)
    model.fast, model.head = [FastBlock(block, make) for block in model.blocks], make(model.tokens)
    if precision != "float32":
        del model.blocks
        model.blocks = model.fast
    return model
