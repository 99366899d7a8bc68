"""Resuming: a run that was interrupted or killed, even during a write, gives the same results bit by bit."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ppo import train
from ppo_config import PPOConfig

SCRIPT = Path(__file__).parent.parent / "train.py"
FLAGS = ("--num_iterations", "12", "--steps_per_iter", "512", "--num_envs", "8", "--checkpoint_every", "2")


SLOW_RENAME = """
import os, time
rename = os.replace
def slow(*paths):
    time.sleep(2)
    rename(*paths)
os.replace = slow
"""  # imitates a slow disk


def start(folder: Path, *more: str, modules: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *FLAGS, "--output_dir", str(folder), *more]
    path = [str(modules)] if modules else []
    env = os.environ | {"PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finish(folder: Path, *more: str) -> str:
    process = start(folder, *more)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return errors


def assert_same_run(folder: Path, reference: Path) -> None:
    ours, theirs = (torch.load(f / "trained_model.pth", weights_only=True)["agent"] for f in (folder, reference))
    for part in ("policy", "value"):
        for name, tensor in theirs[part].items():
            assert torch.equal(ours[part][name], tensor), name
    assert torch.equal(ours["normalizer"]["mean"], theirs["normalizer"]["mean"])
    assert (folder / "metrics.csv").read_bytes() == (reference / "metrics.csv").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(folder)
    return folder


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert path.exists()


@pytest.mark.parametrize("delay", [0.0, 0.07, 0.2])
def test_resumed_after_a_kill_at_any_time_is_bit_exact(tmp_path: Path, uninterrupted: Path, delay: float) -> None:
    process = start(tmp_path)
    wait_for(tmp_path / "checkpoint.pth", process)
    time.sleep(delay)
    process.kill()
    process.communicate()
    finish(tmp_path, "--resume")
    assert_same_run(tmp_path, uninterrupted)


def test_ctrl_c_saves_a_checkpoint_with_a_note(tmp_path: Path, uninterrupted: Path) -> None:
    process = start(tmp_path, "--checkpoint_every", "100")
    wait_for(tmp_path, process)
    while "iteration" not in (line := process.stderr.readline() if process.stderr else "iteration"):
        assert line, "ended before the first iteration"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "rerun with --resume to continue" in errors
    assert "Traceback" not in errors
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pth"}
    finish(tmp_path, "--resume", "--checkpoint_every", "100")
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize("checkpoints", [0, 1])
def test_resumed_after_a_kill_during_a_checkpoint_is_bit_exact(
    tmp_path: Path, uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory, checkpoints: int
) -> None:
    modules = tmp_path_factory.mktemp("modules")
    (modules / "sitecustomize.py").write_text(SLOW_RENAME)
    process = start(tmp_path, modules=modules)
    if checkpoints:
        wait_for(tmp_path / "checkpoint.pth", process)
    while not list(tmp_path.glob(".checkpoint.pth.*.partial")):
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert (tmp_path / "checkpoint.pth").exists() == bool(checkpoints)
    assert list(tmp_path.glob(".checkpoint.pth.*.partial"))
    finish(tmp_path, "--resume")
    assert_same_run(tmp_path, uninterrupted)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, uninterrupted: Path) -> None:
    finish(tmp_path)
    finish(tmp_path, "--resume")
    assert_same_run(tmp_path, uninterrupted)


def test_resume_without_a_checkpoint_starts_a_new_run_with_a_note(tmp_path: Path, uninterrupted: Path) -> None:
    assert "starting a new run" in finish(tmp_path, "--resume")
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "text"])
def test_a_damaged_checkpoint_is_rejected_in_one_line(tmp_path: Path, uninterrupted: Path, damage: str) -> None:
    content = {
        "truncated": (uninterrupted / "checkpoint.pth").read_bytes()[:5000],
        "foreign": (uninterrupted / "trained_model.pth").read_bytes(),
        "text": b"hello",
    }[damage]
    (tmp_path / "checkpoint.pth").write_bytes(content)
    process = start(tmp_path, "--resume")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors.count("\n") == 1
    assert "checkpoint.pth" in errors
    assert (tmp_path / "checkpoint.pth").read_bytes() == content


@pytest.mark.parametrize(
    ("flags", "name"), [(("--discount", "0.5"), "--discount"), (("--no_clip_ratios",), "--clip_ratios")]
)
def test_flags_that_contradict_the_saved_run_are_rejected_by_name(
    tmp_path: Path, uninterrupted: Path, flags: tuple[str, ...], name: str
) -> None:
    (tmp_path / "checkpoint.pth").write_bytes((uninterrupted / "checkpoint.pth").read_bytes())
    process = start(tmp_path, "--resume", *flags)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert name in errors


def test_resuming_other_environments_is_bit_exact() -> None:
    config = PPOConfig("Pendulum-v1", num_iterations=6, steps_per_iter=128, num_envs=4, checkpoint_every=2)
    whole = list(train(config))
    snapshots = {}
    for record in train(config):
        if record.iteration == 4:
            snapshots[4] = record.snapshot()
            break
    resumed = list(train(config, snapshots[4]))
    assert [record.iteration for record in resumed] == [5, 6]
    for ours, theirs in zip(resumed, whole[4:], strict=True):
        assert ours.update == theirs.update
        assert ours.episode_returns == theirs.episode_returns
    for ours, theirs in zip(resumed[-1].agent.parameters(), whole[-1].agent.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_metrics_contain_every_iteration_once(uninterrupted: Path) -> None:
    with (uninterrupted / "metrics.csv").open() as file:
        assert [row["iteration"] for row in csv.DictReader(file)] == [str(i) for i in range(1, 13)]


def test_two_processes_have_equal_parameters_and_equal_statistics(tmp_path: Path) -> None:
    program = tmp_path / "two.py"
    program.write_text(
        "import sys, torch\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "from lab.distributed import gather, process_group, rank\n"
        "from ppo import train\n"
        "from ppo_config import PPOConfig\n"
        "with process_group():\n"
        "    config = PPOConfig(num_iterations=3, steps_per_iter=512, num_envs=8, hidden_sizes=(16,))\n"
        "    *_, last = train(config)\n"
        "    flat = torch.cat([p.detach().flatten() for p in last.agent.parameters()])\n"
        "    statistics = last.agent.normalizer.statistics\n"
        "    everyone = gather((flat, statistics.mean, statistics.count, last.episode_returns))\n"
        "    first, second = everyone\n"
        "    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])\n"
        "    assert first[2] == second[2] == 3 * 512 and first[3] == second[3]\n"
        "    if rank() == 0: print('equal')\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29611"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, str(program)], capture_output=True, text=True, timeout=240, env=environment)
    assert done.stdout.strip() == "equal", done.stderr[-3000:]
