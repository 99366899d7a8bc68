"""Wrong answers to the exercises on attention, each the right one with one mistake switched on."""

import math
from collections.abc import Set

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


def causal_mask(queries: int, keys: int, wrong: Set[str] = NONE) -> Tensor:
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


def attention(query: Tensor, key: Tensor, value: Tensor, wrong: Set[str] = NONE) -> tuple[Tensor, Tensor]:
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
    ),
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
    ),
}
