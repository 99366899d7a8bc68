"""One seed for everything that draws random numbers."""

import random

import numpy as np
import torch

from lab.errors import UserError


def check_seed(seed: int) -> None:
    """Raise UserError, naming --seed, unless every library that takes a seed takes this one."""
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed is {seed}; it must be 0 or more and below 2**63")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices). Environments take their seed at `reset`.

    Raises UserError, naming --seed, for a seed that they cannot take.
    """
    check_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries still draw from the global generator
    torch.manual_seed(seed)
