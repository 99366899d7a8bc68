"""Where PyTorch computes."""

import torch

from lab.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one. Raises UserError for one that is not there."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if available[device]))
    if name not in available:
        raise UserError(f"--device {name}: there is {', '.join(DEVICES)}")
    if not available[name]:
        raise UserError(f"--device {name}: not available here; --device auto takes what there is")
    return torch.device(name)
