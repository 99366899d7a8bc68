"""What is installed and what works here."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import torch
from huggingface_hub import constants

from lab.files import ROOT, display_path
from lab.record import PACKAGES
from lab.rendering import prepare_rendering, rendering_problem

OFFICIAL_MODELS = (
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
    "distilbert-base-uncased-finetuned-sst-2-english",
    "openai-community/gpt2",
    "gpt2",
)


def show_state() -> None:
    """Print a line for each thing that a question about the lab would need."""
    for name, value in state().items():
        print(f"{name:<20} {value}")


def state() -> dict[str, str]:
    """Name to finding, in words."""
    prepare_rendering()
    problem = rendering_problem()
    backend = os.environ.get("MUJOCO_GL", "the system's window library")
    devices = [
        name
        for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if there
    ]
    return {
        "python": f"{platform.python_version()} ({'a' if sys.prefix != sys.base_prefix else 'no'} virtual environment)",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        **{name: version(name) for name in PACKAGES},
        "threads": f"{torch.get_num_threads()} in PyTorch",
        "devices": ", ".join(["cpu", *devices]),
        "rendering": f"works, through {backend}"
        if problem is None
        else f"does not work ({problem}); drawings replace it",
        "official models": ", ".join(cached_models())
        or "none cached; the lab's own are used when the hub is out of reach",
        "the lab's models": ", ".join(display_path(path) for path in shipped_models())
        or "missing: is the clone complete?",
        "hub": "offline by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "asked when a model is not cached",
    }


def version(package: str) -> str:
    """The installed version of a package, or that there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed (make setup)"


def cached_models() -> list[str]:
    """Official models with at least a configuration in the hub's local cache."""
    folders = {name: Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" for name in OFFICIAL_MODELS}
    return [name for name, folder in folders.items() if any(folder.glob("snapshots/*/config.json"))]


def shipped_models() -> list[Path]:
    """The small models that come with the lab."""
    return sorted(path.parent for path in (ROOT / "assets/models").glob("*/model.safetensors"))
