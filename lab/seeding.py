"""One seed for everything that draws random numbers."""

import random
from typing import Any

import numpy as np
import torch

from lab.errors import UserError


def check_seed(seed: int) -> None:
    """Raise UserError, naming --seed, unless every library that takes a seed takes this one."""
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed is {seed}; it must be 0 or more and below 2**63")


def random_state() -> dict[str, Any]:
    """Where the generators of Python, NumPy and PyTorch stand, as data that a checkpoint may hold."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the generators back to where `random_state` found them."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), int(position), int(has_gauss), cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices). Environments take their seed at `reset`.

    Raises UserError, naming --seed, for a seed that they cannot take.
    """
    check_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries still draw from the global generator
    torch.manual_seed(seed)
