"""Wrong answers to the exercises on the parts of a block, each the right one with one mistake switched on."""

import math
from collections.abc import Callable, Set

import torch
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()
Function = Callable[[Tensor], Tensor]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, wrong: Set[str] = NONE) -> Tensor:
    """Layer norm with the given mistakes."""
    dims: tuple[int, ...] = (-1,)
    if "over_time" in wrong:
        dims = (-2,)
    if "over_batch" in wrong:
        dims = (0,)
    if "over_everything" in wrong:
        dims = tuple(range(x.ndim))
    if "over_sequence" in wrong:
        dims = tuple(range(1, x.ndim)) if x.ndim > 1 else (-1,)
    keep = "keepdim" not in wrong
    mean = x.mean(dims, keepdim=keep)
    variance = x.var(dims, correction=0, keepdim=keep)
    if "unbiased" in wrong:
        size = x.numel() // x.sum(dims).numel()
        variance = variance * size / torch.tensor(size - 1.0, dtype=x.dtype)
    if "second_moment" in wrong:
        variance = x.square().mean(dims, keepdim=keep)
    if "absolute_deviation" in wrong:
        variance = (x - x.mean(dims, keepdim=True)).abs().mean(dims, keepdim=keep) ** 2
    if "fixed_eps" in wrong:
        eps = 1e-5
    if "no_eps" in wrong:
        eps = 0.0
    divisor = (variance + eps).sqrt()
    if "eps_on_std" in wrong:
        divisor = variance.sqrt() + eps
    if "eps_squared" in wrong:
        divisor = (variance + eps**2).sqrt()
    if "var_not_std" in wrong:
        divisor = variance + eps
    if "in_place" in wrong:
        x -= mean
        mean = 0.0
    centered = x if "not_centered" in wrong else x - mean
    normalized = centered * divisor if "multiplied" in wrong else centered / divisor
    if "no_division" in wrong:
        normalized = centered
    if "affine_swapped" in wrong:
        weight, bias = bias, weight
    if "weight_plus_one" in wrong:
        weight = 1 + weight
    if "bias_first" in wrong:
        return (normalized + bias) * weight
    if "no_affine" in wrong:
        return normalized
    if "no_weight" in wrong:
        return normalized + bias
    return normalized * weight if "no_bias" in wrong else normalized * weight + bias


def _without_residual(
    x: Tensor, attention: Function, feed_forward: Function, norm1: Function, norm2: Function, norm_first: bool
) -> Tensor:
    if norm_first:
        return feed_forward(norm2(attention(norm1(x))))
    return norm2(feed_forward(norm1(attention(x))))


def transformer_block(
    x: Tensor,
    attention: Function,
    feed_forward: Function,
    norm1: Function,
    norm2: Function,
    norm_first: bool,
    wrong: Set[str] = NONE,
) -> Tensor:
    """Run a block with the given mistakes."""
    if "norms_swapped" in wrong:
        norm1, norm2 = norm2, norm1
    if "one_norm_for_both" in wrong:
        norm2 = norm1
    if "norm2_for_both" in wrong:
        norm1 = norm2
    if "sublayers_swapped" in wrong:
        attention, feed_forward = feed_forward, attention
    if "attention_twice" in wrong:
        feed_forward = attention
    if "feed_forward_twice" in wrong:
        attention = feed_forward
    if "post_for_pre" in wrong:
        norm_first = False
    if "pre_for_post" in wrong:
        norm_first = True
    if "flag_inverted" in wrong:
        norm_first = not norm_first
    if "no_residual" in wrong:
        return _without_residual(x, attention, feed_forward, norm1, norm2, norm_first)
    start = x
    first, second = (norm1, norm2) if norm_first else (lambda x: x, lambda x: x)
    if "no_norms" in wrong:
        first = second = lambda x: x
    x = _sum(x, first, attention, wrong, "no_residual_of_attention" in wrong)
    if "in_place" in wrong:
        start[:] = x
    if not norm_first and not wrong & {"no_norms", "no_norm_after_attention"}:
        x = norm1(x)
    if "attention_only" in wrong:
        return x
    residual = start if "second_residual_from_x" in wrong else x
    inner = start if "parallel" in wrong else x
    if "no_residual_of_feed_forward" in wrong:
        result = feed_forward(second(inner))
    elif "normed_residual" in wrong or "x_plus_x" in wrong or "norm_of_branch" in wrong:
        result = _sum(inner, second, feed_forward, wrong)
    else:
        result = residual + feed_forward(second(inner))
    if norm_first:
        return norm2(result) if "norm_at_the_end" in wrong else result
    return result if wrong & {"no_norms", "no_norm_at_the_end"} else norm2(result)


def _sum(x: Tensor, norm: Function, sublayer: Function, wrong: Set[str], alone: bool = False) -> Tensor:
    """Return x plus a sublayer, with the mistakes that both sums can have."""
    if "normed_residual" in wrong:
        x = norm(x)
        return x + sublayer(x)
    if "x_plus_x" in wrong:
        x = sublayer(norm(x))
        return x + x
    if "norm_of_branch" in wrong:
        return x + norm(sublayer(x))
    return sublayer(norm(x)) if alone else x + sublayer(norm(x))


