"""The linear layers for inference: for each precision several kernels that compute the same.

Which one is the fastest depends on the processor, the sizes and the number of rows: `speed.choice` measures it. PyTorch
gives a float32 product to Intel's MKL; oneDNN, which PyTorch ships too, has kernels for more processors, with the
weights reordered in advance; FBGEMM, also shipped, has some for 16 and 8 bits on x86. On a GPU the choice is between
types.

Shapes: O outputs, I inputs, R rows; (..., I) has any number of leading dimensions, whose product is R.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import speed.kernels as kernels
from speed.cuda_graph import uses_graphs
from speed.onednn import HAS_AVX512
from speed.quantization import (
    HalfLinear,
    Int8Linear,
    PackedFloat16Linear,
    PackedInt8Linear,
    TypedLinear,
    quantize,
)

MAX_FLOAT16_ERROR = 1e-3  # of the weights of an output, where bfloat16 is stored as float16: half of bfloat16's own
LayerFactory = Callable[[Tensor, Tensor | None], nn.Module]  # from weight (O, I) and bias (O,)


class PlainLinear(nn.Module):
    """A linear layer as `nn.Linear` computes it: (..., I) -> (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias  # (O, I), (O,)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)  # (..., I) -> (..., O)


class OneRowLinear(nn.Module):
    """A float32 linear layer that uses all threads for a single row: (..., I) -> (..., O).

    A product with one row takes as long as reading the weights, and PyTorch computes it on one thread. Here each thread
    gets a part of the inputs, by `partial_sums`, and the sums are added.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.threads = torch.get_num_threads()
        self.weight, self.bias = weight.t().contiguous(), bias  # (I, O), (O,)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() != self.weight.shape[0]:
            return self.multiply(x)
        product = self.partial_sums(x.reshape(-1)).sum(dim=0)  # (..., I) -> (parts, O) -> (O,)
        if self.bias is not None:
            product = product.add_(self.bias)
        return product.view(list(x.shape[:-1]) + [-1])  # noqa: RUF005 - TorchScript; (O,) -> (..., O)

    def partial_sums(self, x: Tensor) -> Tensor:
        """Return the product of x (I,) with the weights as the sum of several: (parts, O)."""
        raise NotImplementedError

    def multiply(self, x: Tensor) -> Tensor:
        """Return the product for several rows."""
        return F.linear(x, self.weight.t(), self.bias)  # (..., I) -> (..., O)


class SplitLinear(OneRowLinear):
    """A product for each thread, as a batch. Raises ValueError if the threads cannot have the same number of inputs."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        if weight.shape[1] % self.threads:
            raise ValueError(f"{weight.shape[1]} inputs cannot be divided by {self.threads} threads")

    def partial_sums(self, x: Tensor) -> Tensor:
        """Return the products (threads, O) of the parts of x (I,)."""
        weights = self.weight.view(self.threads, -1, self.weight.shape[1])  # (I, O) -> (threads, I / threads, O)
        return torch.bmm(x.view(self.threads, 1, -1), weights)[:, 0]  # (threads, 1, O) -> (threads, O)


class BagLinear(OneRowLinear):
    """A bag of embeddings for each thread: the weights of an input are an embedding, the inputs are their weights.

    The product is the sum of all embeddings, each times its input. On an AMD EPYC (family 26), where it was tried, the
    kernel that adds embeddings reads memory 1.2 to 1.6 times as fast as the best one for products (EXPERIMENTS.md).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        inputs = weight.shape[1]
        self.numbers = torch.arange(inputs, dtype=torch.int32)  # (I,): of the embeddings
        self.starts = torch.arange(0, inputs, math.ceil(inputs / self.threads), dtype=torch.int32)  # (parts,): of bags

    def partial_sums(self, x: Tensor) -> Tensor:
        """Return the sums of the bags (parts, O) for x (I,)."""
        sums, _, _, _ = torch.embedding_bag(self.weight, self.numbers, self.starts, per_sample_weights=x)
        return sums  # (parts, O)


class OneDnnRows(OneRowLinear):
    """A `OneRowLinear` with oneDNN for several rows; `partial_sums` comes from another class."""

    def multiply(self, x: Tensor) -> Tensor:
        """Return the product for several rows."""
        scalars = torch.jit.annotate(list[Optional[Union[int, float, complex]]], [])  # noqa: UP007, UP045 - TorchScript
        return torch.ops.mkldnn._linear_pointwise(x, self.weight.t(), self.bias, "none", scalars, "")


class OneDnnSplitLinear(OneDnnRows, SplitLinear):
    """`SplitLinear` with oneDNN for several rows."""


class OneDnnBagLinear(OneDnnRows, BagLinear):
    """`BagLinear` with oneDNN for several rows."""


class ReorderedLinear(nn.Module):
    """A linear layer of oneDNN, its weights in the order that suits products with `rows` rows: (..., I) -> (..., O).

    Raises RuntimeError if the processor has no products of this `dtype`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, rows: int) -> None:
        super().__init__()
        self.reordered = kernels.reorder_weight(weight.to(dtype).contiguous(), rows)
        self.dtype = dtype
        self.bias = None if bias is None else bias.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        scalars = torch.jit.annotate(list[Optional[Union[int, float, complex]]], [])  # noqa: UP007, UP045 - TorchScript
        inputs = x.to(self.dtype)
        return torch.ops.mkldnn._linear_pointwise(inputs, self.reordered, self.bias, "none", scalars, "").to(x.dtype)


