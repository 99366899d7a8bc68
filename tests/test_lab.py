"""Shared infrastructure: flags and errors, atomic files, checkpoints, records, progress, plots, texts."""

import importlib
import importlib.metadata
import json
import math
import os
import pickle
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from lab import doctor, progress, rendering
from lab.animations import CAPTION_HEIGHT, captioned, save_gif, side_by_side
from lab.cache import KERNELS, remember
from lab.checkpoints import load_checkpoint, save_checkpoint
from lab.errors import UserError, require_at_least
from lab.files import (
    ROOT,
    atomic,
    display_path,
)
from lab.launch import launch, parse_arguments, warn_once
from lab.memory import keep_freed_memory
from lab.plots import heat_map, learning_curve, new_figure, save_figure, smooth
from lab.progress import track
from lab.record import FLAT, RunRecord, commit, environment_info
from lab.rendering import prepare_rendering, rendering_problem
from lab.seeding import random_state, restore_random_state, seed_everything
from lab.texts import collect_texts, printable

# --- launch -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    """Learning rate."""


@dataclass(frozen=True)
class Config:
    """Try the parser."""

    name: str
    """Name of the player."""
    count: int = 3
    """Number of repetitions."""
    mode: Literal["one", "two"] = "one"
    """Mode of operation."""
    loud: bool = False
    """Print in capitals."""
    inner: Inner = field(default_factory=Inner)


def outcome(
    capsys: pytest.CaptureFixture[str], main: Callable[[Any], None], *arguments: str
) -> tuple[object, str, str]:
    """Return exit status, standard output and standard error of a script with this `main`."""
    status: object = 0
    try:
        launch(Config, main, arguments)
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_flags_become_the_configuration() -> None:
    expected = Config("Ada", 5, "two", True, Inner(0.25))
    arguments = ["--name", "Ada", "--count", "5", "--mode", "two", "--loud", "--rate", "0.25"]
    assert parse_arguments(Config, arguments) == expected
    assert parse_arguments(Config, ["--name", "Ada"]) == Config("Ada")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--name", "x", "--cuont", "4"), ("--cuont",)),
        (("--name", "x", "--coun", "4"), ("--coun", "--count")),
        (("--name", "x", "--count", "many"), ("--count", "many")),
        (("--name", "x", "--count"), ("--count",)),
        (("--name", "x", "--mode", "three"), ("--mode", "three", "one", "two")),
        (("--name", "x", "stray"), ("stray",)),
        ((), ("--name",)),
    ],
)
def test_invalid_flags_give_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    status, out, err = outcome(capsys, lambda config: pytest.fail("it ran"), *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.isprintable() or err.rstrip("\n").isprintable()
    for word in words:
        assert word in err


def test_help_shows_every_field_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = outcome(capsys, lambda config: pytest.fail("it ran"), "--help")
    assert (status, err) == (0, "")
    for text in (
        "Try the parser",
        "--name",
        "Name of the player",
        "--count",
        "Number of rep",
        "3",
        "--mode",
        "{one,two}",
        "--loud",
    ):
        assert text in out
    assert "--rate" in out


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("--count is 3;\n it must be 4"), 2, "error: --count is 3; it must be 4\n"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), 1, "error: a.txt: No such file or directory\n"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device\n"),
        (OSError("just words"), 1, "error: just words\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; existing files were left unchanged\n"),
        (KeyboardInterrupt("the checkpoint is new"), 130, "error: interrupted; the checkpoint is new\n"),
    ],
)
def test_errors_become_one_line_and_a_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, line: str
) -> None:
    monkeypatch.setattr(RunRecord, "unsaved", None)

    def main(config: Config) -> None:
        print("some results")
        raise error

    assert outcome(capsys, main, "--name", "x") == (status, "some results\n", line)


