"""What makes training faster on a CPU, put in by the training loops."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from optimization import Precision
from speed.onednn import FastProducts


def matmul_precision(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Return a context in which matrix products are computed in `precision`; weights and sums stay in float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else FastProducts()
