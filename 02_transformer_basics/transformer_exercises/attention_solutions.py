"""Attention as functions of their own: the right answers of exercises whose functions the lab has in another form.

Tests compare them with `transformer_block.py`.

Shapes: Tq queries, Tk keys, D head size, Dv size of a value.
"""

import math

import torch
from torch import Tensor


def softmax(x: Tensor, dim: int) -> Tensor:
    """The softmax of x over one of its dimensions: positive numbers that sum to 1 over `dim`."""
    # exp(1000) is infinite. Less the largest number, the quotients are the same and exp is at most 1.
    largest = x.amax(dim=dim, keepdim=True)
    exponentials = (x - largest).exp()
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


def attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1).

    query (..., Tq, D), key (..., Tk, D), value (..., Tk, Dv) -> output (..., Tq, Dv) and weights
    (..., Tq, Tk), whose rows sum to 1.
    """
    # The score of every query and key, divided by sqrt(d_k).
    scores = query @ key.transpose(-2, -1)  # (..., Tq, D) @ (..., D, Tk) -> (..., Tq, Tk)
    scores = scores / math.sqrt(query.shape[-1])
    # Each row of scores becomes weights, and the output is the weighted average of the values.
    weights = scores.softmax(dim=-1)
    return weights @ value, weights  # (..., Tq, Tk) @ (..., Tk, Dv) -> (..., Tq, Dv)


def causal_mask(queries: int, keys: int) -> Tensor:
    """The mask (Tq, Tk), True where a query may attend to a key: to its own position and earlier ones.

    The queries are the last of the keys, as with a cache.
    """
    allowed = torch.ones(queries, keys, dtype=torch.bool)  # (Tq, Tk)
    # Query 0 is at position keys - queries.
    return allowed.tril(diagonal=keys - queries)


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention with a boolean mask, True where a query may attend to a key.

    query (..., Tq, D), key (..., Tk, D), value (..., Tk, Dv), mask broadcasts to (..., Tq, Tk) ->
    output (..., Tq, Dv) and weights (..., Tq, Tk). A query that may attend to nothing gets zeros.
    """
    # The score of every query and key, divided by sqrt(d_k).
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (..., Tq, Tk)
    # Hide what may not be attended to. Not with -inf: the softmax of a row of -inf is NaN.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    # A row that may attend to nothing is uniform now: set its weights to zero.
    weights = scores.softmax(dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, weights