def embed(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int, wrong: Set[str] = NONE) -> Tensor:
    """Embed tokens with the given mistakes."""
    batch, new = token_ids.shape
    start = past
    if "from_zero" in wrong:
        start = 0
    if "prompt_twice" in wrong:
        start = past + new
    if "past_doubled" in wrong:
        start = 2 * past
    if "one_late" in wrong:
        start = past + 1
    if "one_early" in wrong:
        start = max(past - 1, 0)
    positions = torch.arange(start, start + new)
    if "from_the_end" in wrong:
        positions = torch.arange(len(position_table) - new, len(position_table))
    if "reversed" in wrong:
        positions = positions.flip(0)
    if "same_position" in wrong:
        positions = positions[:1]
    if "last_position_for_all" in wrong:
        positions = positions[-1:]
    if "counted_through_batch" in wrong:
        positions = torch.arange(start, start + batch * new).reshape(batch, new)
    if "per_batch" in wrong:
        positions = torch.arange(start, start + batch)[:, None]
    if "by_token" in wrong:
        positions = token_ids
    if "tables_swapped" in wrong:
        token_table, position_table = position_table, token_table
    tokens, places = token_table[token_ids], position_table[positions]
    if "scaled" in wrong:
        tokens = tokens * math.sqrt(token_table.shape[-1])
    if "no_positions" in wrong:
        return tokens
    if "no_tokens" in wrong:
        return places.expand_as(tokens)
    if "product" in wrong:
        return tokens * places
    if "concatenated" in wrong:
        return torch.cat([tokens, places.expand_as(tokens)], dim=-1)
    if "mean" in wrong:
        return (tokens + places) / 2
    result = tokens + places
    return result.transpose(0, 1) if "time_first" in wrong else result


DIMENSIONS = {"over_time", "over_batch", "over_everything", "over_sequence"}
DIVISORS = {"no_eps", "fixed_eps", "eps_on_std", "eps_squared", "var_not_std", "multiplied", "no_division"}
AFFINE = {"no_affine", "no_weight", "no_bias", "bias_first", "affine_swapped", "weight_plus_one"}
NORMS = {"norms_swapped", "one_norm_for_both", "norm2_for_both", "no_norms"}
RESIDUALS = {"no_residual", "normed_residual", "x_plus_x", "norm_of_branch", "no_residual_of_attention",
             "no_residual_of_feed_forward", "second_residual_from_x", "parallel", "attention_only"}  # fmt: skip
ORDERS = {"post_for_pre", "pre_for_post", "flag_inverted"}
PLACES = {"no_norms", "norm_at_the_end", "no_norm_at_the_end", "no_norm_after_attention"}
STARTS = {"from_zero", "prompt_twice", "past_doubled", "one_late", "one_early", "from_the_end"}
POSITIONS = {"same_position", "last_position_for_all", "counted_through_batch", "per_batch", "by_token", "no_positions"}
SUMS = {"no_positions", "no_tokens", "product", "concatenated", "mean", "time_first"}
WRONG = {
    "layer_norm": Wrong(
        {"layer_norm": layer_norm},
        switches(layer_norm),
        exclusive=(
            DIMENSIONS | {"keepdim"},
            DIVISORS,
            AFFINE,
            {"unbiased", "second_moment", "absolute_deviation"},
            {"no_division", "unbiased"},
            {"no_division", "second_moment"},
            {"no_division", "absolute_deviation"},
            {"not_centered", "in_place"},
            {"in_place", "keepdim"},
        ),
    ),
    "transformer_block": Wrong(
        {"transformer_block": transformer_block},
        (*switches(transformer_block), "no_norm_after_attention", "no_norm_at_the_end"),
        exclusive=(
            NORMS,
            RESIDUALS,
            ORDERS,
            PLACES,
            {"sublayers_swapped", "attention_twice", "feed_forward_twice"},
            *({"no_residual", each} for each in PLACES | {"in_place"}),
            *({"attention_only", each} for each in (*PLACES, "attention_twice")),
            *({each, "in_place"} for each in ("second_residual_from_x", "parallel")),
            *({"pre_for_post", each} for each in ("no_norm_at_the_end", "no_norm_after_attention")),
            *({"no_norms", each} for each in ORDERS),
            {"post_for_pre", "norm_at_the_end"},
        ),
    ),
    "embed": Wrong(
        {"embed": embed},
        switches(embed),
        exclusive=(
            STARTS,
            POSITIONS | {"reversed"},
            SUMS,
            *({each, other} for each in ("from_the_end",) for other in ("counted_through_batch", "per_batch")),
            *({"by_token", each} for each in STARTS),
            *({"no_positions", each} for each in STARTS),
            {"no_tokens", "scaled"},
            {"no_tokens", "tables_swapped"},
        ),
    ),
}