def test_an_interrupted_run_says_which_results_it_has_replaced(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("model.pth", "metrics.csv"):
        (tmp_path / name).write_text("earlier")

    def main(config: Config) -> None:
        record = RunRecord("walk.py", tmp_path, config)
        record.file("model.pth").write_text("of this run")
        record.file("metrics.csv")
        raise KeyboardInterrupt

    line = f"error: interrupted; {tmp_path} has new model.pth; "
    line += "other files may be of an earlier run: run the same command again\n"
    assert outcome(capsys, main, "--name", "x") == (130, "", line)


def test_success_is_status_0_and_bugs_show_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(capsys, lambda config: print(config.name), "--name", "x") == (0, "x\n", "")
    with pytest.raises(ZeroDivisionError):
        outcome(capsys, lambda config: print(1 / 0), "--name", "x")


CHATTY = """
from dataclasses import dataclass
from lab.launch import launch
@dataclass
class Config:
    lines: int = 3
launch(Config, lambda config: [print("line", i) for i in range(config.lines)])
"""


@pytest.mark.parametrize("lines", [3, 100_000])
@pytest.mark.parametrize("buffered", [True, False])
def test_closed_pipe_is_not_an_error(lines: int, buffered: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    python = [sys.executable, *(() if buffered else ("-u",)), "-c", CHATTY, "--lines", str(lines)]
    done = subprocess.run(python, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_warning_is_one_line_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    warn_once.cache_clear()
    for _ in range(3):
        warn_once("drawn in 2D:\n no display")
    assert capsys.readouterr() == ("", "note: drawn in 2D: no display\n")


def test_control_characters_in_messages_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def main(config: Config) -> None:
        warn_once("named \x1b[2J")
        raise UserError("nothing here takes \x1b]0;x\x07 \udce9")

    _, _, err = outcome(capsys, main, "--name", "x")
    assert err == "note: named \\x1b[2J\nerror: nothing here takes \\x1b]0;x\\x07 \\udce9\n"


@dataclass(frozen=True)
class Paths:
    file: Path | None = None
    files: tuple[Path, ...] = ()
    texts: tuple[str, ...] = ()


def test_paths_that_are_not_utf_8_are_refused_at_the_start() -> None:
    for name in ("file", "files"):
        with pytest.raises(UserError, match=rf"^--{name} a\udce9: not UTF-8 text; .*PYTHONUTF8=1$"):
            parse_arguments(Paths, [f"--{name}", "a\udce9"])
    texts = ["--texts", "a\udce9"]  # a script that reads texts names their number
    assert parse_arguments(Paths, [*texts, "--file", "ü", "--files", "é", "à"]).file == Path("ü")


def test_minimum_values_are_checked() -> None:
    require_at_least(3, Config("x"), "count")
    for least, count in ((4, 3), (0, math.nan), (0, math.inf), (0, -1)):
        with pytest.raises(UserError, match="--count"):
            require_at_least(least, Config("x", count=count), "count")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"^--count is inf; it must be finite and at least 0$"):
        require_at_least(0, Config("x", count=math.inf), "count")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_invalid_seeds_are_refused(seed: int) -> None:
    with pytest.raises(UserError, match="--seed"):
        seed_everything(seed)


def test_seed_determines_all_random_numbers() -> None:
    def draw(seed: int) -> list[float]:
        seed_everything(seed)
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002

    assert draw(5) == draw(5)
    assert all(one != other for one, other in zip(draw(5), draw(6), strict=True))
    assert draw(2**63 - 1) == draw(2**63 - 1)


def test_the_state_of_every_generator_is_restored() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.normal()), float(torch.rand(()))]  # noqa: NPY002

    seed_everything(3)
    draw()  # NumPy draws normal numbers in pairs and keeps the second
    state = random_state()
    expected = draw()
    seed_everything(4)
    restore_random_state(state)
    assert draw() == expected


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Exploit:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.proof),))


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    state = {"weights": torch.arange(3.0), "steps": 7, "names": ["a", "b"], "settings": {"rate": 0.5, "on": None}}
    save_checkpoint(tmp_path / "model.pth", "walker", state)
    loaded = load_checkpoint(tmp_path / "model.pth", "walker")
    torch.testing.assert_close(loaded.pop("weights"), state.pop("weights"), rtol=0, atol=0)
    assert loaded == {"kind": "walker", **state}


def test_damaged_and_malicious_checkpoints_are_refused(tmp_path: Path) -> None:
    proof = tmp_path / "exploited"
    save_checkpoint(tmp_path / "whole.pth", "walker", {"weights": torch.zeros(1000)})
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "malicious.pth").write_bytes(pickle.dumps(Exploit(proof)))
    torch.save({"kind": "walker", "weights": Exploit(proof)}, tmp_path / "inside.pth")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "unnamed.pth")
    torch.save(torch.zeros(1), tmp_path / "tensor.pth")
    for path in sorted(tmp_path.glob("*.pth")):
        if path.stem != "whole":
            with pytest.raises(UserError, match=path.name) as caught:
                load_checkpoint(path, "walker")
            assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="swimmer"):
        load_checkpoint(tmp_path / "whole.pth", "swimmer")
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "missing.pth", "walker")
    assert not proof.exists()