def float32_layers(rows: int) -> dict[str, LayerFactory]:
    """Return name -> float32 layer of all kernels at hand; the first works everywhere."""
    layers: dict[str, LayerFactory] = {"plain": PlainLinear}
    if rows == 1:
        has_onednn = kernels.onednn_linear is not None and HAS_AVX512
        layers["split"] = OneDnnSplitLinear if has_onednn else SplitLinear
        layers["bag"] = OneDnnBagLinear if has_onednn else BagLinear
    if kernels.has_reordered():
        layers[f"onednn for {rows}"] = partial(ReorderedLinear, dtype=torch.float32, rows=rows)
    return layers


def low_precision_layers(precision: str, rows: int) -> dict[str, LayerFactory]:
    """Return name -> layer in 16 or 8 bits of all kernels at hand; the first works everywhere."""
    if precision == "int8":
        layers: dict[str, LayerFactory] = {"plain": Int8Linear}
        if kernels.has_packed_int8():
            layers["fbgemm"] = PackedInt8Linear
        return layers
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    layers = {"plain": partial(HalfLinear, dtype=dtype)}
    if kernels.has_packed_float16():
        layers["fbgemm"] = PackedFloat16Linear if precision == "float16" else _bfloat16_as_float16
    if kernels.has_reordered():
        layers[f"onednn for {rows}"] = partial(ReorderedLinear, dtype=dtype, rows=rows)
    return layers


def gpu_layers(precision: str) -> dict[str, LayerFactory]:
    """Return name -> layer for a GPU; the first works everywhere."""
    if precision == "float32":
        return {"plain": PlainLinear}
    float32 = _rounded(partial(TypedLinear, dtype=torch.float32), precision)
    if precision == "int8":  # on an H100 PyTorch's int8 products take longer than those in 16 bits
        bfloat16 = _rounded(partial(TypedLinear, dtype=torch.bfloat16), precision)
        return {"plain": Int8Linear, "bfloat16 plain": bfloat16, "float32 plain": float32}
    return {"plain": partial(TypedLinear, dtype=getattr(torch, precision)), "float32 plain": float32}


def layers_of(precision: str, like: Tensor, rows: int) -> dict[str, LayerFactory]:
    """Return name -> layer of all kernels at hand for products with about `rows` rows; the first works everywhere.

    `like`: a tensor of the model. There is a choice for float32 models on a CPU or an NVIDIA GPU. In 16 and 8 bits, the
    float32 layers with rounded weights are among them: where nothing else is faster, they are.
    """
    if uses_graphs(like.device):
        return gpu_layers(precision)
    if precision == "float32":
        layers = float32_layers(rows)
    else:
        layers = low_precision_layers(precision, rows)
        layers |= {f"float32 {name}": _rounded(layer, precision) for name, layer in float32_layers(rows).items()}
    if like.device.type != "cpu" or like.dtype != torch.float32:
        return dict(list(layers.items())[:1])
    return layers


def _bfloat16_as_float16(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return a layer of weights in bfloat16, stored as float16; the plain one where float16's range is too small."""
    rounded = _round(weight, "bfloat16")
    error = (rounded.half().float() - rounded).abs().sum(dim=1)  # (O, I) -> (O,)
    if not (error <= MAX_FLOAT16_ERROR * rounded.abs().sum(dim=1)).all():
        return HalfLinear(weight, bias, torch.bfloat16)
    return PackedFloat16Linear(rounded, bias)


def _rounded(layer: LayerFactory, precision: str) -> LayerFactory:
    """Return a factory of layers with weights that were rounded to `precision` first."""
    return lambda weight, bias: layer(_round(weight, precision), bias)


def _round(weight: Tensor, precision: str) -> Tensor:
    if precision == "int8":
        q_weight, scale = quantize(weight)
        return q_weight * scale[:, None]  # (O, I) * (O, 1) -> (O, I)
    return weight.to(getattr(torch, precision)).float()


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
    bias = None if biases[0] is None else concat_views([bias.detach() for bias in biases]).contiguous()
    return concat_views(weights), bias
