"""Weights in 16 or 8 bits. A step of generation reads every weight once, so fewer bytes mean more tokens a second.
Run this file by itself for a demonstration with the model that ships.

float16 and bfloat16 round each weight. int8 keeps, for every output, its weights as whole numbers from -127 to 127
times one scale; the packed form rounds the inputs of a product too, while it runs ("dynamic"), and so computes with
whole numbers. What surrounds the products (embeddings, norms, softmax, residuals, cache) stays float32.

On x86 processors the packed maps use the kernels of FBGEMM, which PyTorch brings along. Elsewhere, and on GPUs, the
plain ones do the same with a PyTorch product; they are the rung below, which the tests compare the packed ones with.

Shapes: O outputs, I inputs, P threads; B batch, T time, H heads, D head size, E embedding.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 2; one scale an output: Krishnamoorthi 2018, "Quantizing deep convolutional networks", section 2.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError
from lab.files import ROOT
from speed.onednn import linear
from transformer_block import Answer, Mask, TransformerBlock, attention, causal_mask

if TYPE_CHECKING:
    from models.generation import LayerCache
    from models.gpt2 import GPT2

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


class Shared:
    """A float32 map on the parameters of plain modules, of which it keeps no copy: (..., I) -> (..., O).

    A product with one row takes as long as reading the weights. PyTorch gives it to one thread, whatever their number,
    but a batch of products it shares out: so each thread takes a part of the inputs, then they add.
    """

    def __init__(self, *plain: nn.Linear | nn.Embedding) -> None:
        self.plain = plain  # several maps of the same input are one, and what training does to them is done here

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = parameters(*self.plain)  # (O, I), (O,)
        parts, inputs, stored = torch.get_num_threads(), x.shape[-1], weight.t()  # (I, O)
        if parts == 1 or x.numel() > inputs or inputs % parts or not stored.is_contiguous() or x.is_cuda:
            return linear(x, weight, bias)  # (..., I) -> (..., O)
        shares = x.reshape(parts, 1, -1)  # (..., I) -> (P, 1, I / P)
        product = torch.bmm(shares, stored.view(parts, inputs // parts, -1)).sum(dim=0)  # (P, 1, O) -> (1, O)
        product = product if bias is None else product.add_(bias)
        return product.view(*x.shape[:-1], -1)  # (1, O) -> (..., O)


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


class SixteenBits(nn.Module):
    """A map whose weights, and inputs while it runs, are float16 or bfloat16: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = weight.to(dtype).contiguous()  # (O, I)
        self.bias = None if bias is None else bias.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)  # (..., I) -> (..., O)


class EightBits(nn.Module):
    """A map whose weights are int8, made float again for each product: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.numbers, self.scale = quantize(weight)  # (O, I), (O,)
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.numbers.to(x.dtype)) * self.scale + self.bias  # (..., I) -> (..., O)


class PackedFloat16(nn.Module):
    """The same as `SixteenBits`, packed into the order that FBGEMM's kernel reads; its sums are float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.contiguous(), bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)  # (..., I) -> (..., O)


