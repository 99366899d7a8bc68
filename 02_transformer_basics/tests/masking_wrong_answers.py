"""Wrong answers to the exercises on masked attention and on heads, each the right one with one mistake switched on."""

import math
from collections.abc import Set

import torch
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def masked_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, wrong: Set[str] = NONE
) -> tuple[Tensor, Tensor]:
    """Attention with a mask, with the given mistakes."""
    scores = query @ key.transpose(-2, -1)
    if "unscaled" not in wrong:
        scores = scores / math.sqrt(query.shape[-1])
    allowed = mask
    if "inverted" in wrong:
        allowed = ~mask
    if "mask_transposed" in wrong:
        allowed = allowed.transpose(-2, -1)
    if "causal_too" in wrong:
        allowed = allowed & torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if "mask_ignored" in wrong:
        allowed = torch.ones_like(mask)
    fill = torch.finfo(scores.dtype).min
    if "zero_fill" in wrong:
        fill = 0.0
    if "small_fill" in wrong:
        fill = -1.0
    if "plus_inf" in wrong:
        fill = float("inf")
    if "nan_row" in wrong or "weights_nan" in wrong:
        fill = -float("inf")
    if "fill_too_high" in wrong:
        fill = -1000.0
    dim = -2 if "softmax_over_queries" in wrong else -1
    hidden = scores.masked_fill(~allowed, fill)
    if "plus_one_zero" in wrong:
        hidden = scores + allowed
    if "after_softmax" in wrong:
        hidden = scores
    weights = hidden.softmax(dim)
    empty = ~allowed.any(-1, keepdim=True)
    cleared = weights.masked_fill(empty, 0.0)
    if wrong & {"zero_fill", "small_fill", "plus_inf", "nan_row", "plus_one_zero", "uniform_row"}:
        cleared = weights
    if "after_softmax" in wrong:
        cleared = weights.masked_fill(~allowed, 0.0)
    if "renormalized_nan" in wrong:
        cleared = scores.softmax(dim) * allowed
        cleared = cleared / cleared.sum(-1, keepdim=True)
    if "overflow" in wrong:
        cleared = scores.exp() * allowed
        cleared = cleared / cleared.sum(-1, keepdim=True)
    averaging = cleared
    if "weights_only_zero" in wrong:
        averaging = weights
    if "masked_scores_used" in wrong:
        averaging = scores.softmax(dim)
    returned = weights if "output_only_zero" in wrong else cleared
    if "weights_nan" in wrong:
        return (weights @ value).nan_to_num(0.0), weights
    return averaging @ value, returned


def split_heads(x: Tensor, num_heads: int, wrong: Set[str] = NONE) -> Tensor:
    """Split the embedding into heads, with the given mistakes."""
    batch, time, width = x.shape
    size = width // num_heads
    if "heads_and_size_swapped" in wrong:
        num_heads, size = size, num_heads
    if "split_view" in wrong:
        return x.reshape(batch, num_heads, time, size)
    heads = x.reshape(batch, time, num_heads, size)
    if "split_interleaved" in wrong:
        heads = x.reshape(batch, time, size, num_heads).transpose(2, 3)
    if "split_along_time" in wrong:
        return x.transpose(1, 2).reshape(batch, num_heads, time, size)
    if "split_heads_first" in wrong:
        return torch.stack(x.split(size, dim=-1))
    if "split_into_batch" in wrong:
        return x.reshape(batch, time, num_heads, size).transpose(1, 2).flatten(0, 1)
    if "split_list" in wrong:
        return x.split(size, dim=-1)  # pyright: ignore
    if "split_reversed" in wrong:
        heads = heads.flip(2)
    if "split_not_transposed" in wrong:
        return heads
    if "split_last_two" in wrong:
        return heads.transpose(2, 3)
    return heads.transpose(1, 2)


def merge_heads(x: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Merge the heads, with the given mistakes."""
    batch, _, time, _ = x.shape
    if "merge_mean" in wrong:
        return x.mean(1)
    if "merge_sum" in wrong:
        return x.sum(1)
    if "merge_first_head" in wrong:
        return x[:, 0]
    if "merge_along_time" in wrong:
        return x.flatten(1, 2)
    if "merge_reversed" in wrong:
        x = x.flip(1)
    if "merge_view" in wrong:
        return x.reshape(batch, time, -1)
    if "merge_not_joined" in wrong:
        return x.transpose(1, 2)
    if "merge_interleaved" in wrong:
        return x.permute(0, 2, 3, 1).reshape(batch, time, -1)
    return x.transpose(1, 2).reshape(batch, time, -1)


FILLS = {
    "weights_nan",
    "fill_too_high",
    "renormalized_nan",
    "overflow",
    "zero_fill",
    "small_fill",
    "plus_inf",
    "nan_row",
    "plus_one_zero",
    "uniform_row",
    "after_softmax",
}


def scores_multiplied(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    weights = (scores * mask).softmax(-1).masked_fill(~mask.any(-1, keepdim=True), 0.0)
    return weights @ value, weights


def merge_by_view(x: Tensor) -> Tensor:
    batch, _, time, _ = x.shape
    return x.transpose(1, 2).view(batch, time, -1)


def split_by_view(x: Tensor, num_heads: int) -> Tensor:
    batch, time, width = x.shape
    return x.view(batch, num_heads, time, width // num_heads)


def split_time(x: Tensor, num_heads: int) -> Tensor:
    return torch.stack(x.chunk(num_heads, dim=1), dim=1)


WRONG = {
    "masked_attention": Wrong(
        {"masked_attention": masked_attention},
        (*switches(masked_attention), "uniform_row"),
        exclusive=(
            FILLS | {"output_only_zero", "weights_only_zero"},
            {"inverted", "mask_ignored"},
            {"mask_transposed", "mask_ignored"},
            {"weights_only_zero", "masked_scores_used", "weights_nan"},
            {"causal_too", "mask_transposed"},
            {"causal_too", "mask_ignored"},
            *({each, "mask_ignored"} for each in FILLS | {"output_only_zero", "weights_only_zero"}),
        ),
        plain={
            "scores_multiplied": {"masked_attention": scores_multiplied},
        },
    ),
    "split_heads": Wrong(
        {"split_heads": split_heads, "merge_heads": merge_heads},
        switches(split_heads, merge_heads),
        exclusive=(
            {
                "split_view",
                "split_interleaved",
                "split_not_transposed",
                "split_last_two",
                "split_along_time",
                "split_heads_first",
                "split_into_batch",
                "split_list",
            },
            *(
                {each, "split_reversed"}
                for each in ("split_along_time", "split_heads_first", "split_into_batch", "split_list")
            ),
            {"split_view", "split_reversed"},
            {
                "merge_mean",
                "merge_sum",
                "merge_first_head",
                "merge_along_time",
                "merge_view",
                "merge_not_joined",
                "merge_interleaved",
            },
            {"merge_mean", "merge_sum", "merge_reversed"},
        ),
        plain={
            "merge_by_view": {"split_heads": split_heads, "merge_heads": merge_by_view},
            "split_by_view": {"split_heads": split_by_view, "merge_heads": merge_heads},
            "split_time": {"split_heads": split_time, "merge_heads": merge_heads},
        },
    ),
}
