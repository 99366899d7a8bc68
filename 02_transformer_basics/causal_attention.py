"""Causal attention for training on a CPU: a block of queries after the other, each with no more keys than it may see.

PyTorch's fused kernel keeps no weights and computes them anew for the gradient. Up to some hundred positions it is
faster to keep them, which takes half of T^2 numbers a head, in large products that know what to leave out.

Shapes: B batch, H heads, T time (positions), D head size; a block has n queries, which see m keys.

Sources: equation 1 of Vaswani et al. 2017, "Attention Is All You Need"; blocks, and the gradient: Dao et al. 2022,
"FlashAttention", appendix B.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 128  # queries at a time
LONGEST = 512  # positions up to which this was measured to be the faster way


def blocks(length: int) -> Iterator[tuple[slice, slice]]:
    """The positions of each block's queries and of the keys that one of them may see."""
    for start in range(0, length, BLOCK):
        yield slice(start, start + BLOCK), slice(0, start + BLOCK)


class _BlockedCausalAttention(torch.autograd.Function):
    """softmax(Q K^T / sqrt(D)) V and its gradient, block by block."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (each.flatten(0, 1) for each in (query, key, value))  # (B, H, T, D) -> (B H, T, D)
        later = q.new_full((BLOCK, BLOCK), -torch.inf).triu(1)  # within a block: what is to come
        output, all_weights = torch.empty_like(q), []
        for new, seen in blocks(q.shape[1]):
            scores = (q[:, new] / math.sqrt(q.shape[-1])) @ k[:, seen].mT  # (B H, n, D) @ (B H, D, m) -> (B H, n, m)
            own = scores[:, :, new]  # (B H, n, n), of the block's queries with its own keys
            own += later[: own.shape[1], : own.shape[1]]
            weights = scores.softmax(dim=-1).to(q.dtype)  # under autocast a softmax is float32
            output[:, new] = weights @ v[:, seen]  # (B H, n, m) @ (B H, m, D) -> (B H, n, D)
            all_weights.append(weights)
        ctx.save_for_backward(q, k, v, *all_weights)
        return output.view(query.shape)  # (B H, T, D) -> (B, H, T, D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (q, k, v, *all_weights), given = ctx.saved_tensors, gradients[0].flatten(0, 1)  # (B, H, T, D) -> (B H, T, D)
        of_q, of_k, of_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (new, seen), weights in zip(blocks(q.shape[1]), all_weights, strict=True):
            of_v[:, seen].baddbmm_(weights.mT, given[:, new])  # (B H, m, n) @ (B H, n, D) -> (B H, m, D)
            of_weights = given[:, new] @ v[:, seen].mT  # (B H, n, D) @ (B H, D, m) -> (B H, n, m)
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_q[:, new] = of_scores @ k[:, seen]  # (B H, n, m) @ (B H, m, D) -> (B H, n, D)
            of_k[:, seen].baddbmm_(of_scores.mT, q[:, new])  # (B H, m, n) @ (B H, n, D) -> (B H, m, D)
        scaled = (of_q / math.sqrt(q.shape[-1]), of_k / math.sqrt(q.shape[-1]), of_v)
        return tuple(each.view(gradients[0].shape) for each in scaled)  # (B H, T, D) -> (B, H, T, D)


def blocked_causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """query, key, value (B, H, T, D) -> what each position finds among those up to itself, (B, H, T, D)."""
    return _BlockedCausalAttention.apply(query, key, value)  # pyright: ignore[reportReturnType]
