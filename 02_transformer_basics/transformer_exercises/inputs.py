"""Inputs of the probes of lesson 2: tensors whose numbers can be checked by hand."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lab.exercises.probes import Answer, Changed, Probe


def dyadic(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a tensor of quarters between -2 and 2."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, shape, generator=generator).to(dtype) / 4


def numbered(*shape: int) -> Tensor:
    """Return a tensor whose numbers spell their indices: 123 is at [1, 2, 3]."""
    places = torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij")
    return sum(place * 10 ** (len(shape) - 1 - i) for i, place in enumerate(places)).double()  # pyright: ignore


def not_contiguous(x: Tensor) -> Tensor:
    """Return a tensor with the same numbers, whose last dimension is not the closest in memory."""
    return x.mT.contiguous().mT


class Formula:
    """A function of one tensor, which is shown as a formula on the card."""

    def __init__(self, text: str, function: Callable[[Tensor], Tensor]) -> None:
        self.text = text
        self.function = function

    def __call__(self, x: Tensor) -> Tensor:
        """Return the function's value in new memory, so that x and the value do not change together."""
        return self.function(x).clone()

    def __repr__(self) -> str:
        return self.text


def reading(probe: Probe, readings: Callable[[Any], Any]) -> Probe:
    """Return a probe whose results are the same for all readings that the exercise leaves open."""

    def run(answer: Answer) -> Any:
        result = probe.run(answer)
        return Changed(readings(result.value), result.names)

    return Probe(probe.name, run, probe.arguments, probe.relative, probe.absolute)
