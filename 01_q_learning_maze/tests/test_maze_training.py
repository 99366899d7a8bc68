"""train.py as users run it: flags, files, invalid input, interruption."""

import importlib.util
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from pretended_device import pretended_gpu

from lab.launch import launch
from maze_env import SimpleMaze
from maze_layout import random_maze
from maze_training import greedy_trajectories, train_shared_table, train_single_agent
from q_learning_agent import QLearningAgent
from replay_q_learning import Iteration

SCRIPT = Path(__file__).resolve().parent.parent / "train.py"
OUTPUTS = {"training_reward_curve.png", "metrics.csv", "maze_agent.gif", "policy.png", "q_table.json", "train.json"}


def run(*flags: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    done = run("--output_dir", folder, "--render", "ansi")
    assert done.returncode == 0, done.stderr
    assert "path length: 6 (expected: 6, the shortest)" in done.stdout
    assert done.stdout.count("M") == 7  # the path as text: the start and six moves
    return folder


def test_all_documented_files_are_written(default_run: Path) -> None:
    assert {file.name for file in default_run.iterdir()} == OUTPUTS
    assert set(json.loads((default_run / "train.json").read_text())["files"]) == OUTPUTS
    for name in ("training_reward_curve.png", "policy.png"):
        with Image.open(default_run / name) as image:
            assert min(image.size) > 300
    with Image.open(default_run / "maze_agent.gif") as animation:
        assert getattr(animation, "n_frames", 1) >= 7


def test_the_record_holds_the_check_and_the_value_of_the_start(default_run: Path) -> None:
    record = json.loads((default_run / "train.json").read_text())
    assert record["figures"] == [{"name": "path length", "value": 6, "expected": "6, the shortest", "ok": True}]
    assert record["results"]["start_value"] == pytest.approx(record["results"]["optimal_start_value"], abs=1e-3)


def test_defaults_of_the_flags_equal_those_of_the_agent(default_run: Path) -> None:
    config = json.loads((default_run / "train.json").read_text())["config"]
    assert config["episodes"] == 300  # as the tests of the agent train it
    for name, parameter in list(inspect.signature(QLearningAgent).parameters.items())[1:]:
        assert config[name] == parameter.default, name


def test_the_record_holds_the_results_of_a_thousand_other_seeds(default_run: Path) -> None:
    results = json.loads((default_run / "train.json").read_text())["results"]
    assert results["band_seeds"] == 1000
    assert results["band_optimal_share"] == 1


def test_the_columns_of_the_metrics_have_their_names(default_run: Path) -> None:
    header, *rows = (default_run / "metrics.csv").read_text().splitlines()
    assert header == "episode,total_reward,length,epsilon,reached_goal"
    assert len(rows) == 300


def test_the_saved_agent_can_be_loaded(default_run: Path) -> None:
    agent = QLearningAgent.load(default_run / "q_table.json")
    assert agent.act(14, greedy=True) == 1


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """train.py as a module, to run it without starting a process."""
    specification = importlib.util.spec_from_file_location("maze_train", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["maze_train"] = module  # dataclasses look there
    specification.loader.exec_module(module)
    return module


def record_of(script: ModuleType, folder: Path, *flags: str | Path) -> dict[str, Any]:
    """Return the record of a run with these flags."""
    launch(script.Config, script.main, [*map(str, flags), "--output_dir", str(folder)])
    return json.loads((folder / "train.json").read_text())


NARROW = {"SG": 1, "S" + "." * 30 + "G": 31, "G..S.G": 2, "S.X\n.GG": 2}


@pytest.mark.parametrize("maze", list(NARROW))
@pytest.mark.parametrize("learner", ["one", "replay"])
def test_narrow_mazes_and_several_goals(tmp_path: Path, script: ModuleType, maze: str, learner: str) -> None:
    file = tmp_path / "maze.txt"
    file.write_text(maze)
    record = record_of(script, tmp_path, "--maze_file", file, "--learner", learner, "--band_seeds", "10")
    (check,) = record["figures"]
    assert (check["value"], check["ok"]) == (NARROW[maze], True)


def test_a_slippery_maze(tmp_path: Path, script: ModuleType) -> None:
    record = record_of(script, tmp_path, "--maze_size", "6", "--slip", "0.1", "--band_seeds", "20")
    (check,) = record["figures"]
    assert check["name"] == "mean path length"
    assert check["ok"], check


def test_a_large_maze_is_learned_with_replay(tmp_path: Path, script: ModuleType) -> None:
    record = record_of(script, tmp_path, "--maze_size", "48")
    (check,) = record["figures"]
    assert check["ok"], check
    assert record["results"]["start_value"] == record["results"]["optimal_start_value"] == 11 - check["value"] < -50
    assert set(record["files"]) == {path.name for path in tmp_path.iterdir()} == OUTPUTS
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == "round,steps,tried,arrivals,start_value,learned"
    assert len(rows) == record["results"]["rounds"]
    assert [row.rsplit(",", 1)[1] for row in rows] == ["0"] * (len(rows) - 1) + ["1"]
    agent = QLearningAgent.load(tmp_path / "q_table.json")
    assert len(agent.q_table) == record["results"]["table_entries"]
    with Image.open(tmp_path / "policy.png") as image:
        assert min(image.size) > 300


def test_band_and_sweep_are_drawn_on_request(tmp_path: Path, script: ModuleType) -> None:
    record = record_of(script, tmp_path, "--band_seeds", "0", "--episodes", "60", "--sweep")
    assert "band_seeds" not in record["results"]
    assert set(record["files"]) == OUTPUTS | {"sweep.png", "sweep.json"}
    success_rates = json.loads((tmp_path / "sweep.json").read_text())
    assert (
        success_rates["episodes 20"]["rate 0_01"]["epsilon 0_1"]
        < 0.1
        < 0.9
        < success_rates["episodes 200"]["rate 0_5"]["epsilon 0_1"]
    )


@pytest.mark.parametrize(
    "flags",
    [("--episodes", "20", "--band_seeds", "6", "--slip", "0.1"), ("--maze_size", "10", "--learner", "replay")],
    ids=["band", "replay"],
)
def test_a_run_on_a_gpu_equals_that_on_the_cpu(tmp_path: Path, script: ModuleType, flags: tuple[str, ...]) -> None:
    on_cpu = record_of(script, tmp_path / "cpu", *flags)
    with pretended_gpu():
        on_gpu = record_of(script, tmp_path / "gpu", *flags, "--device", "cuda")
    assert on_gpu["results"] == on_cpu["results"]
    for name in ("metrics.csv", "q_table.json"):
        assert (tmp_path / "gpu" / name).read_bytes() == (tmp_path / "cpu" / name).read_bytes()


def test_a_single_agent_is_kept_at_three_stages() -> None:
    maze = SimpleMaze()
    result = train_single_agent(QLearningAgent(4), maze, episodes=300, seed=0)
    assert list(result.stages) == ["untrained", "3 episodes", "300 episodes"]
    sizes = [len(agent.q_table) for agent in result.stages.values()]
    assert 0 == sizes[0] < sizes[1] <= sizes[2]
    assert result.agent is result.stages["300 episodes"]
    trajectories = greedy_trajectories(maze, result.stages)
    assert list(trajectories) == list(result.stages)
    assert trajectories["300 episodes"].length == result.best_length == 6


def test_a_shared_table_is_kept_at_three_stages() -> None:
    maze = SimpleMaze(random_maze(24, 24, seed=0))
    watched: list[int] = []

    def progress(records: Iterator[Iteration]) -> Iterator[Iteration]:
        for record in records:
            watched.append(record.number)
            yield record

    result = train_shared_table(maze, seed=0, progress=progress)
    last = result.records[-1].number
    assert watched == list(range(1, last + 1))
    titles = list(result.stages)
    assert titles[0] == "iteration 1"
    assert titles[-1] == f"iteration {last}"
    assert len(titles) == 3
    assert len(result.stages[titles[0]].q_table) < len(result.agent.q_table)
    assert greedy_trajectories(maze, result.stages)[titles[-1]].length == result.best_length


INVALID = [
    (["--learning_rat", "0.1"], "--learning_rate"),
    (["--episodes", "many"], "many"),
    (["--episodes", "0"], "--episodes is 0; it must be 1 or more"),
    (["--band_seeds", "-1"], "--band_seeds is -1; it must be 0 or more"),
    (["--epsilon", "0"], "epsilon_min is 0.05; it must be in [0, 0.0], no more than epsilon"),
    (["--learning_rate", "0"], "learning_rate is 0.0; it must be in (0, 1]"),
    (["--discount", "1.5"], "discount is 1.5; it must be in [0, 1]"),
    (["--seed", "-1"], "seed is -1; it must be 0 or more"),
    (["--seed", str(2**64)], "it must be 0 or more and below 2**63"),
    (["--band_seeds", "1000000"], "--band_seeds is 1000000; it must be 100000 or less"),
    (["--slip", "2"], "slip is 2.0; a probability lies in [0, 1]"),
    (["--slip", "nan"], "slip is nan; a probability lies in [0, 1]"),
    (["--maze_size", "1"], "a maze of 1 x 1 cells"),
    (["--maze_size", "0"], "a maze of 0 x 0 cells"),
    (["--maze_size", "100000"], "--maze_size is 100000; it must be 1000 or less"),
    (["--maze_size", "1000"], "too large for tabular learning (10+ minutes)"),
    (["--maze_size", "100", "--slip", "0.1"], "--slip 0.1 in a maze of"),
    (["--learner", "replay", "--slip", "0.1"], "--learner replay needs a maze without slip"),
    (["--learner", "magic"], "magic"),
    (["--device", "magic"], "--device magic: unknown device"),
    (["--maze_file", "missing.txt"], "missing.txt: No such file"),
    (["--maze_file", "missing.txt", "--maze_size", "5"], "exclude each other"),
]


@pytest.mark.parametrize(("flags", "message"), INVALID, ids=[" ".join(flags) for flags, _ in INVALID])
def test_invalid_input_prints_one_line_and_changes_no_file(
    default_run: Path, script: ModuleType, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    before = {file.name: file.read_bytes() for file in default_run.iterdir()}
    with pytest.raises(SystemExit) as stop:
        launch(script.Config, script.main, ["--output_dir", str(default_run), *flags])
    printed = capsys.readouterr()
    assert stop.value.code
    assert printed.err.count("\n") == 1, printed.err
    assert message in printed.err
    assert printed.out == ""
    assert before == {file.name: file.read_bytes() for file in default_run.iterdir()}


def test_invalid_input_ends_the_process_without_a_traceback(tmp_path: Path) -> None:
    done = run("--output_dir", tmp_path, "--slip", "2")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")


def test_an_unwritable_folder_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--output_dir", tmp_path / "file", "--episodes", "1000000000")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr


def test_a_maze_without_a_path_is_named(tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "no path.txt"
    file.write_text("S.X\nXX.\n..G\n")
    for flags, named in (([], str(file)), (["--slip", "2"], "error: slip is 2.0")):
        with pytest.raises(SystemExit) as stop:
            launch(
                script.Config, script.main, ["--maze_file", str(file), "--output_dir", str(tmp_path / "out"), *flags]
            )
        error = capsys.readouterr().err
        assert (stop.value.code, error.count("\n")) == (2, 1)
        assert named in error
    assert not (tmp_path / "out").exists()


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
    assert errors == "error: interrupted; existing files were left unchanged\n"
    assert list(folder.iterdir()) == []
