"""train.py as its users run it: flags, files, refusals, interruption."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from q_learning_agent import QLearningAgent

SCRIPT = Path(__file__).resolve().parent.parent / "train.py"
OUTPUTS = {"training_reward_curve.png", "maze_agent.gif", "policy.png", "q_table.json", "train.json"}


def run(*flags: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    done = run("--output_dir", folder, "--render", "ansi")
    assert done.returncode == 0, done.stderr
    assert "path length: 6 (expected: 6, the shortest)" in done.stdout
    assert done.stdout.count("M") == 7  # the way as text: the start and six moves
    return folder


def test_everything_promised_is_written(default_run: Path) -> None:
    assert {file.name for file in default_run.iterdir()} == OUTPUTS
    assert set(json.loads((default_run / "train.json").read_text())["files"]) == OUTPUTS
    for name in ("training_reward_curve.png", "policy.png"):
        with Image.open(default_run / name) as picture:
            assert min(picture.size) > 300
    with Image.open(default_run / "maze_agent.gif") as animation:
        assert getattr(animation, "n_frames", 1) >= 7


def test_the_record_says_that_it_worked(default_run: Path) -> None:
    record = json.loads((default_run / "train.json").read_text())
    assert record["figures"] == [{"name": "path length", "value": 6, "expected": "6, the shortest", "ok": True}]
    assert record["results"]["start_value"] == pytest.approx(record["results"]["optimal_start_value"], abs=1e-3)


def test_defaults_of_the_flags_are_those_of_the_agent(default_run: Path) -> None:
    config = json.loads((default_run / "train.json").read_text())["config"]
    assert config["episodes"] == 300  # as the tests of the agent train it
    for name, parameter in list(inspect.signature(QLearningAgent).parameters.items())[1:]:
        assert config[name] == parameter.default, name


def test_the_saved_agent_can_be_loaded(default_run: Path) -> None:
    agent = QLearningAgent.load(default_run / "q_table.json")
    assert agent.act(14, greedy=True) == 1


def test_other_mazes(tmp_path: Path) -> None:
    maze = tmp_path / "maze.txt"
    maze.write_text("SG\n")
    for flags in (["--maze_file", maze], ["--maze_size", "6", "--slip", "0.1"]):
        done = run("--output_dir", tmp_path / "out", "--episodes", "300", *flags)
        assert done.returncode == 0, done.stderr
        (figure,) = json.loads((tmp_path / "out" / "train.json").read_text())["figures"]
        assert figure["ok"], figure


REFUSALS = [
    (["--learning_rat", "0.1"], "--learning_rate"),
    (["--episodes", "many"], "many"),
    (["--episodes", "0"], "--episodes is 0; it must be 1 or more"),
    (["--epsilon", "0"], "epsilon_min is 0.05; it must be in [0, 0.0], no more than epsilon"),
    (["--maze_size", "1"], "a maze of 1 x 1 cells"),
    (["--maze_file", "missing.txt"], "missing.txt: No such file"),
    (["--maze_file", "missing.txt", "--maze_size", "5"], "exclude each other"),
]


@pytest.mark.parametrize(("flags", "message"), REFUSALS, ids=[" ".join(flags) for flags, _ in REFUSALS])
def test_a_mistake_is_told_in_one_line_and_harms_nothing(default_run: Path, flags: list[str], message: str) -> None:
    before = {file.name: file.read_bytes() for file in default_run.iterdir()}
    done = run("--output_dir", default_run, *flags)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert before == {file.name: file.read_bytes() for file in default_run.iterdir()}


def test_an_unwritable_folder_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--output_dir", tmp_path / "file", "--episodes", "1000000000")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C differently")
def test_ctrl_c_leaves_no_half_written_file(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = [sys.executable, SCRIPT, "--output_dir", folder, "--episodes", "1000000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not folder.exists() and time.monotonic() < deadline:
            time.sleep(0.05)  # the folder is made when training begins
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "error: interrupted; files written before stand as they were\n"
    assert list(folder.iterdir()) == []