def test_failed_checkpoint_write_keeps_the_previous_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    save_checkpoint(path, "walker", {"steps": 7})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, "walker", {"steps": lambda: 8})
    assert load_checkpoint(path, "walker")["steps"] == 7
    assert names(tmp_path) == ["model.pth"]


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_flat_group_of_options_is_recorded_next_to_the_others(tmp_path: Path) -> None:
    @dataclass
    class Flat:
        name: str = "Ada"
        inner: Inner = field(default_factory=Inner, metadata=FLAT)

    RunRecord("script.py", tmp_path, Flat()).save(quiet=True)
    assert json.loads((tmp_path / "script.json").read_text())["config"] == {"name": "Ada", "rate": 0.5}


def test_record_holds_configuration_checks_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = RunRecord("somewhere/walk.py", tmp_path / "out", Config("Ada"))
    record.file("curve.png").write_bytes(b"")
    record.check("mean", 1 / 3, "below 1", ok=np.bool_(True))  # pyright: ignore[reportArgumentType]
    record.check("worst", math.nan, "a number", ok=False)
    record.check("label", "\x1b[2J", "a name", ok=True)
    record.results = {"path": ROOT / "lab", "list": [1.23456789, (2, None)], "far": math.inf}
    record.save()
    saved = json.loads((tmp_path / "out/walk.json").read_text(), parse_constant=pytest.fail)
    assert saved["config"] == {"name": "Ada", "count": 3, "mode": "one", "loud": False, "inner": {"rate": 0.5}}
    assert saved["figures"] == [
        {"name": "mean", "value": 0.333333, "expected": "below 1", "ok": True},
        {"name": "worst", "value": "nan", "expected": "a number", "ok": False},
        {"name": "label", "value": "\x1b[2J", "expected": "a name", "ok": True},
    ]
    assert saved["results"] == {"path": "lab", "list": [1.23457, [2, None]], "far": "inf"}
    assert saved["files"] == ["curve.png", "walk.json"]
    assert saved["packages"]["torch"] == importlib.metadata.version("torch")
    assert saved["seconds"] >= 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mean: 0.333333 (expected: below 1)"
    assert lines[2] == "label: \\x1b[2J (expected: a name)"
    assert lines[-1].startswith("wrote ")
    record.save(quiet=True)
    assert capsys.readouterr().out == ""


def test_record_lists_only_the_files_that_this_run_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("stale.png", "replaced.png", "same.csv"):
        (tmp_path / name).write_text("of an earlier run")
    record = RunRecord("walk.py", tmp_path, Config("Ada"))
    for name in ("never.png", "stale.png"):
        record.file(name)
    record.file("new.csv").write_text("new")
    record.file("same.csv").write_text("of an earlier run")
    with atomic(record.file("replaced.png")) as temporary:
        temporary.write_text("of an earlier run")
    record.files += [tmp_path / "other.gif"]
    (tmp_path / "other.gif").write_text("written without asking for a path")
    for _ in range(2):
        record.save()
        files = json.loads((tmp_path / "walk.json").read_text())["files"]
        assert files == ["new.csv", "same.csv", "replaced.png", "other.gif", "walk.json"]
        out = capsys.readouterr().out
        assert "stale.png" not in out
        assert "never.png" not in out


def test_unwritable_output_folder_fails_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        RunRecord("walk.py", tmp_path / "file", Config("Ada"))


def test_recorded_command_contains_no_local_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", [str(ROOT / "benchmarks/x.py"), "--output", str(ROOT / "runs/x.json"), "--steps", "5"]
    )
    assert environment_info()["command"] == "python benchmarks/x.py --output runs/x.json --steps 5"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_of_changed_files_ends_in_dirty(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    assert commit(tmp_path) is None
    git("init")
    (tmp_path / "a.txt").write_text("one")
    git("add", "a.txt")
    git("commit", "--message", "Add a")
    clean = commit(tmp_path)
    assert clean is not None
    assert re.fullmatch(r"[0-9a-f]{7,40}", clean)
    (tmp_path / "a.txt").write_text("two")
    assert commit(tmp_path) == f"{clean}-dirty"
    (tmp_path / "copy").mkdir()
    assert commit(tmp_path / "copy") is None  # the lab without its history, in another repository


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(ROOT) is None
    assert environment_info()["commit"] is None


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "lines"), [(1, 1), (7, 7), (10, 10), (1000, 10), (1005, 11)])
def test_progress_without_a_terminal_is_about_ten_lines(
    capsys: pytest.CaptureFixture[str], total: int, lines: int
) -> None:
    assert list(track(iter(range(total)), total, "walk", lambda i: f"at {i}")) == list(range(total))
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == lines
    assert err.splitlines()[-1] == f"walk {total}/{total}  at {total - 1}"


