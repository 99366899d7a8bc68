"""Faster training, used by both training loops: fused attention, and oneDNN or bfloat16 for matrix products."""

import copy
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch

from models.distilbert import DistilBertClassifier
from models.gpt2 import GPT2
from optimization import Precision
from speed.fused_attention import FusedMultiHeadAttention
from speed.onednn import use_onednn_linear

Model = TypeVar("Model", bound=GPT2 | DistilBertClassifier)


def training_copy(model: Model) -> Model:
    """Return a copy of `model` that shares its parameters and has fused attention: train it instead of the plain one.

    An optimizer step on one changes both. Create the copy when `model` is on its device. It can be in train mode while
    `model` is in eval mode, or the reverse. It returns no attention weights; use the plain model for those.
    """
    shared: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    fast = copy.deepcopy(model, memo=shared)
    for block in fast.blocks:
        block.attention = FusedMultiHeadAttention(block.attention)
    return fast


def matmul_precision(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Return a context in which matrix products are computed in `precision`; weights and sums stay in float32."""
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return use_onednn_linear()
