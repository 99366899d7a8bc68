"""Rendering MuJoCo's scenes without a screen."""

import ctypes.util
import functools
import os
import re
import subprocess
import sys

PROBE = "import gymnasium; e = gymnasium.make('Reacher-v5', render_mode='rgb_array'); e.reset(); e.render()"


def has_display() -> bool:
    """Whether Linux has a screen to open a window on."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def prepare_rendering() -> None:
    """Let MuJoCo draw off screen on Linux without a display; to be called before mujoco is imported.

    Changes nothing elsewhere, where the user has chosen (MUJOCO_GL), or where the EGL library is missing.
    """
    if sys.platform == "linux" and not has_display() and ctypes.util.find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")


@functools.cache
def rendering_problem() -> str | None:
    """Why MuJoCo cannot render here, in a line; None if it can.

    Tried in a process of its own: with some drivers the attempt ends the process instead of raising an error.
    """
    try:
        probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "the attempt to render did not end within a minute"
    if probe.returncode == 0:
        return None
    error = re.search(r"^[\w.]*Error: (.+)", probe.stderr, re.MULTILINE)
    return error[1] if error else f"rendering ended the process with status {probe.returncode}"
