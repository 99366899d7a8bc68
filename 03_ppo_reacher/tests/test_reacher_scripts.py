"""The project's scripts, run as a user would: results, files, and error messages."""

import ast
import csv
import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

import ppo_reports
from agent import load_agent, load_policy, save_agent
from controllers import inverse_kinematics_controller, random_policy, target_angles
from evaluation import evaluate_policy
from lab.errors import UserError
from ppo_config import PPOConfig, config_from_file, config_to_file
from reacher_drawing import fingertip, joints

PROJECT = Path(__file__).parent.parent
SMALL = ("--num_iterations", "2", "--steps_per_iter", "256", "--num_envs", "4")


def run(script: str, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / script), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=240,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    done = run("train.py", *SMALL, "--output_dir", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def recorded_options(folder: Path) -> dict[str, Any]:
    """The options of the algorithm in train.json, in a separate group or next to the others."""
    config = json.loads((folder / "train.json").read_text())["config"]
    return config.get("ppo", config)


def test_train_writes_model_curve_metrics_and_record(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names == {"trained_model.pth", "training_reward_curve.png", "metrics.csv", "train.json", "checkpoint.pth"}
    with (trained / "metrics.csv").open() as file:
        assert [row["steps"] for row in csv.DictReader(file)] == ["256", "512"]
    record = json.loads((trained / "train.json").read_text())
    assert recorded_options(trained)["steps_per_iter"] == 256
    assert record["figures"][0]["name"] == "mean return"


def test_evaluate_reproduces_the_evaluation_of_the_training_process(trained: Path) -> None:
    done = run("evaluate.py", "--model_path", str(trained / "trained_model.pth"), "--json", "--save_gif")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    recorded = json.loads((trained / "evaluate.json").read_text())["results"]
    assert summary["episodes"] == recorded["episodes"] == 100
    assert summary["interval_95"] == pytest.approx(recorded["interval_95"], rel=1e-5)
    trained_summary = json.loads((trained / "train.json").read_text())["results"]["evaluation"]
    assert summary["mean_return"] == pytest.approx(trained_summary["mean_return"], rel=1e-5)
    with Image.open(trained / "trained_agent.gif") as gif:
        assert getattr(gif, "n_frames", 1) > 50


def test_one_episode_has_no_interval(trained: Path, tmp_path: Path) -> None:
    flags = ("--model_path", str(trained / "trained_model.pth"), "--episodes", "1", "--output_dir", str(tmp_path))
    done = run("evaluate.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "mean return" in done.stdout
    assert "interval" not in done.stdout
    assert json.loads((tmp_path / "evaluate.json").read_text())["results"]["interval_95"] is None


def test_evaluation_equals_a_plain_loop_over_single_environments(trained: Path) -> None:
    policy = load_policy(trained / "trained_model.pth")
    evaluation = evaluate_policy(policy, "Reacher-v5", episodes=7, seed=123, num_envs=3)
    for episode in range(7):
        env = gym.make("Reacher-v5")
        observation, _ = env.reset(seed=123 + episode)
        total, ended, steps = 0.0, False, 0
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(policy(observation[None])[0])
            total, ended, steps = total + float(reward), terminated or truncated, steps + 1
        assert evaluation.returns[episode] == pytest.approx(total, abs=1e-4)
        assert evaluation.lengths[episode] == steps
        assert evaluation.final_distances is not None
        assert evaluation.final_distances[episode] == pytest.approx(np.linalg.norm(observation[8:10]), abs=1e-4)


def test_evaluation_counts_each_episode_once_where_lengths_differ() -> None:
    space = gym.make("InvertedPendulum-v5").action_space
    assert isinstance(space, gym.spaces.Box)
    evaluation = evaluate_policy(random_policy(space, seed=0), "InvertedPendulum-v5", episodes=20, num_envs=20)
    assert len(set(evaluation.lengths)) > 1
    failures = evaluation.returns - evaluation.lengths  # reward 1 per step, 0 for the last one if it falls
    assert set(failures) <= {-1.0, 0.0}


def test_policy_is_deterministic_and_within_the_bounds(trained: Path) -> None:
    policy = load_policy(str(trained / "trained_model.pth"))
    observations = 50 * np.random.default_rng(0).normal(size=(20, 10))
    actions = policy(observations)
    assert actions.shape == (20, 2)
    assert np.abs(actions).max() <= 1.0
    np.testing.assert_array_equal(actions, policy(observations))
    np.testing.assert_allclose(actions[3:4], policy(observations[3:4]), atol=1e-6)


def test_a_policy_takes_any_view_of_an_array(trained: Path) -> None:
    policy = load_policy(trained / "trained_model.pth")
    observations = np.random.default_rng(0).normal(size=(5, 20))[:, ::2]
    np.testing.assert_array_equal(policy(observations[::-1]), policy(observations.copy())[::-1])


def test_inverse_kinematics_puts_the_fingertip_on_the_target() -> None:
    targets = np.random.default_rng(0).uniform(-0.14, 0.14, (50, 2))
    targets = targets[np.linalg.norm(targets, axis=1) > 0.02]
    for shoulder_elbow in target_angles(targets):
        cos, sin = np.cos(shoulder_elbow), np.sin(shoulder_elbow)
        observation = np.concatenate([cos, sin, targets, np.zeros_like(targets), np.zeros_like(targets)], axis=1)
        reached = np.stack([joints(row)[-1] for row in observation])
        np.testing.assert_allclose(reached, targets, atol=1e-9)


def test_controller_has_the_return_that_the_readmes_state() -> None:
    returns = evaluate_policy(inverse_kinematics_controller(), "Reacher-v5", episodes=200).returns
    assert returns.mean() == pytest.approx(-3.719, abs=0.002)


def test_joints_equal_the_positions_of_mujoco() -> None:
    env = gym.make("Reacher-v5")
    observation, _ = env.reset(seed=3)
    np.testing.assert_allclose(joints(observation)[-1], fingertip(observation), atol=1e-6)


@pytest.mark.parametrize("backend", ["disable", "glfw"])
def test_without_opengl_the_arm_is_drawn_in_2d_with_one_note(trained: Path, tmp_path: Path, backend: str) -> None:
    arguments = ("--model_path", str(trained / "trained_model.pth"), "--save_gif", "--episodes", "2")
    done = run("evaluate.py", *arguments, "--output_dir", str(tmp_path), MUJOCO_GL=backend, DISPLAY="")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("drawn in 2D with Pillow") == 1
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_opengl_backend_and_an_empty_world_size_do_not_stop_a_training(tmp_path: Path) -> None:
    done = run("train.py", *SMALL, "--output_dir", str(tmp_path), MUJOCO_GL="nonsense", WORLD_SIZE="")
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if not line.startswith("iteration ")]
    assert len(notes) == 1
    assert notes[0].startswith("note: MUJOCO_GL is 'nonsense'")


OWN_ENVIRONMENT = """
import gymnasium as gym
import numpy as np

class Own(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gym.spaces.Box(-1.0, 1.0, (3,))
    action_space = gym.spaces.Box(-2.0, 2.0, (1,))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def render(self):
        raise gym.error.DependencyNotInstalled("a drawing library is not installed")

    def step(self, action):
        return np.zeros(3, np.float32), -abs(float(action[0])), bool(self.np_random.random() < 0.1), False, {}

gym.register("Own-v0", entry_point=lambda render_mode=None: Own(), max_episode_steps=20)
"""


def test_an_environment_of_the_current_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "own_module.py").write_text(OWN_ENVIRONMENT)
    arguments = (*SMALL, "--env_id", "own_module:Own-v0", "--output_dir", "out")
    done = run("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("evaluate.py", "--model_path", "out/trained_model.pth", "--json", "--episodes", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["episodes"] == 5
    done = run("evaluate.py", "--model_path", "out/trained_model.pth", "--episodes", "5", "--save_gif", cwd=tmp_path)
    one_line_error(done, "own_module:Own-v0", "a drawing library")
    arguments = ("--model_path", "out/trained_model.pth", "--render", "human")
    one_line_error(run("evaluate.py", *arguments, cwd=tmp_path, DISPLAY=":9"), "own_module:Own-v0", "human")


def test_reference_band_is_only_for_the_options_of_the_reference_runs() -> None:
    measured = json.loads(ppo_reports.REFERENCE_RUNS.read_text())["runs"][0]
    band = ppo_reports.reference_band(PPOConfig(seed=77, checkpoint_every=3))
    assert band is not None, "the reference runs do not have the default options: run benchmarks/ppo_reacher.py"
    assert band[0].shape == (PPOConfig().num_iterations,)
    assert (band[0] <= band[1]).all()
    assert band[1][-1] > measured["summary"][0]["worst"] - 1
    assert ppo_reports.reference_band(PPOConfig(discount=0.5)) is None


def test_curve_ends_with_the_return_of_the_final_policy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn = []
    monkeypatch.setattr(ppo_reports, "learning_curve", lambda *arguments, **options: drawn.append(options))
    rows = [{"steps": steps, "episodes": 1, "mean_return": -20.0} for steps in (256, 512)]
    ppo_reports.draw_curve(tmp_path / "curve.png", PPOConfig(), rows, {}, final_return=-3.5)
    name, steps, returns = drawn[0]["points"]
    assert "deterministic" in name
    assert (steps, returns) == ([512], [-3.5])


def test_files_name_the_options_as_the_command_line_does(trained: Path, tmp_path: Path) -> None:
    agent = load_agent(trained / "trained_model.pth")
    unclipped = dataclasses.replace(agent, config=dataclasses.replace(agent.config, use_clipping=False))
    save_agent(tmp_path / "model.pth", unclipped)
    for path, expected in ((tmp_path / "model.pth", False), (trained / "checkpoint.pth", True)):
        stored = torch.load(path, weights_only=True)["config"]
        assert stored["clip_ratios"] is expected
        assert "use_clipping" not in stored
    assert load_agent(tmp_path / "model.pth").config == unclipped.config
    assert recorded_options(trained)["clip_ratios"] is True
    assert config_from_file(config_to_file(unclipped.config)) == unclipped.config


def test_the_committed_model_loads_and_has_the_recorded_return() -> None:
    results = PROJECT / "results"
    agent = load_agent(results / "trained_model.pth")
    recorded = json.loads((results / "evaluate.json").read_text())["results"]
    returns = evaluate_policy(agent.policy(), agent.config.env_id, recorded["episodes"]).returns
    assert returns.mean() == pytest.approx(recorded["mean_return"], abs=0.01)


def test_no_module_imports_a_command() -> None:
    for path in PROJECT.glob("*.py"):
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
        assert not imported & {"train", "evaluate", "explore_env"}, path.name


def test_record_video_writes_several_episodes_in_real_time(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "trained_model.pth"
    model.write_bytes((trained / "trained_model.pth").read_bytes())
    done = run("evaluate.py", "--model_path", str(model), "--record_video", "--episodes", "2")
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "trained_agent.mp4")) as video:
        assert video.streams.video[0].average_rate == 25  # every second step of 0.02 s
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) > 4 * 25
    assert np.abs(frames[0].astype(float) - frames[20]).mean() > 0.5
    assert not list(tmp_path.glob("*.gif"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports whether there is a display")
def test_a_window_without_a_display_is_rejected_in_one_line(trained: Path, tmp_path: Path) -> None:
    arguments = ("--model_path", str(trained / "trained_model.pth"), "--output_dir", str(tmp_path))
    one_line_error(run("evaluate.py", *arguments, "--render", "human", DISPLAY="", WAYLAND_DISPLAY=""), "display")
    one_line_error(run("evaluate.py", *arguments, "--render", "robot"), "--render")


def one_line_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode not in (0, -6, -11), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--num_iteration", "3"), "--num_iterations"),
        (("--num_iterations", "many"), "--num_iterations"),
        (("--num_iterations", "0"), "--num_iterations"),
        (("--env_id", "CartPole-v1"), "CartPole-v1"),
        (("--env_id", "Nowhere-v0"), "Nowhere"),
        (("--num_threads", "0"), "--num_threads"),
    ],
)
def test_invalid_flags_of_train(tmp_path: Path, arguments: tuple[str, ...], word: str) -> None:
    one_line_error(run("train.py", *arguments, "--output_dir", str(tmp_path)), word)
    assert not any(tmp_path.iterdir())