def test_progress_on_a_terminal_is_a_bar_with_metrics(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = progress.Console
    monkeypatch.setattr(progress, "Console", lambda **_: make(stderr=True, force_terminal=True, width=100))
    assert list(track(iter(range(5)), 5, "walk", lambda i: f"at {i}")) == list(range(5))
    out, err = capsys.readouterr()
    assert out == ""
    for text in ("walk", "5/5", "at 4"):
        assert text in err


def test_tracked_stream_stops_with_its_consumer() -> None:
    taken: list[int] = []
    for number in track((taken.append(i) or i for i in range(100)), 100, "walk", str):
        if number == 2:
            break
    assert taken == [0, 1, 2]


# --- memory -----------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
import torch
from lab.memory import keep_freed_memory

def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

supported = keep_freed_memory() if sys.argv[1] == "kept" else True
before = pages()
numbers = torch.ones(6 * 2**20)  # 24 MiB
peak = pages()
del numbers
print(supported, before, peak, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_kept() -> None:
    kept_fraction = {}
    for kind in ("kept", "returned"):
        done = subprocess.run([sys.executable, "-c", HOLD, kind], capture_output=True, text=True, timeout=60)
        supported, before, peak, after = done.stdout.split()
        assert supported == "True"
        kept_fraction[kind] = (int(after) - int(before)) / (int(peak) - int(before))
    assert kept_fraction["kept"] > 0.9
    assert kept_fraction["returned"] < 0.1


@pytest.mark.parametrize("name", ["train_language_model", "train_sentiment"])
def test_training_scripts_keep_freed_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, asked = importlib.import_module(name), []
    monkeypatch.setattr(script, "keep_freed_memory", lambda: asked.append(name))
    with pytest.raises(FileNotFoundError):
        script.main(script.Config(data=tmp_path / "nothing.csv", output_dir=tmp_path / "out"))
    assert asked == [name]


def test_other_c_libraries_are_left_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False


# --- plots and animations ---------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.integers(1, 50))
def test_smooth_is_a_running_mean(values: list[float], window: int) -> None:
    expected = [np.mean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
    np.testing.assert_allclose(smooth(values, window), expected, atol=1e-8)


def test_learning_curve_shows_values_mean_baselines_and_second_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr("lab.plots.save_figure", lambda figure, path: figures.append(figure))
    learning_curve(
        tmp_path / "curve.png",
        [1, 2, 3],
        [0.0, 2.0, 4.0],
        title="Learning",
        x_label="step",
        y_label="reward",
        y_name="return",
        window=2,
        reference_lines={"random": -1.0, "best": 5.0},
        second=("epsilon", [1.0, 0.5, 0.25]),
    )
    axes, right = figures[0].axes
    raw, mean, low, high = axes.lines
    assert list(raw.get_ydata()) == [0, 2, 4]
    assert list(mean.get_ydata()) == [0, 1, 3]
    assert (low.get_ydata()[0], high.get_ydata()[0]) == (-1.0, 5.0)
    assert list(right.lines[0].get_ydata()) == [1.0, 0.5, 0.25]
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("Learning", "step", "reward")
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["return (running mean of 2)", "random (-1)", "best (5)", "epsilon"]


def test_figures_are_written_atomically_and_closed(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = new_figure(columns=2)
    heat_map(left, [[0.0, 1.0]], ["row"], ["a", "b"])
    assert [text.get_text() for text in left.texts] == ["0.00", "1.00"]
    right.plot([1, 2])
    save_figure(figure, tmp_path / "figure.png")
    assert names(tmp_path) == ["figure.png"]
    assert not plt.fignum_exists(figure.number)
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG"


def test_animation_has_its_frames_captions_and_durations(tmp_path: Path) -> None:
    images = [np.full((40, 60, 3), shade, dtype=np.uint8) for shade in (0, 120, 240)]
    frames = [captioned(image, f"step {i}") for i, image in enumerate(images)]
    save_gif(tmp_path / "walk.gif", frames, frames_per_second=10, hold_seconds=2)
    assert names(tmp_path) == ["walk.gif"]
    with Image.open(tmp_path / "walk.gif") as gif:
        read = [frame.convert("RGB").copy() for frame in ImageSequence.Iterator(gif)]
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        assert gif.info["loop"] == 0
    assert (len(read), durations) == (3, [100, 100, 2000])
    assert read[0].size == (60, 40 + CAPTION_HEIGHT)
    for frame, original in zip(read, frames, strict=True):
        assert np.abs(np.asarray(frame, dtype=int) - np.asarray(original, dtype=int)).max() < 40
    with pytest.raises(UserError, match=r"walk\.gif"):
        save_gif(tmp_path / "walk.gif", [], 10)


def test_caption_is_above_an_unchanged_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 90, 3), dtype=np.uint8)
    framed = np.asarray(captioned(image, "reward 3"))
    np.testing.assert_array_equal(framed[CAPTION_HEIGHT:], image)
    assert framed[:CAPTION_HEIGHT].min() < 100 < 230 < framed[:CAPTION_HEIGHT].max()
    assert not np.array_equal(framed, np.asarray(captioned(image, "reward 4")))
    both = side_by_side([Image.fromarray(image), Image.fromarray(image)], gap=5)
    assert both.size == (185, 30)
    np.testing.assert_array_equal(np.asarray(both)[:, 95:], image)


# --- rendering and lab doctor -----------------------------------------------------------------------------------------


def test_missing_opengl_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    rendering_problem.cache_clear()
    monkeypatch.setenv("MUJOCO_GL", "disable")
    problem = rendering_problem()
    rendering_problem.cache_clear()
    assert problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("pass", None),
        ("raise ValueError('no screen')", "no screen"),
        ("import os; os.abort()", f"the rendering test exited with status {-signal.SIGABRT}"),
    ],
)
def test_rendering_test_cannot_abort_this_process(
    monkeypatch: pytest.MonkeyPatch, program: str, problem: str | None
) -> None:
    rendering_problem.cache_clear()
    monkeypatch.setattr(rendering, "PROBE", program)
    assert rendering_problem() == problem
    rendering_problem.cache_clear()


