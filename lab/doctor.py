"""Report of the installation: versions, devices, rendering, cached and bundled models."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import torch
from huggingface_hub import constants

from lab.cache import KERNELS, remembered
from lab.files import ROOT, display_path
from lab.record import PACKAGES
from lab.rendering import prepare_rendering, rendering_problem
from lab.texts import printable

OFFICIAL_MODELS = (
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
    "distilbert-base-uncased-finetuned-sst-2-english",
    "openai-community/gpt2",
    "gpt2",
)


def show_state() -> None:
    """Print one line per item that a bug report about the lab would need."""
    for name, value in state().items():
        print(f"{name:<20} {printable(value)}")
    for line in kernels():
        print(printable(line))


def state() -> dict[str, str]:
    """Return item name to a short description."""
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
        else f"does not work ({problem}); only Reacher can be recorded, drawn in 2D instead",
        "official models": ", ".join(cached_models())
        or "none cached; the bundled models are used when the hub is unreachable",
        "bundled models": ", ".join(display_path(path) for path in bundled_models())
        or "missing: is the clone complete?",
        "hub": "offline (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else "queried for uncached models",
    }


def version(package: str) -> str:
    """Return the installed version of a package, or a note that it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed (make setup)"


def cached_models() -> list[str]:
    """Return the official models with at least a configuration in the local hub cache."""
    folders = {name: Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" for name in OFFICIAL_MODELS}
    return [name for name, folder in folders.items() if any(folder.glob("snapshots/*/config.json"))]


def bundled_models() -> list[Path]:
    """Return the folders of the small models bundled with the lab."""
    return sorted(path.parent for path in (ROOT / "assets/models").glob("*/model.safetensors"))


def kernels() -> list[str]:
    """Return which kernels accelerated models use on this machine, a line per precision and number of rows."""
    known = remembered(KERNELS)
    if not known:
        return [f"{'kernels':<20} not measured yet: --accelerate does it and remembers the fastest"]
    lines = []
    for description, names in sorted(known.items()):
        by_kernel: dict[str, list[str]] = {}
        for size, name in names.items():
            by_kernel.setdefault(str(name), []).append(size)
        chosen = "; ".join(f"{name}: {', '.join(sizes)}" for name, sizes in sorted(by_kernel.items()))
        lines.append(f"{'kernels':<20} {description}: {chosen}")
    return lines