def test_an_invalid_output_folder_is_rejected_before_training(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    one_line_error(run("train.py", "--output_dir", str(blocked)), str(blocked))
    one_line_error(run("train.py", "--output_dir", str(blocked / "below")), str(blocked))
    assert blocked.read_text() == "mine"


class Exploit:
    def __reduce__(self) -> tuple:
        return (os.system, ("touch exploited",))


def test_missing_damaged_foreign_and_hostile_checkpoints(trained: Path, tmp_path: Path) -> None:
    whole = (trained / "trained_model.pth").read_bytes()
    files = {
        "truncated.pth": whole[: len(whole) // 2],
        "flipped.pth": whole[:200] + bytes(b ^ 0xFF for b in whole[200:400]) + whole[400:],
        "text.pth": b"not a checkpoint",
        "empty.pth": b"",
        "hostile.pth": pickle.dumps(Exploit()),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pth")
    torch.save(
        {**torch.load(trained / "trained_model.pth", weights_only=True), "low": torch.zeros(5)}, tmp_path / "odd.pth"
    )
    for name in (*files, "foreign.pth", "odd.pth"):
        with pytest.raises(UserError, match=name):
            load_agent(tmp_path / name)
    state = torch.load(trained / "trained_model.pth", weights_only=True)
    state["agent"]["policy"]["log_std"] = torch.zeros(5)
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(UserError, match=r"wide.pth: .* \(size mismatch for log_std: [^\n]*\)$"):
        load_agent(tmp_path / "wide.pth")
    for number, (part, name, value) in enumerate(
        [
            ("normalizer", "mean", torch.zeros(1, dtype=torch.float64)),
            ("normalizer", "variance", -torch.ones(10, dtype=torch.float64)),
            ("normalizer", "count", float("inf")),
            ("policy", "log_std", torch.full((2,), float("nan"))),
        ]
    ):
        state = torch.load(trained / "trained_model.pth", weights_only=True)
        state["agent"][part][name] = value
        torch.save(state, tmp_path / f"wrong_{number}.pth")
        with pytest.raises(UserError, match=rf"wrong_{number}.pth: its parts do not fit together"):
            load_agent(tmp_path / f"wrong_{number}.pth")
    state = torch.load(trained / "trained_model.pth", weights_only=True)
    for name, value in (("low", [0.0, 0.0]), ("low", 2 * state["high"]), ("high", torch.ones(3)), ("high", None)):
        torch.save(state | {name: value}, tmp_path / "bounds.pth")
        with pytest.raises(UserError, match=r"bounds.pth: its parts do not fit together"):
            load_agent(tmp_path / "bounds.pth")
    one_line_error(run("evaluate.py", "--model_path", str(tmp_path / "hostile.pth")), "hostile.pth")
    one_line_error(run("evaluate.py", "--model_path", str(tmp_path / "missing.pth")), "missing.pth")
    assert not list(tmp_path.glob("exploited"))
    assert not Path("exploited").exists()


def test_a_failed_run_leaves_the_earlier_model(trained: Path) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    done = run("train.py", *SMALL, "--output_dir", str(trained), "--learning_rate", "1e30", "--max_grad_norm", "1e30")
    one_line_error(done, "diverged")
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_explore_env_checks_what_it_prints(tmp_path: Path) -> None:
    done = run("explore_env.py", "--episodes", "20", "--output_dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"explore_env.png", "explore_env.json"}
    assert "threshold -3.75" in done.stdout
    one_line_error(run("explore_env.py", "--episodes", "0", "--output_dir", str(tmp_path)), "--episodes")
