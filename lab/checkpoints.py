"""Checkpoints: plain data, never code. Written atomically, always read with `weights_only=True`."""

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lab.errors import UserError
from lab.files import atomic


def save_checkpoint(path: Path, kind: str, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, text, and lists and dictionaries of them) as a checkpoint of `kind`.

    Raises OSError, which names `path`, if it cannot be written.
    """
    with atomic(path) as temporary, temporary.open("wb") as file:
        torch.save({"kind": kind, **state}, file)


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """Read a checkpoint of `kind` onto the CPU.

    Raises:
        OSError: the file is missing or cannot be read.
        UserError: the file is damaged, holds more than plain data, or is not a checkpoint of this kind.
    """
    with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged or hostile file can raise almost anything
            raise UserError(f"{path}: damaged, or not a checkpoint of plain data ({type(error).__name__})") from None
    saved_kind = state.get("kind") if isinstance(state, dict) else type(state).__name__
    if saved_kind != kind:
        raise UserError(f"{path}: not a checkpoint of {kind} (it says {saved_kind!r})")
    return state


def check_like(saved: Any, current: Any, name: str) -> None:
    """Raise ValueError unless a saved value is like the current one: keys, lengths, shapes, types, finite numbers."""
    if isinstance(current, Tensor):
        fits = isinstance(saved, Tensor) and (saved.shape, saved.dtype) == (current.shape, current.dtype)
        if not fits or not saved.isfinite().all():
            raise ValueError(f"{name} is no tensor {tuple(current.shape)} of finite numbers")
    elif isinstance(current, dict):
        if not isinstance(saved, dict):
            raise ValueError(f"{name} is no dictionary")
        for key, value in current.items():
            check_like(saved[key], value, f"{name}.{key}")
    elif isinstance(current, list):
        if not isinstance(saved, list) or len(saved) != len(current):
            raise ValueError(f"{name} has not {len(current)} entries")
        for number, value in enumerate(current):
            check_like(saved[number], value, f"{name}.{number}")
    elif isinstance(current, int | float) and (not isinstance(saved, int | float) or not math.isfinite(saved)):
        raise ValueError(f"{name} is no finite number")


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load the state of an optimizer. Raises ValueError for a moment that has not the shape of its parameter.

    PyTorch does not check the shapes, and its fused kernels would write beyond the end of a smaller tensor.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        for name, value in saved["state"].get(number, {}).items():
            expected = torch.Size() if name == "step" else parameter.shape
            if not isinstance(value, Tensor) or value.shape != expected:
                raise ValueError(f"{name} of the optimizer is no tensor {tuple(expected)}")
    optimizer.load_state_dict(saved)
