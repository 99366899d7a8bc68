"""Measurements of this machine in the user's cache folder; they may be lost, and are then made again."""

import json
import os
from pathlib import Path
from typing import Any

from lab.files import write_json

KERNELS = "kernels"  # which kernel is the fastest, by speed/choice.py of 02_transformer_basics


def cache_folder() -> Path:
    """Return the folder: LAB_CACHE if set, or one in the user's cache folder; it need not exist.

    Raises RuntimeError if the user has no home folder.
    """
    if chosen := os.environ.get("LAB_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytorch-learning-lab"


def remembered(topic: str) -> dict[str, dict[str, Any]]:
    """Return what is known of a topic: description -> values; empty if there is nothing, or a damaged file."""
    try:
        contents = json.loads((cache_folder() / f"{topic}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, RecursionError):  # also: no home folder
        return {}
    if not isinstance(contents, dict):
        return {}
    return {description: values for description, values in contents.items() if isinstance(values, dict)}


def remember(topic: str, description: str, values: dict[str, Any], replaces: str) -> None:
    """Add to what is known of a topic; forget what has `replaces`, or that, a comma and more, as its description.

    Without a folder that can be written to, do nothing.
    """
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        known = remembered(topic)
        kept = {other: known[other] for other in known if not f"{other}, ".startswith(f"{replaces}, ")}
        write_json(folder / f"{topic}.json", kept | {description: values})
    except (OSError, RuntimeError):
        return
