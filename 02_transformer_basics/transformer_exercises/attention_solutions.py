"""Attention as functions of their own: the right answers of exercises whose functions the lab has in another form.

Tests compare them with `transformer_block.py`.

Shapes: Tq queries, Tk keys, D head size, Dv size of a value.
"""

import math

import torch
from torch import Tensor


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
