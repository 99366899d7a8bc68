"""The functions between the two maps of a feed-forward network, by the names that blocks know them by.

Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units (GELUs)".
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SLOPE, CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715


class _TanhGELU(torch.autograd.Function):
    """GELU by tanh, for training: PyTorch's computes the tanh twice, which on a CPU takes longer than all the rest.

    (1 + tanh(u)) / 2 is sigmoid(2 u), which is cheap, and keeping it spares the second time. Every call reads and
    writes the whole tensor, which is what takes long, so there are as few as can be.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))
        share = torch.addcmul(x.new_tensor(SLOPE), x, x, value=SLOPE * CUBIC).mul_(x).sigmoid_()
        ctx.save_for_backward(x, share)
        return x * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, share = ctx.saved_tensors
        slope = torch.addcmul(x.new_tensor(SLOPE), x, x, value=3 * SLOPE * CUBIC)  # of what sigmoid takes
        # (x s)' = s + x u' s (1 - s)
        return torch.ops.aten.sigmoid_backward(slope.mul_(x), share).add_(share).mul_(gradients[0])


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU as GPT-2 approximates it, of a tensor of any shape."""
    if x.requires_grad and torch.is_grad_enabled():
        return _TanhGELU.apply(x)  # pyright: ignore[reportReturnType]
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,  # exact, with the error function: BERT and DistilBERT
    "gelu_tanh": gelu_tanh,  # GPT-2's `gelu_new`
}
