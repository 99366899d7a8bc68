"""Environments other than Reacher: trained rightly, or refused in one line that names what is wrong."""

import dataclasses
import importlib.util
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_environments import (
    ACCEPTED,
    NOT_RECORDED,
    REFUSED,
    Endless,
    ListObservation,
    Long,
    NoFrameRate,
    Own,
    OwnBuffer,
    Scaled,
    id_of,
    register,
)
from PIL import Image, ImageSequence
from pretended_device import pretended_gpu

import evaluation
import ppo
import ppo_reports
import reacher_drawing
import training_run
from agent import Agent, TrainedAgent, load_agent, make_agent, save_agent
from controllers import random_policy
from environments import HELD_OUT_SEEDS, make_env, make_envs, restart_seed, training_seed
from evaluation import evaluate_policy
from lab import launch
from lab.checkpoints import save_checkpoint
from lab.errors import UserError
from ppo_config import PPOConfig, config_to_file
from reacher_drawing import frames_per_second, open_rendered, render_episodes
from rollout import RolloutCollector

TINY = PPOConfig(num_iterations=2, steps_per_iter=128, num_envs=4, num_epochs=1, hidden_sizes=(8,))


def command(name: str) -> ModuleType:
    """Return the script as a module, to run it in this process."""
    spec = importlib.util.spec_from_file_location(f"ppo_{name}", Path(__file__).parent.parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Return a function that runs a script with flags: exit status, and lines of standard error without progress."""

    def run(name: str, *arguments: str) -> tuple[int, list[str]]:
        module, status = command(name), 0
        launch.warn_once.cache_clear()
        try:
            launch.launch(module.Config, module.main, arguments)
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, [line for line in capsys.readouterr().err.splitlines() if not line.startswith("iteration ")]

    return run


def train_flags(env_id: str, folder: Path, *more: str) -> tuple[str, ...]:
    size = ("--num_iterations", "2", "--steps_per_iter", "128", "--num_envs", "4", "--num_epochs", "1")
    return ("--env_id", env_id, *size, "--output_dir", str(folder), *more)


# --- actions ----------------------------------------------------------------------------------------------------------


def an_agent(action_dim: int, scaled: bool = True) -> Agent:
    return dataclasses.replace(make_agent(TINY, 3, action_dim), scaled_actions=scaled)


@settings(deadline=None)
@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=5))
def test_actions_within_one_are_only_clipped(actions: list[float]) -> None:
    """Reacher's results depend on this."""
    sampled, bound = torch.tensor(actions)[:, None], torch.ones(1)
    received = an_agent(1).environment_actions(sampled, -bound, bound)
    assert torch.equal(received, sampled.clamp(-1, 1))
    assert received.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@settings(deadline=None)
@given(low=st.floats(-1e4, 1e4, width=16), width=st.floats(0, 1e4, width=16))
def test_actions_fill_the_box_linearly(low: float, width: float, dtype: torch.dtype) -> None:
    bounds = torch.tensor([low, low + width], dtype=dtype)
    sampled = torch.tensor([-7.0, -1.0, -0.5, 0.0, 0.5, 1.0, 7.0])[:, None]
    received = an_agent(1).environment_actions(sampled, bounds[:1], bounds[1:])[:, 0]
    assert received.dtype == dtype
    assert (received >= bounds[0]).all()
    assert (received <= bounds[1]).all()
    fractions = torch.tensor([0, 0, 0.25, 0.5, 0.75, 1, 1], dtype=torch.float64)
    expected = bounds[0].double() + fractions * (bounds[1].double() - bounds[0].double())
    size = float(bounds.double().abs().max())
    torch.testing.assert_close(
        received.double(), expected, rtol=0, atol=4 * size * float(torch.finfo(dtype).eps) + 1e-6
    )


def test_bounds_of_the_largest_floats_do_not_overflow() -> None:
    largest = torch.tensor([torch.finfo(torch.float32).max])
    received = an_agent(1).environment_actions(torch.tensor([[-1.0], [0.0], [1.0]]), -largest, largest)
    assert received[:, 0].tolist() == [-largest.item(), 0.0, largest.item()]


def test_any_box_is_learned_in_every_dimension() -> None:
    """The best action is 0.7 of the way through [100, 200], [0, 10], [-0.001, 0.001] and [-1, 1]."""
    config = PPOConfig(id_of(Scaled), num_iterations=25, steps_per_iter=400, num_envs=4, discount=0.0, num_epochs=8)
    *_, last = ppo.train(config)
    low, high = torch.from_numpy(Scaled.low), torch.from_numpy(Scaled.high)
    action = TrainedAgent(last.agent, config, low, high).policy()(np.zeros((1, 3)))[0]
    assert ((action - Scaled.low) / (Scaled.high - Scaled.low)).tolist() == pytest.approx([0.7] * 4, abs=0.05)


def test_agents_of_earlier_versions_clip_their_actions(tmp_path: Path) -> None:
    low, high = torch.tensor([0.0]), torch.tensor([10.0])
    observations = np.random.default_rng(0).normal(size=(5, 3))
    trained = TrainedAgent(an_agent(1), TINY, low, high)
    with torch.no_grad():
        mean = trained.agent.policy.mean(torch.from_numpy(observations).float()).numpy()
    assert (mean < 1).all()
    save_agent(tmp_path / "new.pth", trained)
    state = torch.load(tmp_path / "new.pth", weights_only=True)
    assert state["agent"].pop("scaled_actions") is True
    torch.save(state, tmp_path / "old.pth")
    new, old = load_agent(tmp_path / "new.pth"), load_agent(tmp_path / "old.pth")
    np.testing.assert_allclose(new.policy()(observations), 5 + 5 * mean, rtol=1e-6)
    np.testing.assert_allclose(old.policy()(observations), mean.clip(0, 10), rtol=1e-6)
    save_agent(tmp_path / "again.pth", old)
    assert load_agent(tmp_path / "again.pth").agent.scaled_actions is False

    # a run that was started by an earlier version continues as it began
    config = dataclasses.replace(TINY, env_id=id_of(Scaled))
    snapshot = next(ppo.train(config)).snapshot()
    assert snapshot["agent"].pop("scaled_actions") is True
    assert next(ppo.train(config, snapshot)).agent.scaled_actions is False


# --- right and wrong environments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ACCEPTED)
def test_unusual_environments_are_trained(environment: type) -> None:
    config = dataclasses.replace(TINY, env_id=id_of(environment))
    records = list(ppo.train(config))
    assert sum(len(record.episode_returns) for record in records) == 24
    policy = random_policy(make_env(config.env_id).action_space, seed=0)  # pyright: ignore[reportArgumentType]
    assert evaluate_policy(policy, config.env_id, episodes=3).lengths.tolist() == [10, 10, 10]


@pytest.mark.parametrize("environment", REFUSED)
def test_wrong_environments_are_refused_in_one_line(environment: type) -> None:
    with pytest.raises(UserError) as caught:
        list(ppo.train(dataclasses.replace(TINY, env_id=id_of(environment))))
    message = str(caught.value)
    assert message.startswith(f"--env_id {id_of(environment)}: ")
    assert "\n" not in message
    assert "learning_rate" not in message
    for word in REFUSED[environment]:
        assert word in message


def test_the_trial_of_an_environment_changes_no_random_numbers_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def final_update(env_id: str) -> Any:
        *_, last = ppo.train(dataclasses.replace(TINY, env_id=env_id))
        return last.update

    class DrawsGlobally(Own):
        def __init__(self, render_mode: str | None = None) -> None:
            np.random.random(7)  # noqa: NPY002
            torch.rand(7)

    assert final_update(register(DrawsGlobally)) == final_update(id_of(Own))


def test_an_environment_that_changed_after_training_is_refused_in_one_line(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    low, high = -torch.ones(2), torch.ones(2)
    agents = {"observations": make_agent(TINY, 4, 1), "actions": make_agent(TINY, 3, 2)}
    config = dataclasses.replace(TINY, env_id=id_of(Own))
    for number, (name, agent) in enumerate(agents.items(), 1):
        save_agent(tmp_path / f"{name}.pth", TrainedAgent(agent, config, low[:number], high[:number]))
        status, lines = run("evaluate", "--model_path", str(tmp_path / f"{name}.pth"))
        assert status != 0
        assert len(lines) == 1
        assert f"trained with {name} of shape" in lines[0]


def test_a_reused_buffer_does_not_overwrite_the_final_observation() -> None:
    envs = make_envs(id_of(OwnBuffer), 2)
    rollout = RolloutCollector(envs, seed=0).collect(an_agent(1), num_steps=12)
    assert rollout.observations[:, 0, 0].tolist() == [*range(10), 0, 1]
    assert rollout.next_observations[:, 0, 0].tolist() == [*range(1, 11), 1, 2]


def test_returns_of_terminated_episodes_equal_those_of_single_environments() -> None:
    agent = make_agent(TINY, 4, 1)
    envs = make_envs("InvertedPendulum-v5", 2)
    rollout = RolloutCollector(envs, seed=3).collect(agent, num_steps=60)
    assert len(rollout.episode_returns) > 4
    returns = []
    for n in range(2):
        env, total = gym.make("InvertedPendulum-v5"), 0.0
        env.reset(seed=3 + n)
        for t in range(60):
            sampled = rollout.actions[t, n]
            _, reward, terminated, truncated, _ = env.step((3 * sampled.clamp(-1, 1)).numpy())
            total += float(reward)
            assert terminated == rollout.terminated[t, n]
            if terminated or truncated:
                returns.append((t, n, total))
                env.reset()
                total = 0.0
    assert [total for _, _, total in sorted(returns)] == pytest.approx(rollout.episode_returns)


def test_checkpoints_do_not_interrupt_episodes() -> None:
    """An episode of 50 steps is longer than the 8 steps between two checkpoints."""
    config = PPOConfig(id_of(Long), num_iterations=14, steps_per_iter=16, num_envs=4, num_epochs=1, hidden_sizes=(8,))
    often, never = (list(ppo.train(dataclasses.replace(config, checkpoint_every=every))) for every in (2, 1000))
    assert [len(record.episode_returns) for record in often] == [0] * 12 + [4, 0]
    for ours, theirs in zip(often, never, strict=True):
        assert ours.update == theirs.update
        assert ours.episode_returns == theirs.episode_returns


# --- episodes without an end ------------------------------------------------------------------------------------------


def test_endless_episodes_are_cut_with_a_note(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "DEFAULT_LIMIT", 30)
    monkeypatch.setattr(reacher_drawing, "MAX_STEPS", 12)
    status, notes = run("train", *train_flags(id_of(Endless), tmp_path))
    assert status == 0
    assert [note for note in notes if "100 of 100 episodes had not ended after 30 steps" in note] == notes
    results = json.loads((tmp_path / "train.json").read_text())["results"]["evaluation"]
    assert (results["cut_episodes"], results["mean_length"]) == (100, 30.0)
    model = ("--model_path", str(tmp_path / "trained_model.pth"), "--episodes", "3", "--save_gif")
    status, notes = run("evaluate", *model)
    assert status == 0
    assert "3 of 3 episodes had not ended after 30 steps" in notes[0]
    assert "had not ended after 12 steps" in notes[1]
    assert len(notes) == 2


@pytest.mark.parametrize(("declared", "limit"), [(None, 2_000), (20, 20), (5_000, 5_000), (10**9, 10_000)])
def test_the_limit_of_an_evaluation_is_that_of_the_environment(declared: int | None, limit: int) -> None:
    limited = type(f"Limit{declared}", (Own,), {})
    assert evaluation.step_limit(register(limited, declared)) == limit


def test_episodes_that_end_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    policy = random_policy(Own.action_space, seed=0)
    assert evaluate_policy(policy, id_of(Own), episodes=3).cut == 0
    assert evaluate_policy(random_policy(gym.spaces.Box(-1, 1, (2,)), 0), "Reacher-v5", episodes=3).cut == 0
    assert capsys.readouterr().err == ""


# --- recording --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [Own, ListObservation, NoFrameRate])
def test_environments_that_render_are_recorded(environment: type) -> None:
    policy = random_policy(Own.action_space, seed=0)
    frames = render_episodes(policy, id_of(environment), seeds=[1, 2], frame_step=2)
    assert len(frames) == 2 * (5 + reacher_drawing.FINAL_FRAMES)


@pytest.mark.parametrize("environment", NOT_RECORDED)
def test_what_cannot_be_recorded_says_why_in_one_line(environment: type, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(UserError, match=NOT_RECORDED[environment]) as caught:
        open_rendered(id_of(environment), "rgb_array")
    assert "\n" not in str(caught.value)
    assert id_of(environment) in str(caught.value)
    assert not recwarn.list


@pytest.mark.parametrize(("declared", "expected"), [(10, 10), (62.5, 62.5), (None, 50), ("fast", 50), (0, 50)])
def test_frames_per_second_are_those_declared(declared: Any, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Own, "metadata", {"render_modes": ["rgb_array"], "render_fps": declared})
    assert frames_per_second(id_of(Own)) == expected


def test_the_gif_of_a_fast_environment_is_in_real_time(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Own, "metadata", {"render_modes": ["rgb_array"], "render_fps": 125})
    config = dataclasses.replace(TINY, env_id=id_of(Own))
    save_agent(tmp_path / "model.pth", TrainedAgent(an_agent(1), config, -torch.ones(1), torch.ones(1)))
    assert run("evaluate", "--model_path", str(tmp_path / "model.pth"), "--episodes", "1", "--save_gif") == (0, [])
    with Image.open(tmp_path / "trained_agent.gif") as gif:
        assert min(frame.info["duration"] for frame in ImageSequence.Iterator(gif)) >= 20


# --- seeds ------------------------------------------------------------------------------------------------------------

SEEDS = (0, 7, 999_968, 999_969, 999_999, 1_000_000, 1_500_000, 1_999_990, 2_000_000, 2**40, 2**63 - 1)


@pytest.fixture
def reset_seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that environments of trainings are reset with."""
    seeds: list[int] = []

    def restart(self: RolloutCollector, seed: int) -> None:
        seeds.extend(seed + i for i in range(self.envs.num_envs))

    monkeypatch.setattr(RolloutCollector, "restart", restart)
    return seeds


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_training_never_starts_with_held_out_episodes(
    seed: int, processes: int, reset_seeds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "world_size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr(training_run, "rank", lambda rank=rank: rank)
        trainer = ppo.Trainer(PPOConfig(id_of(Own), seed=seed, num_envs=32, hidden_sizes=(8,)))
        trainer.load_episodes_state({})  # as where a run is resumed
    assert len(set(reset_seeds)) == 64, "each environment has a seed of its own"
    assert not set(reset_seeds) & set(HELD_OUT_SEEDS)
    if seed + 32 <= 1_000_000:
        assert set(range(seed, seed + 32)) < set(reset_seeds)


def test_seeds_of_trainings_differ() -> None:
    assert len({training_seed(seed, 32) for seed in SEEDS}) == len(SEEDS)
    assert len({restart_seed(seed, iteration, 32) for seed in SEEDS for iteration in range(20)}) == 20 * len(SEEDS)
    assert max(restart_seed(seed, 3, 100_000) for seed in range(100)) < 2**31 - 100_000


def test_evaluation_uses_held_out_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def spy(env_id: str, num_envs: int) -> Any:
        envs = make_envs(env_id, num_envs)
        reset = envs.reset
        envs.reset = lambda *, seed: (seeds.extend(seed), reset(seed=seed))[1]  # pyright: ignore[reportAttributeAccessIssue]
        return envs

    monkeypatch.setattr(evaluation, "make_envs", spy)
    evaluate_policy(random_policy(Own.action_space, seed=0), id_of(Own), episodes=7, num_envs=3)
    assert seeds == list(range(1_000_000, 1_000_007))
    assert set(seeds) < set(HELD_OUT_SEEDS)


@pytest.mark.parametrize(("seed", "common"), [(1_000_000, 0), (0, 2), (3, 1), (4, 0)])
def test_evaluating_episodes_of_the_training_is_noted(
    run: Callable[..., Any], tmp_path: Path, seed: int, common: int
) -> None:
    config = dataclasses.replace(TINY, env_id=id_of(Own))  # its environments have the seeds 0 to 3
    save_agent(tmp_path / "model.pth", TrainedAgent(an_agent(1), config, -torch.ones(1), torch.ones(1)))
    flags = ("--model_path", str(tmp_path / "model.pth"), "--episodes", "2", "--seed", str(seed))
    status, notes = run("evaluate", *flags)
    assert status == 0
    assert len(notes) == bool(common)
    assert not common or f"began with {common} of these episodes" in notes[0]


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_record_lists_only_files_that_exist(run: Callable[..., Any], tmp_path: Path) -> None:
    """No episode of Reacher ends within 16 steps: there is no curve to draw."""
    flags = ("--num_iterations", "1", "--steps_per_iter", "64", "--num_envs", "4", "--output_dir", str(tmp_path))
    (tmp_path / "training_reward_curve.png").write_text("of an earlier run")
    assert run("train", *flags) == (0, [])
    files = json.loads((tmp_path / "train.json").read_text())["files"]
    assert files == ["trained_model.pth", "metrics.csv", "train.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*files, "checkpoint.pth"])


# --- devices ----------------------------------------------------------------------------------------------------------


def test_commands_on_a_gpu_equal_those_on_the_cpu(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, resuming and evaluating."""
    monkeypatch.setattr(ppo_reports, "EVALUATION_EPISODES", 2)
    flags = ("--num_iterations", "4", "--steps_per_iter", "256", "--num_envs", "4", "--checkpoint_every", "2")
    folders = {name: tmp_path / name for name in ("cpu", "gpu", "resumed")}
    assert run("train", *flags, "--output_dir", str(folders["cpu"])) == (0, [])
    with pretended_gpu():
        assert run("train", *flags, "--output_dir", str(folders["gpu"]), "--device", "cuda") == (0, [])
        half = PPOConfig(num_iterations=4, steps_per_iter=256, num_envs=4, checkpoint_every=2, device="cuda")
        records = ppo.train(half)
        next(records)
        state = next(records).snapshot()
        rows = [ppo_reports.metrics_row(record) for record in itertools.islice(ppo.train(half), 2)]
        contents = {"config": config_to_file(half), "state": state, "rows": rows}
        folders["resumed"].mkdir()
        save_checkpoint(folders["resumed"] / "checkpoint.pth", "a PPO training run", contents)
        assert run("train", "--resume", "--output_dir", str(folders["resumed"])) == (0, [])
    expected = load_agent(folders["cpu"] / "trained_model.pth")
    for name in ("gpu", "resumed"):
        result = load_agent(folders[name] / "trained_model.pth")
        for ours, theirs in zip(result.agent.parameters(), expected.agent.parameters(), strict=True):
            assert torch.equal(ours, theirs), name
        assert (folders[name] / "metrics.csv").read_bytes() == (folders["cpu"] / "metrics.csv").read_bytes()
        model = ("--model_path", str(folders[name] / "trained_model.pth"), "--episodes", "2")
        assert run("evaluate", *model) == (0, [])
        with pretended_gpu():
            assert run("evaluate", *model) == (0, [])