class PackedInt8(nn.Module):
    """The same as `EightBits`, packed for FBGEMM, which rounds the inputs to 7 bits, so that no sum overflows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        numbers, scale = quantize(weight)
        with warnings.catch_warnings(action="ignore"):  # PyTorch will drop this type some day; it is pinned here
            zeros = torch.zeros(len(scale), dtype=torch.long)
            make = torch._make_per_channel_quantized_tensor  # pyright: ignore[reportPrivateImportUsage]
            quantized = make(numbers, scale.double(), zeros, 0)
        self.packed = torch.ops.quantized.linear_prepack(quantized, bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x, self.packed, reduce_range=True)  # (..., I) -> (..., O)


class LeanBlock(nn.Module):
    """The arithmetic of a pre-norm `TransformerBlock` for inference alone: its maps as `make` gives them, query, key
    and value as one of them, the cache written in place. All of it is in the part of Python that TorchScript reads.
    """

    def __init__(self, plain: TransformerBlock, make: Maker) -> None:
        super().__init__()
        self.stacked = make(plain.attention.query, plain.attention.key, plain.attention.value)  # E to 3E
        self.output, self.ff_in, self.ff_out = make(plain.attention.output), make(plain.ff_in), make(plain.ff_out)
        self.activation, self.num_heads = plain.activation, plain.attention.num_heads
        self.norm1, self.norm2 = plain.norm1, plain.norm2

    def project(self, x: Tensor) -> Tensor:
        """x (B, T, E) -> query, key and value (3, B, H, T, D)."""
        norm = self.norm1
        stacked = self.stacked(torch.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))  # (B, T, 3E)
        separate = stacked.view(x.shape[0], x.shape[1], 3, self.num_heads, x.shape[2] // self.num_heads)
        return separate.permute(2, 0, 3, 1, 4)  # (B, T, 3, H, D) -> (3, B, H, T, D)

    def finish(self, x: Tensor, heads: Tensor) -> Tensor:
        """x (B, T, E), and what the heads found, (B, H, T, D) -> (B, T, E)."""
        norm = self.norm2
        x = x + self.output(heads.transpose(1, 2).reshape(x.shape))  # (B, H, T, D) -> (B, T, H, D) -> (B, T, E)
        hidden = self.ff_in(torch.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))  # (B, T, F)
        if self.activation == "relu":
            return x + self.ff_out(F.relu(hidden))
        return x + self.ff_out(F.gelu(hidden, approximate="tanh" if self.activation == "gelu_tanh" else "none"))

    def forward(self, x: Tensor, mask: Tensor | None, memory: Tensor | None, past: int) -> Tensor:
        """x (B, T, E) -> (B, T, E). With a cache, its `memory` (2, B, H, C, D) already holds `past` positions."""
        separate = self.project(x)
        query, both = separate[0], separate[1:]  # (B, H, T, D), (2, B, H, T, D)
        if memory is not None:
            memory.narrow(3, past, x.shape[1]).copy_(both)
            both = memory.narrow(3, 0, past + x.shape[1])  # (2, B, H, C, D) -> (2, B, H, Tk, D)
        heads = F.scaled_dot_product_attention(query, both[0], both[1], mask)  # (B, H, T, D)
        if mask is not None:  # as in `fused_attention`
            heads = heads.masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)
        return self.finish(x, heads)


class FastBlock:
    """A `LeanBlock` with the `run` of a `TransformerBlock`, compiled by TorchScript where its maps allow it.

    A step of generation makes hundreds of calls. From Python they take 3 ms a token, a quarter of what reading the
    weights takes; TorchScript runs a block as one call. (PyTorch will drop it for `torch.compile`, which needs a C++
    compiler on the learner's machine.)
    """

    def __init__(self, plain: TransformerBlock, make: Maker) -> None:
        self.lean = self.compiled = LeanBlock(plain, make).eval()
        if isinstance(self.lean.stacked, nn.Module):
            with warnings.catch_warnings(action="ignore"):
                self.compiled = torch.jit.script(self.lean)

    def run(self, x: Tensor, mask: Mask = None, cache: "LayerCache | None" = None, need_weights: bool = True) -> Answer:
        """x (B, T, E) -> output (B, T, E), weights (B, H, T, T) where they are asked for: that is without a cache."""
        if isinstance(mask, str):
            mask = causal_mask(x.shape[1], x.device)  # (T, T)
        if need_weights:
            query, key, value = self.lean.project(x)
            heads, weights = attention(query, key, value, mask)
            return self.lean.finish(x, heads), weights
        if cache is None:
            return self.compiled(x, mask, None, 0), None
        past, cache.length = cache.length, cache.length + x.shape[1]
        return self.compiled(x, mask, cache.memory, past), None


def maker(precision: str, device: torch.device) -> Maker:
    """What makes a map of `precision` on `device`: the fastest that there is for it."""
    if precision == "float32":
        return Shared
    fbgemm = device.type == "cpu" and HAS_FBGEMM
    kinds: dict[str, Callable[[Tensor, Tensor | None], Map]] = {
        "float16": PackedFloat16 if fbgemm else partial(SixteenBits, dtype=torch.float16),
        "bfloat16": partial(SixteenBits, dtype=torch.bfloat16),
        "int8": PackedInt8 if fbgemm else EightBits,
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


@dataclass
class Demonstration:
    """Read a language model in every precision: its size in memory, its tokens a second, its largest change."""

    model: Path = ROOT / "assets/models/language"  # Folder of a GPT-2.
    new_tokens: int = 64  # Tokens that are generated.


def main(config: Demonstration) -> None:
    """One line a precision."""
    from models.gpt2 import GPT2

    input_ids = torch.arange(8)[None]  # (1, T)
    expected = None
    for precision, bits in zip(PRECISIONS, (32, 16, 16, 8), strict=True):
        model = GPT2.from_pretrained(config.model, precision)
        with torch.inference_mode():
            logits = model(input_ids)  # (1, T, V)
        expected = logits if expected is None else expected
        model.generate(input_ids, max_new_tokens=4)  # to warm up
        begin = time.perf_counter()
        model.generate(input_ids, max_new_tokens=config.new_tokens)
        speed = config.new_tokens / (time.perf_counter() - begin)
        change = (logits - expected).abs().max() / expected.abs().max()
        print(f"{precision:<9} {bits:>2} bits a weight  {speed:7,.0f} tokens/s  largest change of a logit {change:.1e}")


if __name__ == "__main__":
    from lab.launch import launch

    launch(Demonstration, main)
