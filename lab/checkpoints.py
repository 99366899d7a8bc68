"""Checkpoints: plain data, never code. Written atomically, always read with `weights_only=True`."""

import warnings
from pathlib import Path
from typing import Any

import torch

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
