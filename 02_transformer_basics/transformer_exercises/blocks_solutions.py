"""The parts of a block as functions: right answers of exercises whose functions the lab has in another form.

Tests compare them with `transformer_block.py` and `models/gpt2.py`.

Shapes: B batch, T time, E embedding, V vocabulary, P positions of the table.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer norm over the last dimension: each position by itself, then a scale and a shift.

    x (..., E), weight and bias (E,) -> (..., E).
    """
    # Mean and variance of the E numbers of each position. The variance divides by E, not by E - 1.
    mean = x.mean(dim=-1, keepdim=True)  # (..., E) -> (..., 1)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)  # (..., E) -> (..., 1)
    # eps keeps a position whose numbers are all equal from a division by zero.
    normalized = (x - mean) / (variance + eps).sqrt()
    return normalized * weight + bias


def transformer_block(
    x: Tensor,
    attention: Callable[[Tensor], Tensor],
    feed_forward: Callable[[Tensor], Tensor],
    norm1: Callable[[Tensor], Tensor],
    norm2: Callable[[Tensor], Tensor],
    norm_first: bool,
) -> Tensor:
    """Attention, then the feed-forward network, each with a residual connection and a norm.

    x (B, T, E) -> (B, T, E). The four functions take one tensor (B, T, E) and return another.
    """
    # Pre-norm: x itself is only ever added to.
    if norm_first:
        x = x + attention(norm1(x))
        return x + feed_forward(norm2(x))
    # Post-norm: every sum is normalized.
    x = norm1(x + attention(x))
    return norm2(x + feed_forward(x))


def embed(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int) -> Tensor:
    """The sum of the embeddings of each token and of its position.

    token_ids (B, T), token_table (V, E), position_table (P, E) -> (B, T, E). `past` tokens are
    already in the cache: the new ones come after them.
    """
    # The positions of the new tokens, the same for every sequence.
    positions = torch.arange(past, past + token_ids.shape[1])  # (T,)
    return token_table[token_ids] + position_table[positions]  # (B, T, E) + (T, E)
