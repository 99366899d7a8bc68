"""The device that PyTorch computes on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lab.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """Return the named device; "auto" picks a GPU if there is one. Raises UserError for an unavailable device."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if available[device]))
    if name not in available:
        raise UserError(f"--device {name}: unknown device; choose from {', '.join(DEVICES)}")
    if not available[name]:
        raise UserError(f"--device {name}: not available here; --device auto picks an available one")
    return torch.device(name)


def threads_on(device: torch.device) -> int:
    """Return the number of threads, on which the last bits of results on a CPU depend; 0 elsewhere."""
    return torch.get_num_threads() if device.type == "cpu" else 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread in the block: for small models several only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
