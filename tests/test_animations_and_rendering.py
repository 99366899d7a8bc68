"""Animations in real time, and MuJoCo whatever MUJOCO_GL says."""

import importlib
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from lab import launch, rendering
from lab.animations import gif_timing, save_gif
from lab.rendering import import_mujoco


@given(st.integers(1, 400), st.floats(0.5, 1000), st.floats(0.1, 3))
def test_gifs_are_in_real_time_and_have_no_delay_that_browsers_ignore(
    num_frames: int, frames_per_second: float, hold: float
) -> None:
    indices, durations = gif_timing(num_frames, frames_per_second, hold)
    assert len(indices) == len(durations)
    assert indices[-1] == num_frames - 1
    assert indices[0] / frames_per_second <= 0.02
    assert len(set(np.diff(indices))) <= 1
    assert durations[-1] == round(1000 * hold)
    assert min(durations[:-1], default=20) >= 20
    assert all(duration % 10 == 0 for duration in durations[:-1])
    true_seconds = (indices[-1] - indices[0]) / frames_per_second
    assert sum(durations[:-1]) / 1000 == pytest.approx(true_seconds, abs=0.01 + 1e-9)
    # no more frames are left out than needed
    assert len(indices) == 1 or frames_per_second <= 50 or indices[1] - indices[0] < 0.02 * frames_per_second + 1


@pytest.mark.parametrize(
    ("frames_per_second", "num_read", "durations"),
    [(25, 12, {40}), (50, 12, {20}), (62.5, 6, {30, 40}), (500, 2, {20})],
)
def test_the_delays_in_a_file(tmp_path: Path, frames_per_second: float, num_read: int, durations: set[int]) -> None:
    pictures = 255 * np.eye(12, dtype=np.uint8)[:, None, :, None].repeat(3, axis=3)  # a point that moves to the right
    save_gif(tmp_path / "fast.gif", [Image.fromarray(picture) for picture in pictures], frames_per_second)
    with Image.open(tmp_path / "fast.gif") as gif:
        read = [(each.info["duration"], np.asarray(each.convert("L"))) for each in ImageSequence.Iterator(gif)]
    assert len(read) == num_read
    assert {duration for duration, _ in read[:-1]} == durations
    assert read[-1][1].argmax() == 11


@pytest.mark.parametrize(
    ("backend", "error", "has_note"),
    [
        ("osmesa", AttributeError("'NoneType' object has no attribute 'glGetError'"), False),
        ("egl", AttributeError("'NoneType' object has no attribute 'eglQueryString'"), False),
        ("egl", ImportError("no PyOpenGL"), False),
        ("nonsense", RuntimeError("invalid value"), True),
    ],
)
def test_mujoco_is_imported_where_its_opengl_library_is_missing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    backend: str,
    error: Exception,
    has_note: bool,
) -> None:
    def import_module(name: str) -> ModuleType:
        assert name == "mujoco"
        if os.environ["MUJOCO_GL"] != "disable":
            raise error
        return ModuleType("mujoco")

    monkeypatch.setattr(rendering.importlib, "import_module", import_module)
    monkeypatch.setenv("MUJOCO_GL", backend)
    launch.warn_once.cache_clear()
    assert import_mujoco().__name__ == "mujoco"
    assert os.environ["MUJOCO_GL"] == backend, "the user's value is kept, for rendering to report"
    note = capsys.readouterr().err
    assert note.count("\n") == has_note
    assert not has_note or "MUJOCO_GL is 'nonsense'" in note


def test_a_broken_mujoco_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> ModuleType:
        raise ImportError("no such package")

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(ImportError, match="no such package"):
        import_mujoco()
