"""Resuming: a run that was interrupted or killed, even during a write, gives the same results bit by bit."""

import csv
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from environments import restart_seed
from lab.files import ROOT
from ppo import Trainer, train
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
    paths = [str(modules)] * (modules is not None) + os.environ.get("PYTHONPATH", "").split(os.pathsep)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_a_gpu_resumes() -> None:
    config = PPOConfig(num_iterations=4, steps_per_iter=128, num_envs=4, device="cuda")
    whole = list(train(config))
    state = next(islice(train(config), 1, None)).snapshot()
    *_, last = train(config, state)
    assert last.episode_returns == pytest.approx(whole[-1].episode_returns, rel=1e-4)


def test_other_environments_resume_with_new_episodes() -> None:
    """Their state cannot be saved: a resumed run continues with the same agent, and is the same each time."""
    config = PPOConfig("Pendulum-v1", num_iterations=6, steps_per_iter=128, num_envs=4, checkpoint_every=2)
    whole = list(train(config))
    trainer = Trainer(config)
    for _ in range(4):
        trainer.iterate()
    snapshot = trainer.state_dict()

    resumed = Trainer(config)
    before = resumed.collector.observations.copy()
    resumed.load_state_dict(snapshot)
    for ours, theirs in zip(resumed.agent.parameters(), trainer.agent.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    seed = restart_seed(config.seed, iteration=4, num_envs=4)
    for i, observation in enumerate(resumed.collector.observations):
        assert np.array_equal(observation, gym.make("Pendulum-v1").reset(seed=seed + i)[0])
    assert not np.isin(resumed.collector.observations, before).any(), "not the first episodes again"
    assert not resumed.reward_scaler.returns.any()
    assert trainer.reward_scaler.returns.all()

    once, again = list(train(config, snapshot)), list(train(config, snapshot))
    assert [record.iteration for record in once] == [5, 6]
    assert [record.update for record in once] == [record.update for record in again]
    assert [record.update for record in once] != [record.update for record in whole[4:]]


def test_metrics_contain_every_iteration_once(uninterrupted: Path) -> None:
    with (uninterrupted / "metrics.csv").open() as file:
        assert [row["iteration"] for row in csv.DictReader(file)] == [str(i) for i in range(1, 13)]


TWO_PROCESSES = """
import dataclasses, sys
sys.path[:0] = [{project!r}, {tests!r}]
import numpy as np
import torch
from lab.distributed import any_rank, gather, process_group, rank
from pretended_device import pretended_gpu
from ppo import Trainer, train
from ppo_config import PPOConfig
from reacher_vec import ReacherVectorEnv

with process_group():
    assert any_rank(rank() == 1) and not any_rank(False)
    config = PPOConfig(num_iterations=3, steps_per_iter=512, num_envs=8, hidden_sizes=(16,))

    # Each process has other episodes and other exploration noise.
    trainer = Trainer(config)
    first_observations = ReacherVectorEnv(8).reset(seed=config.seed)[0]
    assert np.array_equal(np.concatenate(gather(trainer.collector.observations)), first_observations)
    rollout = trainer.collector.collect(trainer.agent, num_steps=4)
    means = trainer.agent.policy.mean(trainer.agent.normalizer(rollout.observations)).detach()
    first, second = gather(rollout.actions - means)
    assert (first - second).abs().mean() > 0.3

    # The statistics are those of all observations.
    statistics = trainer.agent.normalizer.statistics
    statistics.update(rollout.observations.flatten(0, 1))
    everything = torch.cat(gather(rollout.observations)).flatten(0, 1)
    assert statistics.count == len(everything) == 32
    torch.testing.assert_close(statistics.mean, everything.mean(0))
    torch.testing.assert_close(statistics.variance, everything.var(0, unbiased=False))

    # After training, all processes have the same agent and records; so they do on a GPU.
    *_, last = train(config)
    flat = torch.cat([p.detach().flatten() for p in last.agent.parameters()])
    statistics = last.agent.normalizer.statistics
    everyone = gather((flat, statistics.mean, statistics.variance, statistics.count, last.episode_returns))
    first, second = everyone
    assert all(torch.equal(first[i], second[i]) for i in range(3))
    assert first[3] == second[3] == 3 * 512 and first[4] == second[4]
    with pretended_gpu():
        *_, on_gpu = train(dataclasses.replace(config, device="cuda"))
        assert on_gpu.agent.policy.log_std.device.type != "cpu"
        assert torch.equal(torch.cat([p.detach().flatten() for p in on_gpu.agent.parameters()]).cpu(), flat)
    print("equal")
"""


def test_two_processes_have_equal_agents_and_different_experience(tmp_path: Path) -> None:
    program = tmp_path / "two.py"
    program.write_text(TWO_PROCESSES.format(project=str(SCRIPT.parent), tests=str(ROOT / "tests")))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, str(program)], capture_output=True, text=True, timeout=240, env=environment)
    assert done.stdout.count("equal") == 2, done.stderr[-3000:]  # the two may share a line
