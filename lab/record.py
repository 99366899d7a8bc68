"""The record of a run: configuration, versions, time, checks of the results, files written."""

import dataclasses
import importlib.metadata
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import torch

from lab.exercises import own
from lab.files import ROOT, display_path, writable_folder, write_json
from lab.texts import printable

FLAT = {"flat": True}  # metadata of a field that holds a group of options
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "transformers", "tokenizers")


class RunRecord:
    """Record of one run of a script, written to `<output_dir>/<script>.json` by `save`.

    Args:
        script: `__file__` of the script.
        output_dir: folder for everything that the run writes; created if needed.
        config: the resolved configuration, a dataclass.

    Raises:
        OSError: the folder cannot be created or written to; raised before any work is done.
    """

    unsaved: ClassVar["RunRecord | None"] = None  # the one whose run is going on

    def __init__(self, script: str, output_dir: Path, config: Any) -> None:
        self.name = Path(script).stem
        self.output_dir = writable_folder(output_dir)
        self.config = config
        self.started = time.perf_counter()
        self.checks: list[dict[str, Any]] = []
        self.results: dict[str, Any] = {}
        self.files: list[Path] = []
        self.earlier: dict[Path, tuple[int, ...] | None] = {}  # what `_version` returned before this run wrote the file
        RunRecord.unsaved = self

    def file(self, name: str) -> Path:
        """Return the path for an output file of this name; `save` lists it if this run has written it."""
        path = self.output_dir / name
        self.files.append(path)
        self.earlier[path] = _version(path)
        return path

    def check(self, name: str, value: float | str, expected: str, ok: bool) -> None:
        """Add a check: a measured value, the expected one in words, and whether it is met."""
        self.checks.append({"name": name, "value": _plain(value), "expected": expected, "ok": bool(ok)})

    def written(self) -> list[Path]:
        """Return the files that this run has written so far."""
        return [path for path in self.files if _version(path) not in (None, self.earlier.get(path))]

    def save(self, quiet: bool = False) -> None:
        """Write the record and, unless `quiet`, print the checks and the files written."""
        record = self.output_dir / f"{self.name}.json"
        self.files = [*(path for path in self.written() if path != record), record]
        write_json(record, self.as_dict())
        RunRecord.unsaved = None
        if quiet:
            return
        for check in self.checks:
            print(printable(f"{check['name']}: {check['value']} (expected: {check['expected']})"))
        print(printable("wrote " + ", ".join(display_path(path) for path in self.files)))

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        own_functions = {"own_functions": own.as_record()} if own.IN_USE else {}  # --with
        return {
            "script": self.name,
            "date": date.today().isoformat(),
            "seconds": round(time.perf_counter() - self.started, 2),
            "figures": self.checks,
            "results": _plain(self.results),
            "files": [path.name for path in self.files],
            "config": _plain(_options(self.config)),
            **own_functions,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "processor": processor(),
            "packages": {name: version(name) for name in PACKAGES},
        }


def _version(path: Path) -> tuple[int, ...] | None:
    """Return numbers that change whenever the file is written; None if there is no file."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def environment_info(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Return the environment of a measurement: command, date, commit, machine, threads, versions."""
    arguments = [display_path(Path(each)) if Path(each).is_absolute() else each for each in sys.argv[1:]]
    return {
        "command": " ".join(["python", display_path(Path(sys.argv[0])), *arguments]),
        "date": date.today().isoformat(),
        "commit": commit(ROOT),
        "processor": processor(),
        "processors": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def commit(folder: Path) -> str | None:
    """Return the commit of the repository in `folder`, with "-dirty" if files were changed; None if there is none."""
    if shutil.which("git") is None:
        return None
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}  # not one that `folder` lies in
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    done = subprocess.run(git, capture_output=True, text=True, env=environment)
    return done.stdout.strip() if done.returncode == 0 else None


def version(package: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Return the processor's name; on Linux with family and model, which distinguish processors with the same name."""
    path = Path("/proc/cpuinfo")
    cpuinfo = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    matches = [re.search(rf"^{key}\s*: (.+)$", cpuinfo, re.M) for key in ("model name", "cpu family", "model")]
    name, family, model = (match and match[1] for match in matches)
    if not name:
        return platform.processor()
    return f"{name} (family {family}, model {model})" if family and model else name


def _options(config: Any) -> dict[str, Any]:
    """Return the options of a configuration; those of a group with the metadata FLAT stand next to the others."""
    options: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        nested = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # pyright: ignore[reportArgumentType]
        options |= nested if field.metadata.get("flat") else {field.name: nested}
    return options


def _plain(value: Any) -> Any:
    """Return `value` as JSON data: paths as text, numbers with 6 digits, NaN and infinity as text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return display_path(value)
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value
