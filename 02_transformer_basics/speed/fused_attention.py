"""Multi-head attention for training: one projection for query, key and value, and attention without stored weights.

Shapes: B batch, H heads, T time (positions), D head size, E embedding; a block has n queries, which see m keys.

Sources: equation 1 of Vaswani et al. 2017, "Attention Is All You Need"; blocks of queries: Dao et al. 2022,
"FlashAttention".
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError
from transformer_block import Cache, Mask, MultiHeadAttention, causal_mask, check_mask, merge_heads, split_heads

BLOCK_SIZE = 64  # queries at a time
MAX_SEQ_LEN = 512  # positions up to which blocks were measured to be faster than PyTorch's fused kernel


def blocked_causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return causal attention of (B, H, T, D) by blocks of queries, each with no more keys than it may see.

    Up to some hundred positions this is faster on a CPU than PyTorch's fused kernel, which computes the weights a
    second time for the gradient. Raises UserError for fewer queries than keys, as with a cache, or more.
    """
    if query.shape[2] != key.shape[2]:
        raise UserError(f"{query.shape[2]} queries and {key.shape[2]} keys; there must be as many of both")
    length = query.shape[2]
    scale = 1 / math.sqrt(query.shape[-1])
    q, k, v = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)  # (B, H, T, D) -> (B H, T, D)
    causal_bias = q.new_full((length, length), -torch.inf).triu(1)  # (T, T): -inf for later positions
    outputs = []
    for start in range(0, length, BLOCK_SIZE):
        stop = start + BLOCK_SIZE
        bias = causal_bias[start:stop, :stop]  # (n, m)
        # (n, m) + (B H, n, D) @ (B H, D, m) -> (B H, n, m)
        scores = torch.baddbmm(bias, q[:, start:stop], k[:, :stop].mT, alpha=scale)
        weights = scores.softmax(dim=-1).to(v.dtype)  # under autocast a softmax is float32
        outputs.append(weights @ v[:, :stop])  # (B H, n, m) @ (B H, m, D) -> (B H, n, D)
    return torch.cat(outputs, dim=1).view(query.shape)  # (B H, T, D) -> (B, H, T, D)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: Mask, dropout: float = 0.0) -> Tensor:
    """Return the output of `transformer_block.attention`, without its weights: (B, H, Tq, D)."""
    if mask is not None:
        check_mask(mask, torch.Size((*query.shape[:3], key.shape[2])))
        mask = torch.atleast_2d(mask)  # the same for all queries, if it has no dimension for them
    if _is_causal(mask, query.shape[2], key.shape[2]):
        if query.device.type == "cpu" and query.shape[2] <= MAX_SEQ_LEN and not dropout:
            return blocked_causal_attention(query, key, value)
        return F.scaled_dot_product_attention(query, key, value, None, dropout, is_causal=True)
    output = F.scaled_dot_product_attention(query, key, value, mask, dropout)
    if mask is not None:  # where a query may attend to nothing, some kernels return NaN
        output = output.masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)
    return output


def _is_causal(mask: Mask, queries: int, keys: int) -> bool:
    """Return True if `mask` is the causal mask of as many queries as keys."""
    if mask is None or queries != keys or mask.shape != (queries, keys):
        return False
    if mask.is_inference():  # it has no version that would tell of a change
        return _equals_causal_mask.__wrapped__(mask, 0)
    return _equals_causal_mask(mask, mask._version)


@lru_cache(maxsize=1)
def _equals_causal_mask(mask: Tensor, version: int) -> bool:
    """Compare a mask (T, T): once for all layers, because the comparison waits for all that a GPU has still to do."""
    return torch.equal(mask, causal_mask(len(mask), device=mask.device))


class FusedMultiHeadAttention(MultiHeadAttention):
    """`MultiHeadAttention` on the same parameters, faster in training; it returns None for the weights."""

    def __init__(self, plain: MultiHeadAttention) -> None:
        nn.Module.__init__(self)
        self.num_heads = plain.num_heads
        self.query = plain.query
        self.key = plain.key
        self.value = plain.value
        self.output = plain.output
        self.dropout = plain.dropout
        self.train(plain.training)

    def forward(self, x: Tensor, mask: Mask = None, cache: Cache = None) -> tuple[Tensor, Tensor]:
        qkv = F.linear(x, *self.stacked_parameters())  # (B, T, E) -> (B, T, 3E)
        query, key, value = [split_heads(part, self.num_heads) for part in qkv.chunk(3, dim=-1)]  # (B, H, T, D)
        if cache is not None:
            key, value = cache(key, value)  # (B, H, T, D) -> (B, H, Tk, D)
        rate = self.dropout.p if self.training else 0.0
        heads = fused_attention(query, key, value, mask, rate)  # (B, H, T, D)
        return self.output(merge_heads(heads)), None  # pyright: ignore[reportReturnType]

    def stacked_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Return W^Q, W^K and W^V stacked, (3E, E), and their biases, (3E,): one product beats three."""
        layers = (self.query, self.key, self.value)
        weight = torch.cat([layer.weight for layer in layers])
        if self.query.bias is None:
            return weight, None
        return weight, torch.cat([layer.bias for layer in layers])
