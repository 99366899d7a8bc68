"""Wrong answers to the exercises on attention, each the right one with one mistake switched on."""

import math
from collections.abc import Set
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def softmax(x: Tensor, dim: int, wrong: Set[str] = NONE) -> Tensor:
    """Softmax over one dimension with the given mistakes."""
    if "in_place" in wrong:
        x -= x.amax(dim, keepdim=True)
    if "dim_ignored" in wrong:
        dim = -1
    if "first_dim" in wrong:
        dim = 0
    if "wrong_dim" in wrong:
        dim = 1 - dim if x.ndim > 1 and dim >= 0 else 0
    shift: Tensor | float = x.amax(dim, keepdim=True)
    if "overflow" in wrong:
        shift = 0.0
    if "global_max" in wrong:
        shift = x.amax()
    if "min_subtracted" in wrong:
        shift = x.amin(dim, keepdim=True)
    if "max_added" in wrong:
        shift = -shift
    if "mean_subtracted" in wrong:
        shift = x.mean(dim, keepdim=True)
    if "keepdim_of_max" in wrong:
        shift = x.amax(dim)
    shifted = x - shift
    if "negated" in wrong:
        shifted = x.amin(dim, keepdim=True) - x
    exponentials = 2**shifted if "base_2" in wrong else shifted.exp()
    if "base_10" in wrong:
        exponentials = 10**shifted
    if "clamped" in wrong:
        exponentials = x.clamp(-50, 50).exp()
    if "sigmoid" in wrong:
        return x.sigmoid()
    if "absolute" in wrong:
        exponentials = x.abs()
    if "not_exponentiated" in wrong:
        exponentials = x
    total = exponentials.sum(dim, keepdim=True)
    if "keepdim_of_sum" in wrong:
        total = exponentials.sum(dim)
    if "whole_tensor" in wrong:
        total = exponentials.sum()
    if "squares" in wrong:
        total = exponentials.square().sum(dim, keepdim=True).sqrt()
    if "mean_for_sum" in wrong:
        total = exponentials.mean(dim, keepdim=True)
    if "unnormalized" in wrong:
        return exponentials
    weights = exponentials / total
    if "hard" in wrong:
        return (x == x.amax(dim, keepdim=True)).to(x.dtype)
    return weights.log() if "log" in wrong else weights


def causal_mask(queries: int, keys: int, wrong: Set[str] = NONE) -> Any:
    """Return a causal mask with the given mistakes."""
    diagonal = keys - queries
    if "top_left" in wrong:
        diagonal = 0
    if "sign_of_diagonal" in wrong:
        diagonal = -diagonal
    if "one_ahead" in wrong:
        diagonal += 1
    if "own_position_hidden" in wrong:
        diagonal -= 1
    rows = keys if "not_sliced" in wrong else queries
    if "not_sliced" in wrong:
        diagonal -= keys - queries
    mask = torch.ones(rows, keys, dtype=torch.bool)
    mask = mask.triu(diagonal) if "future_visible" in wrong else mask.tril(diagonal)
    if "everything_visible" in wrong:
        mask = torch.ones_like(mask)
    if "only_own_position" in wrong:
        mask = mask.triu(diagonal)
    if "cache_hidden" in wrong:
        mask[:, : keys - queries] = False
    if "cache_last" in wrong:
        mask = mask.roll(queries - keys, 1) if rows == queries else mask
    if "rows_reversed" in wrong:
        mask = mask.flip(0)
    if "columns_reversed" in wrong:
        mask = mask.flip(1)
    if "upside_down" in wrong:
        mask = ~mask
    if "turned" in wrong:
        mask = mask.T
    if "float_mask" in wrong:
        return torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    if "ones_and_zeros" in wrong:
        return mask.float()
    if "integers" in wrong:
        return mask.int()
    if "extra_dimensions" in wrong:
        return mask[None, None]
    if "list_of_lists" in wrong:
        return mask.tolist()
    return mask


def attention(query: Tensor, key: Tensor, value: Tensor, wrong: Set[str] = NONE) -> Any:
    """Scaled dot-product attention with the given mistakes."""
    turned = key.transpose(-2, -1)
    if "key_not_transposed" in wrong:
        turned = key
    if "wrong_axes" in wrong:
        turned = key.transpose(1, 2)
    if "cosine" in wrong:
        query, turned = F.normalize(query, dim=-1), F.normalize(turned, dim=-2)
    scores = (key if "keys_as_queries" in wrong else query) @ turned
    if "causal" in wrong:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    if "only_output" in wrong:
        return F.scaled_dot_product_attention(query, key, value)
    head_size = query.shape[-1]
    heads = query.shape[-3] if query.ndim > 3 else 1
    scale = math.sqrt(head_size)
    if "root_of_E" in wrong:
        scale = math.sqrt(heads * head_size)
    if "by_d" in wrong:
        scale = head_size
    if "by_number_of_keys" in wrong:
        scale = math.sqrt(key.shape[-2])
    if "by_value_size" in wrong:
        scale = math.sqrt(value.shape[-1])
    if "by_number_of_queries" in wrong:
        scale = math.sqrt(query.shape[-2])
    if "by_shape_1" in wrong:
        scale = math.sqrt(query.shape[1])
    if "by_shape_0" in wrong:
        scale = math.sqrt(query.shape[0])
    if "by_8" in wrong:
        scale = 8.0
    if "whole_root" in wrong:
        scale = int(math.sqrt(head_size))
    if "multiplied" in wrong:
        scale = 1 / scale
    if "unscaled" in wrong:
        scale = 1.0
    if "scale_after_softmax" not in wrong:
        scores = scores / scale
    dim = -1
    if "softmax_over_queries" in wrong:
        dim = -2
    if "softmax_over_heads" in wrong:
        dim = 1
    if "softmax_over_batch" in wrong:
        dim = 0
    weights = scores.log_softmax(dim) if "log_weights" in wrong else scores.softmax(dim)
    if "overflow" in wrong:
        weights = scores.exp() / scores.exp().sum(dim, keepdim=True)
    if "sigmoid" in wrong:
        weights = scores.sigmoid()
    if "hard" in wrong:
        weights = (scores == scores.amax(-1, keepdim=True)).to(scores.dtype)
    if "softmax_twice" in wrong:
        weights = weights.softmax(dim)
    if "no_softmax" in wrong:
        weights = scores
    if "scale_after_softmax" in wrong:
        weights = weights / scale
    output = weights @ (key if "averages_keys" in wrong else value)
    if "query_in_place" in wrong:
        query /= math.sqrt(head_size)
    second = scores if "scores_returned" in wrong else weights
    return (second, output) if "results_swapped" in wrong else (output, second)


