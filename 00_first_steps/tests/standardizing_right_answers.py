"""Right answers to the exercise on standardization in other styles than the lab's: all must pass."""

import statistics

import torch
from torch import Tensor, nn


def by_sample_deviation(x: Tensor) -> Tensor:
    """PyTorch's default, which divides by N - 1, with a small number added to the deviation."""
    return (x - x.mean(0)) / (x.std(0) + 1e-8)


def by_both_at_once(x: Tensor) -> Tensor:
    """Both statistics from one call."""
    std, mean = torch.std_mean(x, dim=0, correction=0, keepdim=True)
    return torch.div(x - mean, std.clamp_min(1e-8))


def by_definition(x: Tensor) -> Tensor:
    """Sums of squares, with the epsilon under the root."""
    centered = x - x.sum(dim=-2, keepdim=True) / x.shape[0]
    return centered * ((centered**2).sum(0) / len(x) + 1e-6).rsqrt()


def by_columns(x: Tensor) -> Tensor:
    """One feature after the other, with Python's numbers."""
    columns = []
    for column in x.unbind(dim=1):
        numbers = column.tolist()
        mean, std = statistics.fmean(numbers), statistics.pstdev(numbers)
        columns.append(torch.tensor([(number - mean) / std for number in numbers], dtype=x.dtype))
    return torch.stack(columns, dim=1)


def by_layer(x: Tensor) -> Tensor:
    """Batch normalization, with its own epsilon."""
    return nn.BatchNorm1d(x.shape[1], affine=False, dtype=x.dtype)(x)


def by_transposing(x: Tensor) -> Tensor:
    """Rows of the transposed tensor."""
    rows = x.t()
    return ((rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True, unbiased=False)).t()


def in_a_copy(x: Tensor) -> Tensor:
    """In place, on a copy."""
    result = x.clone()
    result -= result.mean(dim=0)
    result /= result.std(dim=0) + 1e-7
    return result


RIGHT = {
    "standardize": {
        "sample deviation": {"standardize": by_sample_deviation},
        "both at once": {"standardize": by_both_at_once},
        "definition": {"standardize": by_definition},
        "columns": {"standardize": by_columns},
        "layer": {"standardize": by_layer},
        "transposing": {"standardize": by_transposing},
        "copy": {"standardize": in_a_copy},
    },
}
