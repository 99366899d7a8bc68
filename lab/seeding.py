"""One seed for all random number generators."""

import random
from typing import Any

import numpy as np
import torch

from lab.errors import UserError


def check_seed(seed: int) -> None:
    """Raise UserError, naming --seed, unless all random number generators accept the seed."""
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed is {seed}; it must be 0 or more and below 2**63")


def random_state() -> dict[str, Any]:
    """Return the states of the Python, NumPy and PyTorch generators as plain data for a checkpoint."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore the generator states that `random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), int(position), int(has_gauss), cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices). Environments take their seed at `reset`.

    Raises UserError, naming --seed, for an invalid seed.
    """
    check_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries still use the global generator
    torch.manual_seed(seed)
