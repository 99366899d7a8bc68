"""The record of a run: configuration, versions, time, the figures that show that it worked, the files it wrote."""

import dataclasses
import importlib.metadata
import math
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from lab.files import portable, writable_folder, write_json

PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "transformers", "tokenizers")


class RunRecord:
    """Watches one run of one script and writes `<output_dir>/<script>.json` when it is done.

    Args:
        script: `__file__` of the script.
        output_dir: folder for everything that the run writes; made if need be.
        config: the resolved configuration, a dataclass.

    Raises:
        OSError: the folder cannot be made or written to; raised here, before any work is done.
    """

    def __init__(self, script: str, output_dir: Path, config: Any) -> None:
        self.name = Path(script).stem
        self.output_dir = writable_folder(output_dir)
        self.config = config
        self.started = time.perf_counter()
        self.figures: list[dict[str, Any]] = []
        self.results: dict[str, Any] = {}
        self.files: list[Path] = []

    def file(self, name: str) -> Path:
        """The path for an output file of this name, noted in the record."""
        path = self.output_dir / name
        self.files.append(path)
        return path

    def check(self, name: str, value: float | str, expected: str, ok: bool) -> None:
        """Note a figure that shows whether the run worked, beside what is expected of it, in words."""
        self.figures.append({"name": name, "value": _plain(value), "expected": expected, "ok": bool(ok)})

    def save(self, quiet: bool = False) -> None:
        """Write the record, and unless `quiet` say on the terminal what was found and written."""
        write_json(self.file(f"{self.name}.json"), self.as_dict())
        if quiet:
            return
        for figure in self.figures:
            print(f"{figure['name']}: {figure['value']} (expected: {figure['expected']})")
        print("wrote " + ", ".join(portable(path) for path in self.files))

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data."""
        return {
            "script": self.name,
            "date": date.today().isoformat(),
            "seconds": round(time.perf_counter() - self.started, 2),
            "figures": self.figures,
            "results": _plain(self.results),
            "files": [path.name for path in self.files],
            "config": _plain(dataclasses.asdict(self.config)),
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        }


def _plain(value: Any) -> Any:
    """`value` as JSON holds it: paths as text, numbers at a readable precision, no NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return portable(value)
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value
