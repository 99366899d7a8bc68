"""Wrong answers to the exercise on standardization, each the right one with one mistake switched on."""

from collections.abc import Set

import torch
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def _over(x: Tensor, wrong: Set[str]) -> tuple[Tensor, Tensor]:
    """Mean and variance of what is standardized together, with the given mistakes."""
    axes = 1 if "dim_1" in wrong or "keepdim" in wrong else 0
    if "whole_tensor" in wrong:
        axes = (0, 1)
    keep = "dim_1" in wrong
    mean, variance = x.mean(axes, keepdim=keep), _variance(x, axes, keep, wrong)
    if "one_mean" in wrong:
        mean = x.mean()
    if "one_deviation" in wrong:
        variance = _variance(x, (0, 1), False, wrong)
    return mean, variance


def _variance(x: Tensor, axes: int | tuple[int, int], keep: bool, wrong: Set[str]) -> Tensor:
    """The variance over some axes; of a single number it is NaN if it is divided by the number less 1."""
    squares = (x - x.mean(axes, keepdim=True)).square()
    count = x.numel() if isinstance(axes, tuple) else x.shape[axes]
    return squares.sum(axes, keepdim=keep) / (count - 1 if "sample_deviation" in wrong else count)


def _divisor(x: Tensor, variance: Tensor, wrong: Set[str]) -> Tensor:
    """The standard deviation, with the given mistakes."""
    centered = x - x.mean(0)
    std = variance.sqrt()
    if "by_variance" in wrong:
        return variance
    if "by_root_of_std" in wrong:
        return std.sqrt()
    if "no_scale" in wrong:
        return torch.ones_like(std)
    if "by_norm" in wrong:
        return centered.norm(dim=0)
    if "by_length" in wrong:
        return x.norm(dim=0)
    if "about_zero" in wrong:
        return x.square().mean(0).sqrt()
    if "by_mean_distance" in wrong:
        return centered.abs().mean(0)
    if "by_largest" in wrong:
        return centered.abs().amax(0)
    if "by_range" in wrong or "min_max" in wrong:
        return x.amax(0) - x.amin(0)
    if "by_standard_error" in wrong:
        return std / len(x) ** 0.5
    return std + 0.01 if "large_eps" in wrong else std


def standardize(x: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Standardized features, with the given mistakes."""
    mean, variance = _over(x, wrong)
    divisor = _divisor(x, variance, wrong)
    if "no_shift" in wrong:
        mean = torch.zeros_like(mean)
    if "median" in wrong:
        mean = x.median(0).values
    if "min_max" in wrong:
        mean = x.amin(0)
    if "mean_added" in wrong:
        mean = -mean
    if "first_example" in wrong:
        mean = x[0]
    centered = x - mean
    if "absolute" in wrong:
        centered = centered.abs()
    result = centered * divisor if "multiplied" in wrong else centered / divisor
    if "shift_after" in wrong:
        result = x / divisor - mean
    if "precedence" in wrong:
        result = x - mean / divisor
    if "negated" in wrong:
        result = -result
    if "clipped" in wrong:
        result = result.clamp(-1, 1)
    if "transposed" in wrong:
        result = result.t()
    if "in_place" in wrong:
        return x.copy_(result)
    return result


AXES = ("whole_tensor", "dim_1", "keepdim")
SCALES = ("by_variance", "by_root_of_std", "no_scale", "by_norm", "by_length", "about_zero", "by_mean_distance",
          "by_largest", "by_range", "min_max", "by_standard_error", "large_eps")  # fmt: skip
OWN_SCALES = ("by_norm", "by_length", "about_zero", "by_mean_distance", "by_largest", "by_range", "min_max")
SHIFTS = ("no_shift", "median", "min_max", "mean_added", "first_example", "shift_after")
WRONG = {
    "standardize": Wrong(
        {"standardize": standardize},
        switches(_over, _variance, _divisor, standardize),
        exclusive=(
            {*AXES, "one_mean"},
            {*AXES, "one_deviation"},
            {"one_mean", "one_deviation"},
            {*SCALES},
            {*SHIFTS},
            *({each, other} for each in (*AXES, "one_deviation", "sample_deviation") for other in OWN_SCALES),
            *({"one_mean", other} for other in SHIFTS),
            *({each, "no_scale"} for each in ("one_deviation", "sample_deviation", "multiplied", "shift_after")),
            *({each, other} for each in AXES for other in ("median", "min_max", "first_example")),
            *({"shift_after", other} for other in ("absolute", "multiplied", "one_mean")),
            {"absolute", "min_max"},
            *({"precedence", other} for other in ("absolute", "multiplied", "no_scale", *SHIFTS)),
            {"transposed", "in_place"},
            {"multiplied", "large_eps"},
        ),
        readings=("sample_deviation",),
    ),
}