@pytest.mark.parametrize(
    ("platform", "library", "before", "after"),
    [
        ("linux", "libEGL.so", {}, "egl"),
        ("linux", "libEGL.so", {"MUJOCO_GL": "osmesa"}, "osmesa"),
        ("linux", "libEGL.so", {"DISPLAY": ":0"}, None),
        ("linux", "libEGL.so", {"WAYLAND_DISPLAY": "w"}, None),
        ("linux", None, {}, None),
        ("darwin", "libEGL.so", {}, None),
        ("win32", "libEGL.so", {}, None),
    ],
)
def test_off_screen_rendering_is_selected_only_on_headless_linux(
    monkeypatch: pytest.MonkeyPatch, platform: str, library: str | None, before: dict[str, str], after: str | None
) -> None:
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores it
        monkeypatch.delenv(name)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: library)
    prepare_rendering()
    assert os.environ.get("MUJOCO_GL") == after


def test_doctor_lists_cached_missing_and_bundled_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.constants, "HF_HUB_CACHE", str(tmp_path))
    assert doctor.cached_models() == []
    snapshot = tmp_path / "models--openai-community--gpt2/snapshots/1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert doctor.cached_models() == ["openai-community/gpt2"]
    assert doctor.version("no-such-package").startswith("not installed")
    assert [display_path(path) for path in doctor.bundled_models()] == [
        "assets/models/language",
        "assets/models/sentiment",
    ]


def test_doctor_shows_which_kernels_were_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    assert doctor.kernels() == ["kernels              not measured yet: --accelerate does it and remembers the fastest"]
    names = {"8x4": "onednn for 8", "4x4": "plain", "16x4": "onednn for 8"}
    remember(KERNELS, "a processor, float32, rows 8", names, replaces="a processor, float32, rows 8")
    assert doctor.kernels() == [
        "kernels              a processor, float32, rows 8: onednn for 8: 8x4, 16x4; plain: 4x4"
    ]
    (tmp_path / "kernels.json").write_text("[")
    assert doctor.kernels()[0].endswith("remembers the fastest")


# --- texts ------------------------------------------------------------------------------------------------------------


def test_examples_are_used_only_without_input(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from file")
    assert collect_texts((), None, ("example",)) == ["example"]
    assert collect_texts(("mine",), tmp_path / "a.txt", ("example",)) == ["mine", "from file"]


@given(st.text())
def test_unprintable_characters_are_escaped(text: str) -> None:
    shown = printable(text)
    assert all(character.isprintable() or character == "\n" for character in shown)
    if all(character.isprintable() or character == "\n" for character in text):
        assert shown == text


def test_time_is_measured_from_the_start(tmp_path: Path) -> None:
    record = RunRecord("walk.py", tmp_path, Config("Ada"))
    time.sleep(0.05)
    assert 0.05 <= record.as_dict()["seconds"] < 30