DIMENSIONS = {"dim_ignored", "first_dim", "wrong_dim"}
SHIFTS = {"overflow", "global_max", "min_subtracted", "max_added", "mean_subtracted", "keepdim_of_max"}
SCALES = {
    "by_number_of_queries",
    "by_shape_1",
    "by_shape_0",
    "by_8",
    "whole_root",
    "by_value_size",
    "root_of_E",
    "by_d",
    "by_number_of_keys",
    "multiplied",
    "unscaled",
}


def log_softmax(x: Tensor, dim: int) -> Tensor:
    return x - x.logsumexp(dim, keepdim=True)


def subtracted_from_max(x: Tensor, dim: int) -> Tensor:
    exponentials = (x.amax(dim, keepdim=True) - x).exp()
    return exponentials / exponentials.sum(dim, keepdim=True)


def index_of_max(x: Tensor, dim: int) -> Tensor:
    exponentials = (x - x.argmax(dim, keepdim=True)).exp()
    return exponentials / exponentials.sum(dim, keepdim=True)


def max_as_pair(x: Tensor, dim: int) -> Tensor:
    return (x - x.max(dim, keepdim=True)).softmax(dim)  # pyright: ignore


def all_axes_turned(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    turned = key.permute(*reversed(range(key.ndim)))
    weights = (query @ turned / math.sqrt(query.shape[-1])).softmax(-1)
    return weights @ value, weights


def first_axes_turned(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    weights = (query @ key.transpose(0, 1) / math.sqrt(query.shape[-1])).softmax(-1)
    return weights @ value, weights


WRONG = {
    "softmax": Wrong(
        {"softmax": softmax},
        switches(softmax),
        exclusive=(
            DIMENSIONS,
            SHIFTS | {"negated", "not_exponentiated", "hard", "clamped", "sigmoid", "absolute"},
            {"base_2", "base_10", "not_exponentiated", "hard", "clamped", "sigmoid", "absolute"},
            {"keepdim_of_sum", "whole_tensor", "squares", "unnormalized", "hard", "sigmoid", "mean_for_sum"},
            {"sigmoid", "log"},
            *({"sigmoid", each} for each in (*DIMENSIONS, "first_dim")),
            {"hard", "log"},
            {"unnormalized", "log"},
            *({each, "in_place"} for each in SHIFTS | {"not_exponentiated"}),
            *({each, "hard"} for each in DIMENSIONS),
            *({each, "not_exponentiated"} for each in ("log", "unnormalized")),
        ),
        plain={
            "log_softmax": {"softmax": log_softmax},
            "subtracted_from_max": {"softmax": subtracted_from_max},
            "index_of_max": {"softmax": index_of_max},
            "max_as_pair": {"softmax": max_as_pair},
        },
    ),
    "causal_mask": Wrong(
        {"causal_mask": causal_mask},
        switches(causal_mask),
        exclusive=(
            {"one_ahead", "own_position_hidden"},
            {"top_left", "sign_of_diagonal", "not_sliced"},
            {"float_mask", "ones_and_zeros", "integers", "extra_dimensions", "list_of_lists"},
            {"cache_hidden", "cache_last", "rows_reversed", "columns_reversed", "turned", "everything_visible"},
            {"future_visible", "everything_visible", "only_own_position"},
            *(
                {"everything_visible", each}
                for each in ("top_left", "sign_of_diagonal", "one_ahead", "own_position_hidden")
            ),
        ),
    ),
    "attention": Wrong(
        {"attention": attention},
        switches(attention),
        exclusive=(
            SCALES,
            {"unscaled", "scale_after_softmax"},
            {"softmax_over_queries", "softmax_over_heads", "softmax_over_batch", "no_softmax"},
            {"log_weights", "no_softmax", "overflow", "sigmoid", "hard", "softmax_twice"},
            {"cosine", "key_not_transposed", "wrong_axes"},
            *({"hard", each} for each in (*SCALES, "softmax_over_queries", "softmax_over_heads", "softmax_over_batch")),
            *({"sigmoid", each} for each in ("softmax_over_queries", "softmax_over_heads", "softmax_over_batch")),
            {"scale_after_softmax", "no_softmax"},
            {"no_softmax", "scores_returned"},
            {"key_not_transposed", "wrong_axes"},
        ),
        plain={
            "all_axes_turned": {"attention": all_axes_turned},
            "first_axes_turned": {"attention": first_axes_turned},
        },
    ),
}
