"""MuJoCo, and off-screen rendering of its scenes."""

import ctypes.util
import functools
import importlib
import os
import re
import subprocess
import sys
from typing import Any

from lab.launch import warn_once

PROBE = "import gymnasium; e = gymnasium.make('Reacher-v5', render_mode='rgb_array'); e.reset(); e.render()"


def has_display() -> bool:
    """Return True if a Linux display server is available."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def prepare_rendering() -> None:
    """Select off-screen rendering for MuJoCo on Linux without a display; call it before mujoco is imported.

    A no-op on other systems, if the user has set MUJOCO_GL, or if the EGL library is missing.
    """
    if sys.platform == "linux" and not has_display() and ctypes.util.find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def import_mujoco() -> Any:
    """Import and return MuJoCo, also where it cannot render because MUJOCO_GL names a library that is missing.

    A note is printed if the value of MUJOCO_GL is none that MuJoCo knows. Rendering fails in both cases, and
    `rendering_problem` says why.
    """
    try:
        return importlib.import_module("mujoco")
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        backend = os.environ.get("MUJOCO_GL")
        if not backend:
            raise
        if isinstance(error, RuntimeError):
            warn_once(f"MUJOCO_GL is {backend!r}, unknown to MuJoCo: nothing can be rendered (try egl or glfw)")
    os.environ["MUJOCO_GL"] = "disable"  # only while MuJoCo is imported
    try:
        return importlib.import_module("mujoco")
    finally:
        os.environ["MUJOCO_GL"] = backend


@functools.cache
def rendering_problem() -> str | None:
    """Return a one-line reason that MuJoCo cannot render here; None if it can.

    Tested in a subprocess: with some drivers the attempt aborts the process instead of raising an error.
    """
    try:
        probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "the rendering test did not finish within a minute"
    if probe.returncode == 0:
        return None
    error = re.search(r"^[\w.]*Error: (.+)", probe.stderr, re.MULTILINE)
    reason = error[1] if error else f"the rendering test exited with status {probe.returncode}"
    backend = os.environ.get("MUJOCO_GL")
    return f"with MUJOCO_GL={backend}: {reason}" if backend else reason
