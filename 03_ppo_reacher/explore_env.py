"""Explore Reacher-v5 before training: its spaces, its reward, and two baseline policies.

    python explore_env.py

The script checks every number before it prints it.
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from controllers import Policy, inverse_kinematics_controller, random_policy
from evaluation import HELD_OUT_SEED, evaluate_policy
from lab.errors import require_at_least
from lab.launch import launch
from lab.plots import BLUE, ORANGE, new_figure, save_figure
from lab.record import RunRecord
from lab.rendering import prepare_rendering
from lab.seeding import check_seed
from reacher_drawing import render_episodes

ENV_ID = "Reacher-v5"
OBSERVATION = (  # description, first index, end index
    ("cosine of the shoulder and elbow angles", 0, 2),
    ("sine of the shoulder and elbow angles", 2, 4),
    ("target x, y (meters)", 4, 6),
    ("angular velocity of shoulder, elbow (radians/s)", 6, 8),
    ("fingertip minus target x, y (meters)", 8, 10),
)


@dataclass(frozen=True)
class Config:
    """Explore Reacher-v5 and evaluate two baseline policies."""

    episodes: int = 100
    """Episodes per policy."""
    seed: int = HELD_OUT_SEED
    """Episode i is reset with seed + i."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the plot and the JSON record of the run."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "episodes")
        check_seed(self.seed)


def show_spaces(env: gym.Env, seed: int) -> None:
    """Print the observation and action spaces, with an initial observation as an example."""
    spec: Any = env.spec
    observation, _ = env.reset(seed=seed)
    assert env.observation_space.shape == (10,)
    assert env.action_space.shape == (2,)
    cosines = observation[:2]
    sines = observation[2:4]
    np.testing.assert_allclose(np.square(cosines) + np.square(sines), 1.0)
    length = f"{spec.max_episode_steps} steps per episode"
    print(f"{ENV_ID}: {length}, threshold {spec.reward_threshold}")
    print(f"actions      {env.action_space}: torque at shoulder and elbow")
    print(f"observation  {env.observation_space}, for example")
    for name, start, end in OBSERVATION:
        values = np.array2string(observation[start:end], precision=3, sign=" ")
        print(f"  [{start}:{end}]  {values:<18} {name}")


def show_reward(env: gym.Env, seed: int) -> None:
    """Print the two terms of one step's reward and check them against the formula."""
    env.reset(seed=seed)
    action = np.array([0.5, -0.3])
    observation, reward, _, _, info = env.step(action)
    distance = float(np.linalg.norm(observation[8:10]))  # fingertip and target have the same height
    control = float(np.square(action).sum())
    reward_terms = [info["reward_dist"], info["reward_ctrl"]]
    np.testing.assert_allclose(reward_terms, [-distance, -control], atol=1e-6)
    np.testing.assert_allclose(float(reward), -distance - control, atol=1e-6)
    terms = f"-{distance:.4f} (meters to the target) - {control:.4f} (sum of squared torques)"
    print(f"reward       {float(reward):.4f} = {terms}")


def show_end(env: gym.Env, seed: int) -> None:
    """Print how an episode ends and check that the time limit truncates it without termination."""
    env.reset(seed=seed)
    steps = 0
    terminated = False
    truncated = False
    while not (terminated or truncated):
        _, _, terminated, truncated, _ = env.step(np.zeros(2))
        steps += 1
    spec: Any = env.spec
    assert (steps, terminated, truncated) == (spec.max_episode_steps, False, True)
    reason = "truncated by the time limit, not terminated"
    print(f"end          step {steps}: {reason}; the next state's value counts")


def draw(
    path: Path,
    policies: dict[str, Policy],
    returns: dict[str, np.ndarray],
    seed: int,
) -> None:
    """Draw the last frame of one episode per policy, and histograms of all returns."""
    figure, axes = new_figure(width=10, height=3.6, columns=3)
    for ax, (name, policy) in zip(axes, policies.items(), strict=False):
        last_frame = render_episodes(policy, ENV_ID, seeds=[seed])[-1]
        ax.imshow(np.asarray(last_frame))
        ax.set_title(name)
        ax.axis("off")
    histogram = axes[2]
    episodes = len(next(iter(returns.values())))
    bins = np.linspace(min(values.min() for values in returns.values()), 0.0, 40)
    for (name, values), color in zip(returns.items(), (ORANGE, BLUE), strict=True):
        histogram.hist(values, bins=bins, color=color, label=f"{name}: mean {values.mean():.2f}")
    histogram.set(title=f"all {episodes} episodes", xlabel="return", ylabel="episodes")
    histogram.legend(loc="upper left")
    histogram.margins(y=0.35)
    save_figure(figure, path)


def evaluate_baselines(policies: dict[str, Policy], config: Config) -> dict[str, np.ndarray]:
    """Return each policy's returns (episodes,) on the same episodes, and print mean and spread."""
    returns = {}
    for name, policy in policies.items():
        values = evaluate_policy(policy, ENV_ID, config.episodes, config.seed).returns
        print(f"{name:<24} mean return {values.mean():8.2f}, standard deviation {values.std():.2f}")
        returns[name] = values
    return returns


def main(config: Config) -> None:
    """Print and check the environment, evaluate and draw the baselines, and write the record."""
    record = RunRecord(__file__, config.output_dir, config)
    env = gym.make(ENV_ID)
    show_spaces(env, config.seed)
    show_reward(env, config.seed)
    show_end(env, config.seed)
    space: Any = env.action_space
    policies = {
        "random": random_policy(space, config.seed),
        "inverse kinematics + PD": inverse_kinematics_controller(),
    }
    returns = evaluate_baselines(policies, config)
    draw(record.file("explore_env.png"), policies, returns, config.seed)
    means = {name: float(values.mean()) for name, values in returns.items()}
    controller_mean = means["inverse kinematics + PD"]
    assert controller_mean > means["random"], "the controller must beat the random policy"
    record.results = {"mean_returns": means, "episodes": config.episodes}
    record.check(
        "mean return of the hand-written controller",
        round(controller_mean, 2),
        "about -3.7",
        ok=-4.1 < controller_mean < -3.3,
    )
    record.save()


if __name__ == "__main__":
    prepare_rendering()
    launch(Config, main)
