"""The arithmetic of `TransformerBlock` for inference: one projection for query, key and value, a fused attention
kernel, the cache written in place, and a block as one call.

A step of generation makes hundreds of calls into PyTorch; from Python they take a large part of its time. TorchScript
runs a block as one call, and Python does the same without it.

Shapes: B batch, T time (new positions), Tk all positions, H heads, D head size, E embedding, F feed-forward size,
C capacity of a cache.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import speed.kernels as kernels
from models.generation import KVCache
from speed.choice import LinearFactory
from transformer_block import TransformerBlock


class InferenceBlock(nn.Module):
    """A block in the part of Python that TorchScript compiles; its linear layers come from `make`.

    `forward(x, mask, buffer, past)`: x (B, T, E) -> (B, T, E), or (B, 1, E) with `first_only`, where only the first
    position is computed. With a cache, its `buffer` (2, B, H, C, D) already contains `past` positions.
    """

    def __init__(self, plain: TransformerBlock, make: LinearFactory, first_only: bool = False) -> None:
        super().__init__()
        self.qkv = make(plain.attention.query, plain.attention.key, plain.attention.value)  # E to 3E
        self.output = make(plain.attention.output)
        self.ff_in = make(plain.ff_in)
        self.ff_out = make(plain.ff_out)
        self.activation = plain.activation
        self.num_heads = plain.attention.num_heads
        self.norm_first = plain.norm_first
        self.norm1 = plain.norm1
        self.norm2 = plain.norm2
        self.first_only = first_only

    def normalize1(self, x: Tensor) -> Tensor:
        """Return the first norm of x (B, T, E)."""
        norm = self.norm1
        return torch.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)

    def normalize2(self, x: Tensor) -> Tensor:
        """Return the second norm of x (B, T, E)."""
        norm = self.norm2
        return torch.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)

    def project(self, x: Tensor) -> Tensor:
        """Return query, key and value (3, B, H, T, D) of x (B, T, E)."""
        qkv = self.qkv(x)  # (B, T, E) -> (B, T, 3E)
        heads = qkv.view(x.shape[0], x.shape[1], 3, self.num_heads, x.shape[2] // self.num_heads)
        return heads.permute(2, 0, 3, 1, 4)  # (B, T, 3, H, D) -> (3, B, H, T, D)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Return the feed-forward network of x (B, T, E)."""
        hidden = self.ff_in(x)  # (B, T, E) -> (B, T, F)
        if self.activation == "relu":
            return self.ff_out(F.relu(hidden))
        return self.ff_out(F.gelu(hidden, approximate="tanh" if self.activation == "gelu_tanh" else "none"))

    def forward(self, x: Tensor, mask: Tensor | None, buffer: Tensor | None, past: int) -> Tensor:
        qkv = self.project(self.normalize1(x) if self.norm_first else x)  # (3, B, H, T, D)
        query, key_value = qkv[0], qkv[1:]  # (B, H, T, D), (2, B, H, T, D)
        if buffer is not None:
            buffer.narrow(3, past, x.shape[1]).copy_(key_value)
            key_value = buffer.narrow(3, 0, past + x.shape[1])  # (2, B, H, C, D) -> (2, B, H, Tk, D)
        if self.first_only:
            query, x = query[:, :, :1], x[:, :1]
        heads = F.scaled_dot_product_attention(query, key_value[0], key_value[1], mask)  # (B, H, T, D)
        if mask is not None:  # where a query may attend to nothing, some kernels return NaN
            heads = heads.masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)
        attended = self.output(heads.transpose(1, 2).reshape(x.shape))  # (B, H, T, D) -> (B, T, H, D) -> (B, T, E)
        if self.norm_first:
            x = x + attended
            return x + self.feed_forward(self.normalize2(x))
        x = self.normalize1(x + attended)
        return self.normalize2(x + self.feed_forward(x))


class ScriptedBlock:
    """An `InferenceBlock` with the interface of a `TransformerBlock`, compiled where there is TorchScript."""

    def __init__(self, plain: TransformerBlock, make: LinearFactory, first_only: bool = False) -> None:
        self.compute = kernels.scripted(InferenceBlock(plain, make, first_only), plain.norm1.weight.device)

    def __call__(self, x: Tensor, mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Return the block's output for x (B, T, E), as `TransformerBlock.forward` does."""
        if cache is None:
            return self.compute(x, mask, None, 0)
        past = cache.advance(x.shape[1])
        return self.compute(x, mask, cache.buffer, past)
