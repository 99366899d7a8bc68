"""Wrong answers to the exercises on the parts of a block, each the right one with one mistake switched on."""

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
    if "dim_1" in wrong:
        dims = (1,)
    if "over_positions" in wrong:
        dims = tuple(range(x.ndim - 1))
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
    if "eps_as_minimum" in wrong:
        divisor = variance.sqrt().clamp(min=eps)
    if "eps_as_least_variance" in wrong:
        divisor = variance.clamp(min=eps).sqrt()
    if "eps_twice" in wrong:
        divisor = divisor + eps
    if "sum_of_squares" in wrong:
        divisor = (variance * x.shape[-1] + eps).sqrt()
    if "length" in wrong:
        divisor = (variance * x.shape[-1]).sqrt() + eps
    if "one_variance" in wrong:
        divisor = (x.var(correction=0) + eps).sqrt()
    if "median" in wrong:
        mean = x.median(-1, keepdim=True).values
    if "range" in wrong:
        divisor = x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True) + eps
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
    if "weight_divides" in wrong:
        return normalized / weight + bias
    if "bias_subtracted" in wrong:
        return normalized * weight - bias
    if "residual" in wrong:
        return x + normalized * weight + bias
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
    if "feed_forward_not_normed" in wrong:
        second = lambda x: x  # noqa: E731
    if "attention_not_normed" in wrong:
        first = lambda x: x  # noqa: E731
    if "norm_before_the_block" in wrong and norm_first:
        x = norm1(x)
        first = lambda x: x  # noqa: E731
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
    elif wrong & BOTH_SUMS:
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
    if "subtracted" in wrong:
        return x - sublayer(norm(x))
    if "averaged" in wrong:
        return (x + sublayer(norm(x))) / 2
    if "norm_on_both_sides" in wrong:
        return x + norm(sublayer(norm(x)))
    return sublayer(norm(x)) if alone else x + sublayer(norm(x))


DIMENSIONS = {"dim_1", "over_positions", "over_time", "over_batch", "over_everything", "over_sequence"}
DIVISORS = {
    "eps_as_minimum",
    "eps_as_least_variance",
    "eps_twice",
    "sum_of_squares",
    "length",
    "one_variance",
    "range",
    "no_eps",
    "fixed_eps",
    "eps_on_std",
    "eps_squared",
    "var_not_std",
    "multiplied",
    "no_division",
}
AFFINE = {
    "weight_divides",
    "bias_subtracted",
    "residual",
    "no_affine",
    "no_weight",
    "no_bias",
    "bias_first",
    "affine_swapped",
    "weight_plus_one",
}
NORMS = {"norms_swapped", "one_norm_for_both", "norm2_for_both", "no_norms"}
BOTH_SUMS = {
    "subtracted",
    "positions_scaled",
    "normed",
    "normed_residual",
    "x_plus_x",
    "norm_of_branch",
    "averaged",
    "norm_on_both_sides",
}
RESIDUALS = {
    "subtracted",
    "averaged",
    "norm_on_both_sides",
    "norm_before_the_block",
    "no_residual",
    "normed_residual",
    "x_plus_x",
    "norm_of_branch",
    "no_residual_of_attention",
    "no_residual_of_feed_forward",
    "second_residual_from_x",
    "parallel",
    "attention_only",
}
ORDERS = {"post_for_pre", "pre_for_post", "flag_inverted"}
PLACES = {
    "attention_not_normed",
    "feed_forward_not_normed",
    "no_norms",
    "norm_at_the_end",
    "no_norm_at_the_end",
    "no_norm_after_attention",
}


def over_last_two(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    mean, variance = x.mean((-2, -1), keepdim=True), x.var((-2, -1), correction=0, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def post_norm_of_branch(
    x: Tensor, attention: Function, feed_forward: Function, norm1: Function, norm2: Function, norm_first: bool
) -> Tensor:
    if norm_first:
        return transformer_block(x, attention, feed_forward, norm1, norm2, norm_first)
    x = x + norm1(attention(x))
    return x + norm2(feed_forward(x))


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
            {"not_centered", "in_place", "median"},
            *(
                {each, other}
                for each in ("one_variance", "range")
                for other in ("unbiased", "second_moment", "absolute_deviation")
            ),
            *({"median", each} for each in (*DIMENSIONS, "keepdim")),
            {"residual", "in_place"},
            {"in_place", "keepdim"},
        ),
        plain={
            "over_last_two": {"layer_norm": over_last_two},
        },
    ),
    "transformer_block": Wrong(
        {"transformer_block": transformer_block},
        (*switches(transformer_block, _sum), "no_norm_after_attention", "no_norm_at_the_end"),
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
            *(
                {"post_for_pre", each}
                for each in (
                    "norm_at_the_end",
                    "norm_of_branch",
                    "norm_on_both_sides",
                    "normed_residual",
                    "norm_before_the_block",
                    "attention_not_normed",
                    "feed_forward_not_normed",
                )
            ),
            {"norm_before_the_block", "attention_not_normed"},
            *(
                {"no_norms", each}
                for each in ("normed_residual", "norm_of_branch", "norm_on_both_sides", "norm_before_the_block")
            ),
            {"attention_only", "feed_forward_not_normed"},
        ),
        plain={
            "post_norm_of_branch": {"transformer_block": post_norm_of_branch},
        },
    ),
}
