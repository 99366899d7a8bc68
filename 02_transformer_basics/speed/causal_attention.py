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

BLOCK = 64  # queries at a time
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
        later = q.new_full((q.shape[1], q.shape[1]), -torch.inf).triu(1)  # (T, T): what is to come
        outputs, all_weights = [], []
        for new, seen in blocks(q.shape[1]):
            # (n, m) + (B H, n, D) @ (B H, D, m) -> (B H, n, m)
            scores = torch.baddbmm(later[new, seen], q[:, new], k[:, seen].mT, alpha=1 / math.sqrt(q.shape[-1]))
            all_weights.append(scores.softmax(dim=-1).to(q.dtype))  # under autocast a softmax is float32
            outputs.append(all_weights[-1] @ v[:, seen])  # (B H, n, m) @ (B H, m, D) -> (B H, n, D)
        ctx.save_for_backward(q, k, v, *all_weights)
        return torch.cat(outputs, dim=1).view(query.shape)  # (B H, T, D) -> (B, H, T, D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (q, k, v, *all_weights), given = ctx.saved_tensors, gradients[0].flatten(0, 1)  # (B, H, T, D) -> (B H, T, D)
        of_q, of_k, of_v = [], torch.empty(0), torch.empty(0)
        for (new, seen), weights in reversed([*zip(blocks(q.shape[1]), all_weights, strict=True)]):
            of_weights = given[:, new] @ v[:, seen].mT  # (B H, n, D) @ (B H, D, m) -> (B H, n, m)
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_q.insert(0, of_scores @ k[:, seen])  # (B H, n, m) @ (B H, m, D) -> (B H, n, D)
            to_k = of_scores.mT @ q[:, new]  # (B H, m, n) @ (B H, n, D) -> (B H, m, D)
            to_v = weights.mT @ given[:, new]  # (B H, m, n) @ (B H, n, D) -> (B H, m, D)
            if seen.stop >= q.shape[1]:  # the last block, which sees all keys
                of_k, of_v = to_k, to_v
            else:
                of_k[:, seen] += to_k
                of_v[:, seen] += to_v
        scaled = (torch.cat(of_q, dim=1) / math.sqrt(q.shape[-1]), of_k / math.sqrt(q.shape[-1]), of_v)
        return tuple(each.view(gradients[0].shape) for each in scaled)  # (B H, T, D) -> (B, H, T, D)


def blocked_causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """query, key, value (B, H, T, D) -> what each position finds among those up to itself, (B, H, T, D)."""
    return _BlockedCausalAttention.apply(query, key, value)  # pyright: ignore[reportReturnType]
